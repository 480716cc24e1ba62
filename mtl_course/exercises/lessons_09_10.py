"""Exercises of lessons 09 (training on a GPU) and 10 (Pascal VOC)."""

import torch

from mtl_course.exercises import cases, engine


@engine.Check.on(lambda g: [cases.Case((4.0**k, k, ok, n)) for n in (2, 5) for k in range(n) for ok in (True, False)])
def next_loss_scale(scale, good, ok, interval):
    """You halved the scale after a bad step, doubled it after enough good ones, and counted anew after each change.

    - Your count goes on after a skipped step: only good steps in a row count, so it is 0 then.
    - Your count goes on after the scale was doubled, so the next doubling comes at the wrong time: set it to 0.
    - Your scale is not doubled by the step that completes the interval: the step at hand counts too, so compare
      good + 1 with the interval.
    - Your changes are exchanged: a bad step halves the scale, enough good ones double it.
    """
    s, n = (scale / 2, 0) if not ok else (2 * scale, 0) if good + 1 == interval else (scale, good + 1)
    return (s, n), (s, n if ok else good), (s, (good + 1) * ok), (scale, good + 1) if ok else (s, n), (scale**2 / s, n)


@engine.Check.on(lambda g: [cases.Case((n, b), "n = 0" * (n < 1)) for n, b in ((4, 0.3), (9, 0.5), (2, 0.9), (0, 0.9))])
def shares_in_the_mean(n, beta):
    """You let every later update shrink what is in the mean; the ramp lets go of the first weights soon.

    - You take β at every k ≥ 1, so the first weights stay in the mean for long: take min(β, (1 + k) / (10 + k)).
    - Your shares do not add up to 1: at k = 0 there is no mean yet, so β₀ = 0 and the first weights have all of it.
    - You take the larger of β and (1 + k) / (10 + k), so the mean soon stands still: take the smaller one.
    - Your newest weights stand first: the share of θ₀ comes first, that of θₙ last.
    - Your shares are those at their own update: each later update k leaves only the part βₖ of them.
    """
    ramp, later = torch.arange(1, n + 2) / torch.arange(10, n + 11), torch.arange(n + 1) > 0
    old = torch.stack([ramp.clamp(max=beta) * later, beta * later, ramp.clamp(max=beta), ramp.clamp(min=beta) * later])
    return *(w := torch.cat([old.flip(1).cumprod(1).flip(1), torch.ones(4, 1)], 1).diff()), w[0].flip(0), 1 - old[0]


@engine.Check.on(cases.of("R +", "R C", "R C +"))
def joint_statistics(n, means, variances):
    """You weighted by the counts, and added the variance within the parts to the variance between their means.

    - Your variance is the mean of the parts' variances: the parts' means differ too, so add the mean of (μᵣ - μ)².
    - All your parts count the same: weight each by its share of the pixels.
    - You take plain means of both: weight each part by its share of the pixels, and add the mean of (μᵣ - μ)².
    - Your variance is the mean of the squares of the pixels: take the square of their mean off, μ².
    """
    # In each pair the parts are weighted by n, then equally.
    (m, a), (v, b), (s, c) = (torch.stack([n / n.sum(), n**0 / len(n)]) @ x for x in (means, variances, means**2))
    return (m, v + s - m**2), (m, v), (a, b + c - a**2), (a, b), (m, v + s)


@engine.Check.on(lambda g: sorted((c for _ in range(4) for c in cases.of("K ?", "H W <K!")(g)), key=lambda c: c.label))
def kept_classes(kept, mask):
    """You counted the kept classes anew from 0, and set all other pixels to 255.

    - The classes that are not kept become class 0 of yours, and would be learned as such: set them to 255.
    - You keep the old ids: a kept class gets the number of kept classes before it.
    - Your new ids begin at 1: the first kept class is 0.
    """
    n, k = kept.cumsum(0) - 1, torch.arange(len(kept))
    return [x.where(kept, y)[mask % 255].where(mask < 255, 255) for x, y in ((n, 255), (n, 0), (k, 255), (n + 1, 255))]


@engine.Check.on(lambda g: [cases.Case((torch.randn(3, 16, 16, generator=g), shape)) for shape in ((24, 64), (31, 23))])
def cut_back(z, shape):
    """You cut the bars off on both sides, enlarged the scores, and decoded last.

    - You cut the bars off on the right and below only: they lie on both sides, so begin at (S - h) / 2, (S - w) / 2.
    - You enlarge the square with its bars, so the photograph is squeezed: cut the bars off first.
    - You exchange h and w: h, the rows, comes from H, the first number of `shape`.
    - Your mask has the steps of the small square: enlarge the scores bilinearly, decode last.
    """
    a, b = ((16 - round(16 * side / max(shape))) // 2 for side in shape)
    parts = z[:, a : 16 - a, b : 16 - b], z[:, : 16 - 2 * a, : 16 - 2 * b], z, z[:, b : 16 - b, a : 16 - a]
    return [torch.nn.Upsample(shape, mode=m)(x[None]).argmax(1)[0] for m in ("bilinear", "nearest") for x in parts]


TIE = cases.Case((torch.tensor([[[[0, 0.2, 3, 50]], [[0] * 4]]]), torch.tensor([[[0, 1] * 2]])), "confidence 0.5 or 1")


@engine.Check.on(lambda g: [*cases.of("B K H W", "B H W <K!")(g), TIE])
def calibration_error(logits, mask):
    """You compared confidence and share of right answers bin by bin, and weighted each bin by its pixels.

    - You compare pixel by pixel, where an answer is right or wrong but never 80 % right: first take means in
      each bin.
    - Too sure here and too unsure there cancel in your answer, as with one mean against one mean: take the size of
      the gap in each bin.
    - You count ignored pixels (255) as wrong answers: leave them out of the bins and of n.
    - Your answer is below 0 where the model is too sure: take the size of each bin's gap, without its sign.
    """
    gap = (logits.argmax(1) == mask).float() - (p := logits.softmax(1).amax(1))
    (d, s), (e, r) = ((gap[x], torch.bincount((10 * p[x]).int().clamp(max=9), gap[x])) for x in (mask < 255, mask >= 0))
    return s.abs().sum() / (len(d) or 1), d.abs().mean(), d.mean().abs(), r.abs().sum() / len(e), d.mean()
