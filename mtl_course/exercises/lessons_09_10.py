"""Exercises of lessons 09 (training on a GPU) and 10 (Pascal VOC)."""

import torch

from mtl_course import datasets, losses
from mtl_course.exercises import cases, engine


@engine.Check.on(lambda g: [cases.Case((*torch.randn(2, 5, generator=g), k, 0.5), "k=0" * (k < 1)) for k in (2, 9, 0)])
def mean_of_weights(mean, theta, k, beta):
    """You began with the first weights, let the share of the old mean grow to β, and gave the rest to the new weights.

    - You take β at every k, so the first weights stay in the mean for long: take min(β, (1 + k) / (10 + k)), and
      θ alone at k = 0.
    - Your shares are exchanged: the old mean gets βₖ, the new weights 1 - βₖ.
    - You take the larger of β and (1 + k) / (10 + k), so the mean soon stands still: take the smaller one.
    """
    share, large = ((k > 0) * either(beta, (1 + k) / (10 + k)) for either in (min, max))
    return [torch.lerp(theta, mean, x) for x in (share, beta, (k > 0) * (1 - share), large)]


@engine.Check.on(lambda g: [cases.Case((2.0**16, k, ok, n)) for n in (2, 5) for k in range(n) for ok in (True, False)])
def next_loss_scale(scale, good, finite, interval):
    """You halved the scale after a bad step, doubled it after enough good ones, and counted anew after each change.

    - Your count goes on after a skipped step: only good steps in a row count, so it is 0 then.
    - Your count goes on after the scale was doubled, so the next doubling comes at the wrong time: set it to 0.
    - Your scale is doubled one step too late: the step at hand counts too, so compare good + 1 with the interval.
    """
    s, n = (scale / 2, 0) if not finite else (2 * scale, 0) if good + 1 == interval else (scale, good + 1)
    return (s, n), (s, n if finite else good), (s, (good + 1) * finite), (scale, good + 1) if finite else (s, n)


@engine.Check.on(cases.of("M B K H W", "M B H W <K!"), gradient=True)
def accumulated_loss(logits, masks):
    """You divided the sum over all micro-batches by the count of all, so every valid pixel weighs the same.

    - You average the means of the micro-batches, so a pixel counts more where few are valid: divide each sum by the
      count of all.
    - You add the means of the micro-batches up: M of them make a step M times as long. Divide each sum by the count of
      all.
    - You divide by the number of all pixels: those of value 255 have no loss, so leave them out of the count.
    """
    means, n = torch.stack([losses.cross_entropy(*part) for part in zip(logits, masks)]), (masks != 255).sum((1, 2, 3))
    return (means * n).sum() / n.sum().clamp(min=1), means.mean(), means.sum(), (means * n).sum() / masks.numel()


@engine.Check.on(cases.of("R +", "R C", "R C +"))
def joint_statistics(counts, means, variances):
    """You weighed by the counts, and added the variance within the parts to the variance between their means.

    - Your variance is the mean of the parts' variances: the parts' means differ too, so add the mean of (μᵣ - μ)².
    - All your parts count the same: weigh each by its share of the pixels.
    """
    m, within, square = (counts / counts.sum() @ x for x in (means, variances, means**2))
    return (m, within + square - m**2), (m, within), (means.mean(0), variances.mean(0) + means.var(0, correction=0))


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
def cut_back(logits, shape):
    """You cut the bars off on both sides, enlarged the scores, and decoded last.

    - You cut the bars off on the right and below only: they lie on both sides, so begin at (S - h) / 2, (S - w) / 2.
    - You enlarge the square with its bars, so the photograph is squeezed: cut the bars off first.
    - You decode first, so the mask has the steps of the small square: enlarge the scores, then take the largest.
    """
    a, b = ((16 - side) // 2 for side in datasets.transforms.fitted_size(*shape, 16, augment=False))
    parts = logits[:, a : 16 - a, b : 16 - b], logits[:, : 16 - 2 * a, : 16 - 2 * b], logits
    return [torch.nn.Upsample(shape, mode=m)(x[None]).argmax(1)[0] for m in ("bilinear", "nearest") for x in parts]


@engine.Check.on(cases.of("B K H W", "B H W <K!"))
def calibration_error(logits, mask):
    """You compared confidence and share of right answers bin by bin, and weighed each bin by its pixels.

    - You compare pixel by pixel, where an answer is right or wrong but never 80 % right: first take means in
      each bin.
    - You compare one mean with one mean, so too sure here and too unsure there cancel: compare within each bin.
    """
    p, t = (x[mask != 255] for x in (logits.softmax(1).amax(1), (logits.argmax(1) == mask).float()))
    return torch.bincount((10 * p).int(), t - p).abs().sum() / (len(p) or 1), (t - p).abs().mean(), (t - p).mean().abs()
