"""Exercises of lessons 07 (does sharing help?) and 08 (transfer or multi-task)."""

import torch

from mtl_course.exercises import cases
from mtl_course.exercises.engine import Case, Check

P = (0.02, 0.049, 0.008, 0.024, 0.011), (0.03, 0.012, 0.04, 0.016), (0.04, 0.03)  # for `holm`


@Check.on(cases.of("S", "S", "+"))
def paired_interval(shared, single, t):
    """You took the differences seed by seed, so the luck that both arms share drops out, and used n - 1 and √n.

    - Your interval forgets the pairs, it adds the variances of both arms: take the differences first, then their
      standard deviation.
    - Your standard deviation divides by n: with few seeds that is too small, divide by n - 1.
    - Your interval runs the other way round: the difference is shared - single, so that + says that sharing helps.
    """
    d, ends = shared - single, t * torch.tensor([-1, 1]) / len(shared) ** 0.5
    spreads = d.std(), (shared.var() + single.var()).sqrt(), d.std(correction=0)
    return [*(tuple(d.mean() + ends * s) for s in spreads), tuple(ends * d.std() - d.mean())]


@Check.on(lambda g: [Case((torch.randn(n, generator=g), k)) for n, k in ((5, 2), (4, 3), (3, 1))])
def expected_best(scores, k):
    """You averaged the best of k trials over all ways to draw them, so two arms can be compared at equal effort.

    - You draw without putting back: each of the k draws may be any of the n trials, one may come twice.
    - Your answer is the best of the first k, which hangs on the order of the trials: average over all draws.
    - Your answer is the expected worst of k: the largest score has the largest weight, so sort from small to large.
    """
    draws, apart = torch.cartesian_prod(*[scores] * k).view(-1, k), torch.combinations(scores, k)
    return draws.amax(1).mean(), apart.amax(1).mean(), scores[:k].max(), draws.amin(1).mean()


@Check.on(lambda g: [Case((torch.randint(-9, 10, (n,), generator=g).float().tolist(),)) for n in (5, 6, 4, 2)])
def sign_flip(d):
    """You tried all 2^n signs and assumed no normal distribution; five seeds cannot give a p below 2/32.

    - Your p counts one side only: a mean as far on the other side of 0 counts too, so compare the sizes.
    - Your p leaves out the ties, and with them the signs as they were found: count what is at least as far (>=).
    - Your p is the share of ways that lie nearer to 0 than what was found: count those at least as far.
    """
    sums, own = torch.cartesian_prod(*[torch.tensor([-1.0, 1])] * len(d)) @ torch.tensor(d), abs(sum(d))
    return [x.double().mean() for x in (abs(sums) >= own, sums >= sum(d), abs(sums) > own, abs(sums) < own)]


@Check.on(lambda g: [Case(([x - torch.rand((), generator=g).item() / 2000 for x in p],)) for p in P])
def holm(p):
    """You gave each p a bound by how many are left, and stopped at the first that fails: all still hold with 95 %.

    - You test each p against 0.05 / m, which is Bonferroni: after one that is shown fewer are left, divide by those.
    - You go on after the first p that fails: from there on nothing is shown, even what lies below its own bound.
    - Your answers stand in the order of the sorted p: put each back to the place of its setting.
    """
    shown = [all(y * sum(z >= y for z in p) < 0.05 for y in p if y <= x) for x in p]
    return shown, [x < 0.05 / len(p) for x in p], [x * sum(y >= x for y in p) < 0.05 for x in p], sorted(shown)[::-1]


@Check.on(cases.of("B H W <K", "B H W <K", "B H W <K!"))
def forgotten(old, new, truth):
    """You compared both answers with the truth: only what was right can be forgotten, and no pixel without a truth.

    - Your map shows every change: a pixel that was wrong before cannot be forgotten, so compare with the truth.
    - Your map shows all that is wrong now: some of it was wrong before, and ignored pixels (255) have no truth.
    - Your map shows what was learned (wrong, then right): forgotten is right in `old` and wrong in `new`.
    """
    return (old == truth) & (new != truth), old != new, new != truth, (old != truth) & (new == truth)


@Check.on(cases.of("B C H W", "C", "C +", "p"))
def running_statistics(x, mean, var, m):
    """You moved both statistics towards the batch by the share m; it takes no gradient, so freezing does not stop it.

    - You took m and 1 - m the other way round: the new batch counts m, the past 1 - m.
    - Your batch variance divides by N: the running one divides by N - 1, N = B H W.
    """
    answers = (x.var((0, 2, 3)), m), (x.var((0, 2, 3)), 1 - m), (x.var((0, 2, 3), correction=0), m)
    return [(mean.lerp(x.mean((0, 2, 3)), share), var.lerp(spread, share)) for spread, share in answers]


@Check.on(cases.of("B K H W", "B K H W", "+"), gradient=True)
def distillation(new, old, T):
    """You softened both by T, took the old answers as they are, and T² keeps the gradient's size as T grows.

    - Your loss lacks the factor T²: without it the gradient shrinks as T grows.
    - Your gradient flows into the old answers too: they are what is to be kept, so cut them off with detach().
    - Your divergence runs the other way round: the old probabilities q stand before the logarithm of q / p.
    """
    p, q, c = (new / T).softmax(1), (old / T).softmax(1), (old / T).softmax(1).detach()
    return [f * (a * (a / b).log()).sum(1).mean() for a, b, f in ((c, p, T**2), (c, p, 1), (q, p, T**2), (p, c, T**2))]
