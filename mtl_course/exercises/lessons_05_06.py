"""Exercises of lessons 05 (sharing) and 06 (balancing)."""

from functools import reduce

from torch import einsum, eye, inf, nan, ones, stack, tensor, zeros

from mtl_course.exercises import Check, cases


@Check.on(cases.of("+", "T +"))
def times_cheaper(trunk, heads):
    """You paid the trunk T times for T networks and once for one network, and every head once for either.

    - Your answer is T, as if heads were free: T networks have one head each, but one network has all T of them.
    - Your ratio is upside down: divide the cost of T networks by that of one network.
    - Your answer is the share that is saved: write how many times cheaper, the ratio of the two costs.
    """
    return (r := (len(heads) * trunk + heads.sum()) / (trunk + heads.sum())), len(heads), 1 / r, 1 - 1 / r


@Check.on(lambda g: [*cases.of("T B C H W", "p")(g), *cases.of("3 B 2 H W", "p")(g)])
def cross_stitched(x, own):
    """You gave each task `own` of its old features and the rest of the weight to the mean of the others' old features.

    - Your other trunks count 1 - own each: they share it, so divide their sum by T - 1.
    - Your mean holds the task's own features too, which then count more than `own`: subtract them from the sum.
    - Your weights do not sum to 1: there are T - 1 other trunks, and you divide by T.
    - Your later tasks read features that are mixed already: read all tasks from x, and write into a new tensor.
    """
    # Each y is a view of z: the tasks after it see it mixed.
    late = stack([y.lerp_((z.sum(0) - y) / ((T := len(x)) - 1), 1 - own) for z in [x.clone()] for y in z])
    return [x.lerp((x.sum(0) - k * x) / n, 1 - own) for k, n in ((1, T - 1), (1, 1), (0, T), (1, T))] + [late]


@Check.on(cases.of("B C H W", "T C C"), gradient=True)
def attended(z, W):
    """You made a mask of each task from all channels of a pixel, each number in [0, 1], and read z through it.

    - Your answer is the mask: multiply the features z by it, number by number.
    - Your mask sums to 1 over the channels, a softmax: a sigmoid opens each channel by itself.
    - Your mask sums to 1 over the tasks, so that one task shuts what another opens: take a sigmoid.
    - Your W is transposed: the sum runs over the last index of W, the channel c that is read.
    - Your answer carries z on, beside what the mask lets through: it is the product alone.
    """
    a, turned = (einsum(f"t{axes},bchw->tbdhw", W, z) for axes in ("dc", "cd"))
    return a.sigmoid() * z, a.sigmoid(), a.softmax(2) * z, a.softmax(0) * z, turned.sigmoid() * z, z + a.sigmoid() * z


@Check.on(cases.of("T N B p"), gradient=True)
def expert_balance(a):
    """You added the weights over tasks and pictures first, so a gate may be sharp as long as every expert has work.

    - Your Ω judges each task alone, and forbids that a task has an expert of its own: sum over the tasks first.
    - Your Ω judges each picture alone, and pulls every gate to equal weights: sum over tasks and pictures first.
    - Your Ω compares pictures: the load is one number for each expert, so do not sum over the axis of the experts.
    - Your variance divides by N - 1, as `var()` does alone: divide by N, with `correction=0`.
    - Your Ω is the standard deviation over the mean: take the square, the variance over the squared mean.
    - Your Ω is the variance itself, and grows with the number of pictures: divide it by the squared mean load.
    """
    r = [(x / x.mean(1, True) - 1).square().mean() for x in (a.sum((0, 2), True), a.sum(2), a, a.sum((0, 1))[None])]
    return *r, r[0] * a.shape[1] / (a.shape[1] - 1), r[0].sqrt(), r[0] * a.sum((0, 2)).mean() ** 2


@Check.on(lambda g: [*cases.of("K N", "K")(g), *cases.of("5 4", "5")(g), cases.Case((zeros(2, 3), ones(2)), "J = 0")])
def harmed(J, alpha):
    """You asked of each task whether its own gradient points against the step d.

    - Your step is the plain sum: weight the gradients by α.
    - Your answer asks whether two gradients conflict: what counts is each gradient against the step d.
    - Your sign is turned: a step goes along -d, so a loss grows where its gradient and d have a negative product.
    """
    return J @ (alpha @ J) < 0, J @ J.sum(0) < 0, (J @ J.T < 0).any(1), J @ (alpha @ J) > 0


@Check.on(lambda g: [*cases.of("K +", "K")(g), cases.Case((tensor([nan, 0, 2]), ones(3)), "NaN in L")], gradient=True)
def uncertainty_weighted(L, s):
    """You weighted each loss by ½e⁻ˢ, paid ½s for it, and left out a task without labels, in value and gradient.

    - Your value is right, and the gradient of s is NaN, because 0 · NaN is NaN: choose the tasks before you multiply.
    - Your loss lacks the ½s: without this price s grows for ever, and every weight goes to 0.
    - Your loss pays ½s for a task without labels too: its s then falls at every such batch. Leave it out.
    - Your weight grows with s: it is exp(-s), with a minus, so that a task with large s counts less.
    """
    w, L0, there = (-s).exp(), L.nan_to_num(), ~L.isnan()
    return [x.sum() / 2 for x in ((w * L0 + s)[there], (w * L + s)[there], w * L0, w * L0 + s, (L0 / w + s)[there])]


@Check.on(lambda g: [*cases.of("N", "K N")(g), *cases.of("3", "5 3")(g)])
def projected(g, rest):
    """You took from p what works against one gradient after another, as p stands by then, and nothing else.

    - Your p loses its part along every gradient: take it away only where the product is negative.
    - Your products are all those of g: use p as it stands after the gradients before.
    - Your p loses too much or too little: divide by the squared length of the other gradient, and not by its length.
    """
    # Of each product p · o at most c is taken away, over the length to the power n.
    p = [reduce(lambda p, o: p - min(p @ o, c) / o.norm() ** n * o, rest, g) for c, n in ((0, 2), (inf, 2), (0, 1))]
    return p[0], p[1], g - ((rest @ g).clamp(max=0) / rest.square().sum(1)) @ rest, p[2]


STEPS = ("K N", "K +"), ("5 4", "5 +"), ("K 1 +", "K +")  # gradients, and α before it is scaled to the sum 1


@Check.on(lambda g: [cases.Case((J, a / a.sum())) for specs in STEPS for (J, a), _ in cases.of(*specs)(g)])
def frank_wolfe(J, alpha):
    """You moved d towards the gradient that it serves least, as far as it gets shorter, and not past the tip.

    - Your step goes past the tip: cut γ off to [0, 1], or some α become negative.
    - Your γ and 1 - γ are exchanged: γ = 1 is the tip of the chosen gradient.
    - Your α does not move: choose the smallest product with d (argmin), and look at the sign of γ.
    """
    step = -((to := eye(len(J))[(J @ (alpha @ J)).argmin()] - alpha) @ J @ (alpha @ J)) / (to @ J).square().sum()
    return [alpha + by * to for by in (step.clamp(0, 1), step, 1 - step.clamp(0, 1), 0)]
