"""Answers to the exercises of lessons 09 and 10."""

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel
from torchmetrics.functional.classification import multiclass_calibration_error
from torchvision.transforms.v2.functional import center_crop

from answers import right, wrong
from mtl_course import losses
from mtl_course.datasets.transforms import fitted_size, resize
from mtl_course.training.descent import _mean_of

# mean_of_weights


@right("mean_of_weights")
def by_one_difference(mean, theta, k, beta):
    share = 0.0 if k == 0 else min(beta, (1 + k) / (10 + k))
    return theta + share * (mean - theta)


@right("mean_of_weights")
def as_fit_does_it(mean, theta, k, beta):
    model = torch.nn.ParameterList([theta.clone()])
    averaged = AveragedModel(model, multi_avg_fn=_mean_of(beta))
    averaged.module[0].data.copy_(mean)
    averaged.n_averaged.fill_(k)
    averaged.update_parameters(model)
    return averaged.module[0].detach()


@wrong("mean_of_weights", "take β at every k")
def no_warm_up(mean, theta, k, beta):
    return beta * mean + (1 - beta) * theta


@wrong("mean_of_weights", "shares are exchanged")
def exchanged(mean, theta, k, beta):
    if k == 0:
        return theta
    share = min(beta, (1 + k) / (10 + k))
    return share * theta + (1 - share) * mean


@wrong("mean_of_weights", "take the smaller one")
def larger(mean, theta, k, beta):
    share = max(beta, (1 + k) / (10 + k)) if k else 0
    return mean * share + theta * (1 - share)


@wrong("mean_of_weights", "not for k=0")
def no_first(mean, theta, k, beta):
    share = min(beta, (1 + k) / (10 + k))
    return share * mean + (1 - share) * theta


@wrong("mean_of_weights", "changes its arguments")
def in_place(mean, theta, k, beta):
    share = min(beta, (1 + k) / (10 + k)) if k else 0
    return mean.mul_(share).add_(theta, alpha=1 - share)


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


@wrong("next_loss_scale", "one step too late")
def too_late(scale, good, finite, interval):
    if not finite:
        return scale / 2, 0
    if good == interval:
        return scale * 2, 0
    return scale, good + 1


@wrong("next_loss_scale", "another answer is expected")
def up_and_down_exchanged(scale, good, finite, interval):
    if not finite:
        return scale * 2, 0
    if good + 1 == interval:
        return scale / 2, 0
    return scale, good + 1


@wrong("next_loss_scale", "Your function stopped")
def takes_steps_for_a_tensor(scale, good, finite, interval):
    return torch.where(finite.all(), scale, scale / 2), good + 1


# accumulated_loss


@right("accumulated_loss")
def all_at_once(logits, masks):
    return losses.cross_entropy(logits.flatten(0, 1), masks.flatten(0, 1))


@right("accumulated_loss")
def class_by_class(logits, masks):
    total, valid = 0 * logits.sum(), (masks != 255).sum()
    for k in range(logits.shape[2]):
        total = total - logits.log_softmax(2)[:, :, k][masks == k].sum()
    return total / max(int(valid), 1)


@wrong("accumulated_loss", "average the means")
def mean_of_means(logits, masks):
    found = [F.cross_entropy(x, y, ignore_index=255) for x, y in zip(logits, masks)]
    return torch.stack(found).nan_to_num().mean()


@wrong("accumulated_loss", "add the means")
def sum_of_means(logits, masks):
    total = 0.0
    for x, y in zip(logits, masks):
        part = F.cross_entropy(x, y, ignore_index=255, reduction="sum")
        total = total + part / (y != 255).sum().clamp(min=1)
    return total


@wrong("accumulated_loss", "leave them out of the count")
def all_pixels(logits, masks):
    parts = [F.cross_entropy(x, y, ignore_index=255, reduction="none") for x, y in zip(logits, masks)]
    return torch.stack(parts).mean()


@wrong("accumulated_loss", "not for all pixels ignored")
def nothing_valid(logits, masks):
    return F.cross_entropy(logits.flatten(0, 1), masks.flatten(0, 1), ignore_index=255)


@wrong("accumulated_loss", "has no gradient")
def numbers(logits, masks):
    sums = [F.cross_entropy(x, y, ignore_index=255, reduction="sum").item() for x, y in zip(logits, masks)]
    return torch.tensor(sum(sums) / max((masks != 255).sum().item(), 1))


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
def not_weighed(counts, means, variances):
    mean = means.mean(0)
    return mean, (variances + (means - mean) ** 2).mean(0)


@wrong("joint_statistics", "changes its arguments")
def shares_in_place(counts, means, variances):
    counts /= counts.sum()
    mean = counts @ means
    return mean, counts @ (variances + (means - mean) ** 2)


@wrong("joint_statistics", "for item [1]")
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


@wrong("cut_back", "You decode first")
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
    p = logits.softmax(1)
    return multiclass_calibration_error(p, mask, p.shape[1], n_bins=10, norm="l1", ignore_index=255)


@wrong("calibration_error", "compare pixel by pixel")
def without_bins(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    return (confidence - (answer == mask).float()).abs()[valid].mean()


@wrong("calibration_error", "one mean with one mean")
def one_bin(logits, mask):
    valid = mask != 255
    confidence, answer = logits.softmax(1).max(1)
    return (confidence[valid].mean() - (answer == mask)[valid].float().mean()).abs()


@wrong("calibration_error", "For inputs")
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
