"""Answers to the exercises of lessons 09 and 10."""

import math

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel
from torchmetrics.functional.classification import multiclass_calibration_error
from torchvision.transforms.v2.functional import center_crop

from answers import right, wrong
from mtl_course.datasets.transforms import fitted_size, resize
from mtl_course.training.descent import _mean_of

# next_loss_scale


@right("next_loss_scale")
def as_torch_does_it(scale, good, finite, interval):
    scale, good = torch.tensor(float(scale)), torch.tensor(good, dtype=torch.int32)
    torch._amp_update_scale_(scale, good, torch.tensor(float(not finite)), 2.0, 0.5, interval)
    return scale.item(), good.item()


@right("next_loss_scale")
def count_first(scale, good, finite, interval):
    good = good + 1 if finite else 0
    if not finite:
        scale /= 2
    elif good >= interval:
        scale, good = 2 * scale, 0
    return scale, good


@wrong("next_loss_scale", "Your count goes on after a skipped step")
def counts_on(scale, good, finite, interval):
    if not finite:
        return scale / 2, good
    if good + 1 == interval:
        return scale * 2, 0
    return scale, good + 1


@wrong("next_loss_scale", "Your count goes on after the scale was doubled")
def never_reset(scale, good, finite, interval):
    if not finite:
        return scale / 2, 0
    good += 1
    return (scale * 2 if good % interval == 0 else scale), good


@wrong("next_loss_scale", "not doubled by the step that completes the interval")
def too_late(scale, good, finite, interval):
    if not finite:
        return scale / 2, 0
    if good == interval:
        return scale * 2, 0
    return scale, good + 1


@wrong("next_loss_scale", "another answer is expected")
def never_below_one(scale, good, finite, interval):
    if not finite:
        return max(scale / 2, 1.0), 0
    return (2 * scale, 0) if good + 1 == interval else (scale, good + 1)


@wrong("next_loss_scale", "Your changes are exchanged")
def up_and_down_exchanged(scale, good, finite, interval):
    if not finite:
        return scale * 2, 0
    if good + 1 == interval:
        return scale / 2, 0
    return scale, good + 1


@wrong("next_loss_scale", "Your function stopped")
def takes_steps_for_a_tensor(scale, good, finite, interval):
    return torch.where(finite.all(), scale, scale / 2), good + 1


# shares_in_the_mean


@right("shares_in_the_mean")
def step_by_step(n, beta):
    shares = [1.0]
    for k in range(1, n + 1):
        old = min(beta, (1 + k) / (10 + k))
        shares = [old * share for share in shares] + [1 - old]
    return torch.tensor(shares)


@right("shares_in_the_mean")
def means_of_unit_vectors_as_fit_takes_them(n, beta):
    weights = torch.eye(n + 1)
    model = torch.nn.ParameterList([weights[0].clone()])
    averaged = AveragedModel(model, multi_avg_fn=_mean_of(beta))
    for now in weights:
        model[0].data.copy_(now)
        averaged.update_parameters(model)
    return averaged.module[0].detach()


@right("shares_in_the_mean")
def by_products(n, beta):
    old = [0.0] + [min(beta, (1 + k) / (10 + k)) for k in range(1, n + 1)]
    return torch.tensor([(1 - old[j]) * math.prod(old[j + 1 :]) for j in range(n + 1)])


@wrong("shares_in_the_mean", "take β at every k")
def no_warm_up(n, beta):
    shares = [beta**n] + [(1 - beta) * beta ** (n - j) for j in range(1, n + 1)]
    return torch.tensor(shares)


@wrong("shares_in_the_mean", "do not add up to 1")
def no_first(n, beta):
    shares = []
    for k in range(n + 1):
        old = min(beta, (1 + k) / (10 + k))
        shares = [old * share for share in shares] + [1 - old]
    return torch.tensor(shares)


@wrong("shares_in_the_mean", "take the smaller one")
def larger(n, beta):
    shares = torch.ones(1)
    for k in range(1, n + 1):
        old = max(beta, (1 + k) / (10 + k))
        shares = torch.cat([old * shares, torch.tensor([1 - old])])
    return shares


@wrong("shares_in_the_mean", "newest weights stand first")
def newest_first(n, beta):
    shares, left = [], 1.0
    for k in range(n, 0, -1):
        old = min(beta, (1 + k) / (10 + k))
        shares.append(left * (1 - old))
        left *= old
    return torch.tensor(shares + [left])


@wrong("shares_in_the_mean", "those at their own update")
def nothing_shrinks_later(n, beta):
    return torch.tensor([1.0] + [1 - min(beta, (1 + k) / (10 + k)) for k in range(1, n + 1)])


@wrong("shares_in_the_mean", "Mismatched elements")
def exchanged(n, beta):
    shares = torch.zeros(n + 1)
    shares[0] = 1
    for k in range(1, n + 1):
        old = min(beta, (1 + k) / (10 + k))
        shares = (1 - old) * shares
        shares[k] = old
    return shares


@wrong("shares_in_the_mean", "not for n = 0")
def at_least_one_update(n, beta):
    old = torch.tensor([min(beta, (1 + k) / (10 + k)) for k in range(1, n + 1)])
    left = old.flip(0).cumprod(0).flip(0)
    later = torch.cat([left[1:], torch.ones(1)]) * (1 - old)
    return torch.cat([left[:1], later])


@wrong("shares_in_the_mean", "([4]), expected ([5])")
def without_the_first(n, beta):
    old = torch.tensor([min(beta, (1 + k) / (10 + k)) for k in range(1, n + 1)])
    return torch.stack([(1 - old[j]) * old[j + 1 :].prod() for j in range(n)] or [torch.ones(())])


# joint_statistics


@right("joint_statistics")
def within_and_between(counts, means, variances):
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0)


@right("joint_statistics")
def two_sums(counts, means, variances):
    n, total, squares = 0.0, 0.0, 0.0
    for count, mean, variance in zip(counts, means, variances):
        n, total = n + count, total + count * mean
        squares = squares + count * (variance + mean.square())
    return total / n, squares / n - (total / n).square()


@right("joint_statistics")
def merge_one_after_the_other(counts, means, variances):
    n, mean, spread = counts[0], means[0], counts[0] * variances[0]
    for count, other, variance in zip(counts[1:], means[1:], variances[1:]):
        gap, whole = other - mean, n + count
        spread = spread + count * variance + gap**2 * n * count / whole
        n, mean = whole, mean + gap * count / whole
    return mean, spread / n


@wrong("joint_statistics", "the mean of the parts' variances")
def only_within(counts, means, variances):
    share = counts / counts.sum()
    return torch.einsum("r,rc->c", share, means), torch.einsum("r,rc->c", share, variances)


@wrong("joint_statistics", "All your parts count the same")
def not_weighted(counts, means, variances):
    mean = means.mean(0)
    return mean, (variances + (means - mean) ** 2).mean(0)


@wrong("joint_statistics", "changes its arguments")
def shares_in_place(counts, means, variances):
    counts /= counts.sum()
    mean = counts @ means
    return mean, counts @ (variances + (means - mean) ** 2)


@wrong("joint_statistics", "You take plain means of both")
def plain_means(counts, means, variances):
    return means.mean(0), variances.mean(0)


@wrong("joint_statistics", "Mismatched elements")
def mean_alone_weighted(counts, means, variances):
    return counts @ means / counts.sum(), variances.mean(0)


@wrong("joint_statistics", "the mean of the squares of the pixels")
def squares_without_the_mean(counts, means, variances):
    share = (counts / counts.sum())[:, None]
    return (share * means).sum(0), (share * (variances + means**2)).sum(0)


@wrong("joint_statistics", "Its shape is")
def one_axis_too_many(counts, means, variances):
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(0, keepdim=True)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0, keepdim=True)


# kept_classes


@right("kept_classes")
def one_after_the_other(kept, mask):
    new, number = torch.full_like(mask, 255), 0
    for k, stays in enumerate(kept.tolist()):
        if stays:
            new[mask == k] = number
            number += 1
    return new


@right("kept_classes")
def by_search(kept, mask):
    ids = kept.nonzero().flatten()
    same = mask[..., None] == ids
    return same.int().mul(torch.arange(1, len(ids) + 1, device=mask.device)).sum(-1).sub(1).where(same.any(-1), 255)


@wrong("kept_classes", "become class 0 of yours")
def rest_is_background(kept, mask):
    new = torch.zeros_like(mask)
    for number, k in enumerate(kept.nonzero().flatten().tolist()):
        new[mask == k] = number
    new[mask == 255] = 255
    return new


@wrong("kept_classes", "keep the old ids")
def old_ids(kept, mask):
    new = mask.clone()
    for k in range(len(kept)):
        if not kept[k]:
            new[mask == k] = 255
    return new


@wrong("kept_classes", "begin at 1")
def from_one(kept, mask):
    new = torch.full_like(mask, 255)
    for number, k in enumerate(kept.nonzero().flatten(), start=1):
        new[mask == k] = number
    return new


@wrong("kept_classes", "out of bounds")
def table_without_255(kept, mask):
    table = torch.where(kept, kept.cumsum(0) - 1, 255)
    return table[mask]


@wrong("kept_classes", "changes its arguments")
def in_the_mask_itself(kept, mask):
    number = 0
    for k in range(len(kept)):
        mask[mask == k] = number if kept[k] else 255
        number += int(kept[k])
    return mask


# cut_back


@right("cut_back")
def by_interpolate(logits, shape):
    size = logits.shape[-1]
    rows, columns = (round(side * size / max(shape)) for side in shape)
    top, left = (size - rows) // 2, (size - columns) // 2
    inner = logits[None, :, top : top + rows, left : left + columns]
    return F.interpolate(inner, size=shape, mode="bilinear").argmax(1)[0]


@right("cut_back")
def by_center_crop(logits, shape):
    fitted = fitted_size(*shape, logits.shape[2], augment=False)
    return resize(center_crop(logits, list(fitted)), shape).max(0).indices


@wrong("cut_back", "on the right and below only")
def corner(logits, shape):
    rows, columns = fitted_size(*shape, logits.shape[2], augment=False)
    return F.interpolate(logits[None, :, :rows, :columns], shape, mode="bilinear")[0].argmax(0)


@wrong("cut_back", "squeezed")
def with_bars(logits, shape):
    return F.interpolate(logits[None], shape, mode="bilinear")[0].argmax(0)


@wrong("cut_back", "the steps of the small square")
def decoded_first(logits, shape):
    size = logits.shape[-1]
    rows, columns = (round(side * size / max(shape)) for side in shape)
    top, left = (size - rows) // 2, (size - columns) // 2
    ids = logits.argmax(0)[top : top + rows, left : left + columns]
    return F.interpolate(ids[None, None].float(), shape, mode="nearest")[0, 0].long()


@wrong("cut_back", "Its shape is")
def not_enlarged(logits, shape):
    fitted = fitted_size(*shape, logits.shape[2], augment=False)
    return center_crop(logits, list(fitted)).argmax(0)


@wrong("cut_back", "expected torch.int64")
def scores_alone(logits, shape):
    fitted = fitted_size(*shape, logits.shape[2], augment=False)
    return resize(center_crop(logits, list(fitted)), shape).amax(0)


@wrong("cut_back", "Mismatched elements")
def corners_aligned(logits, shape):
    size = logits.shape[-1]
    rows, columns = (round(side * size / max(shape)) for side in shape)
    top, left = (size - rows) // 2, (size - columns) // 2
    inner = logits[None, :, top : top + rows, left : left + columns]
    return F.interpolate(inner, shape, mode="bilinear", align_corners=True)[0].argmax(0)


@wrong("cut_back", "You exchange h and w")
def sides_exchanged(logits, shape):
    size = logits.shape[-1]
    columns, rows = (round(side * size / max(shape)) for side in shape)
    top, left = (size - rows) // 2, (size - columns) // 2
    inner = logits[None, :, top : top + rows, left : left + columns]
    return F.interpolate(inner, size=shape, mode="bilinear").argmax(1)[0]


# calibration_error


@right("calibration_error")
def bin_by_bin(logits, mask):
    p = logits.softmax(1)
    confidence, answer = p.max(1)
    total, valid = 0.0, mask != 255
    for m in range(10):
        inside = valid & (confidence >= m / 10) & ((confidence < (m + 1) / 10) | (m == 9))
        if inside.any():
            gap = (answer == mask)[inside].double().mean() - confidence[inside].double().mean()
            total = total + inside.sum() / valid.sum() * gap.abs()
    return float(total)


@right("calibration_error")
def as_torchmetrics_does_it(logits, mask):
    if (mask == 255).all():
        return torch.zeros((), device=mask.device)
    p = logits.softmax(1).clamp(max=1 - 1e-6)  # torchmetrics has a bin of its own for a confidence of 1
    return multiclass_calibration_error(p, mask, p.shape[1], n_bins=10, norm="l1", ignore_index=255)


@wrong("calibration_error", "compare pixel by pixel")
def without_bins(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    return (confidence - (answer == mask).float()).abs()[valid].mean()


@wrong("calibration_error", "Too sure here and too unsure there cancel")
def one_bin(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    return (confidence[valid].mean() - (answer == mask)[valid].float().mean()).abs()


@wrong("calibration_error", "below 0 where the model is too sure")
def with_signs(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    gap = ((answer == mask).float() - confidence)[valid]
    number = (10 * confidence[valid]).long().clamp(max=9)
    return sum(gap[number == m].sum() for m in range(10)) / max(len(gap), 1)


@wrong("calibration_error", "For inputs")
def bins_count_the_same(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    gap, number = ((answer == mask).float() - confidence)[valid], (10 * confidence[valid]).long().clamp(max=9)
    gaps = [gap[number == m].mean().abs() for m in range(10) if (number == m).any()]
    return sum(gaps) / max(len(gaps), 1)


@wrong("calibration_error", "not for confidence 0.5 or 1")
def closed_on_the_right(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    gap, number = ((answer == mask).float() - confidence)[valid], (10 * confidence[valid]).ceil()
    return sum(gap[number == m].sum().abs() for m in range(1, 11)) / max(len(gap), 1)


@wrong("calibration_error", "ignored pixels (255) as wrong answers")
def ignored_is_wrong(logits, mask):
    confidence, answer = logits.softmax(1).max(1)
    return (
        sum((confidence - (answer == mask).float())[(10 * confidence).long() == m].sum().abs() for m in range(10))
        / mask.numel()
    )


@wrong("calibration_error", "not for all pixels ignored")
def divided_by_none(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    gap = (confidence - (answer == mask).float())[valid]
    sums = gap.new_zeros(10).index_add(0, (10 * confidence[valid]).long(), gap)
    return sums.abs().sum() / valid.sum()


@wrong("calibration_error", "not on a GPU")
def edges_on_the_cpu(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    number = torch.bucketize(confidence, torch.linspace(0, 1, 11)[1:-1], right=True)
    gap = ((answer == mask).float() - confidence) * valid
    return sum(gap[number == m].sum().abs() for m in range(10)) / valid.sum().clamp(min=1)
