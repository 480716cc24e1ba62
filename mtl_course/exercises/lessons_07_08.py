"""Exercises of lessons 07 (does sharing help?) and 08 (transfer or multi-task)."""

import torch

from mtl_course.exercises import cases, engine


@engine.Check.on(cases.of("S", "S", "+"))
def paired_interval(shared, single, t):
    """You took the differences seed by seed, so the luck that both arms share drops out, and used n - 1 and √n.

    - Your interval forgets the pairs, it adds the variances of both arms: take the differences first, then their
      standard deviation.
    - Your standard deviation divides by n: with few seeds that is too small, divide by n - 1.
    - Your interval lacks √n: d.std() is how far one seed spreads, the mean of n seeds spreads √n times less.
    - You give the upper end first: the pair is (low, high).
    - Your interval runs the other way round: the difference is shared - single, so that + says that sharing helps.
    - You give the mean and the half width: the ends are mean - half width and mean + half width.
    """
    d, pm = shared - single, t * torch.tensor([-1, 1]) / len(shared) ** 0.5
    spreads = d.std(), (shared.var() + single.var()).sqrt(), d.std(correction=0), d.std() * len(d) ** 0.5, -d.std()
    return [*(tuple(d.mean() + pm * s) for s in spreads), tuple(pm * d.std() - d.mean()), (d.mean(), pm[1] * d.std())]


@engine.Check.on(lambda g: [cases.Case((torch.randn(n, generator=g), k)) for n, k in 4 * ((5, 2), (4, 3), (3, 1))])
def expected_best(scores, k):
    """You averaged the best of k trials over all ways to draw them, so two arms can be compared at equal effort.

    - You draw without putting back: each of the k draws may be any of the n trials, one may come twice.
    - Your answer is the best of the first k, which hangs on the order of the trials: average over all draws.
    - Your answer is the expected worst of k: the largest score has the largest weight, so sort from small to large.
    - Your answer is the best of all n trials, whatever k is: k draws may miss it, so average over all draws.
    - Your weights stand in the order of the trials: sort the scores first, the largest has the largest weight.
    """
    up, apart = torch.linspace(0, 1, len(scores) + 1).pow(k).diff(), torch.combinations(scores, k).amax(1).mean()
    return up @ scores.sort()[0], apart, scores[:k].max(), up.flip(0) @ scores.sort()[0], scores.max(), up @ scores


@engine.Check.on(lambda g: [cases.Case((torch.randn(n, generator=g).mul(9).round().tolist(),)) for n in (6, 6, 5, 2)])
def sign_flip(d):
    """You tried all 2^n signs and assumed no normal distribution; five seeds cannot give a p below 2/32.

    - Your p counts one side only: a mean as far on the other side of 0 counts too, so compare the sizes.
    - Your p leaves out the ties, and with them the signs as they were found: count what is at least as far (>=).
    - Your p is the share of ways that lie nearer to 0 than what was found: count those at least as far.
    """
    sums, own = torch.cartesian_prod(*[torch.tensor([-1.0, 1])] * len(d)) @ torch.tensor(d), abs(sum(d))
    return [x.double().mean() for x in (abs(sums) >= own, sums >= sum(d), abs(sums) > own, abs(sums) < own)]


@engine.Check.on(cases.of("B H W <K", "B H W <K", "B H W <K!"))
def forgotten(old, new, truth):
    """You compared both answers with the truth: only what was right can be forgotten, and no pixel without a truth.

    - Your map shows every change of the answer: a pixel that was wrong before cannot be forgotten, so compare both
      with the truth.
    - Your map shows every change where a truth is known: what was wrong before cannot be forgotten.
    - Your map shows all that is wrong now, and ignored pixels (255) too: they have no truth, and some pixels were
      wrong before.
    - Your map shows all that is wrong where a truth is known: some of it was wrong before, so look at `old` too.
    - Your map shows what was learned (wrong, then right): forgotten is right in `old` and wrong in `new`.
    """
    was, now, known = old == truth, new == truth, truth != 255
    return was & ~now, old != new, (old != new) & known, ~now, ~now & known, now & ~was


@engine.Check.on(cases.of("B C H W", "C", "C +", "p"))
def running_statistics(x, mean, var, m):
    """You moved both statistics towards the batch by the share m; it takes no gradient, so freezing does not stop it.

    - You took m and 1 - m the other way round: the new batch counts m, the past 1 - m.
    - Your batch variance divides by N: the running one divides by N - 1, N = B H W.
    - Your variance is the mean of the pictures' own: the pictures' means differ too, so take all N values together.
    """
    answers = (x.var((0, 2, 3)), m), (x.var((0, 2, 3)), 1 - m), (x.var((0, 2, 3), False), m), (x.var((2, 3)).mean(0), m)
    return [(mean.lerp(x.mean((0, 2, 3)), share), var.lerp(spread, share)) for spread, share in answers]


@engine.Check.on(cases.of("B K H W", "B K H W", "+"), gradient=True)
def distillation(new, old, T):
    """You softened both by T, took the old answers as they are, and T² keeps the gradient's size as T grows.

    - Your loss lacks the factor T²: without it the gradient shrinks as T grows.
    - Your gradient flows into the old answers too: they are what is to be kept, so cut them off with detach().
    - Your divergence runs the other way round: the old probabilities q stand before the logarithm of q / p.
    - Your mean divides by the K classes too (`F.kl_div` does so with "mean"): sum over them, then take the mean.
    - Your sum is divided by B alone (`F.kl_div` does so with "batchmean"), so it grows with the picture: divide by
      B H W.
    """
    p, q, c = ((x / T).softmax(1) for x in (new, old, old.detach()))
    right, both, turned = (T**2 * (a * (a / b).log()).sum(1).mean() for a, b in ((c, p), (q, p), (p, c)))
    return right, right / T**2, both, turned, right / new.shape[1], right * new[0, 0].numel()
