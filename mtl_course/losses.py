"""Task losses Lᵢ, all with ignored pixels, and the regularisers Ω.

Every task loss maps (prediction, target) to a scalar that is 0, with zero gradient, where no pixel is valid.
Class masks mark unknown pixels by 255, dense regression targets by NaN. Names of the axes: B pictures, K classes,
C channels, H and W pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl_course.distributed import total, world
from mtl_course.errors import CourseError, refuse_unknown

if TYPE_CHECKING:
    from mtl_course.tasks import Task

IGNORE_INDEX = 255
Batch = Mapping[str, Tensor]  # "image" and a target a task; or a prediction a task


def valid_pixels(target: Tensor) -> Tensor:
    """Where a target says something.

    Args:
        target: class mask, int64 (B, H, W), or regression target, float (B, C, H, W).

    Returns:
        bool (B, H, W).
    """
    if target.is_floating_point():
        return target.isfinite().all(1)
    return target != IGNORE_INDEX


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the valid values, of all processes; 0, with zero gradient, if there are none."""
    mean_of, count = _totals(values.where(valid, 0).sum(), valid.sum())
    return mean_of / count.clamp(min=1)


def _totals(*sums: Tensor) -> tuple[Tensor, ...]:
    """Sums over all processes, in one exchange."""
    return sums if world() == 1 else total(torch.stack([s.to(sums[0]) for s in sums])).unbind()


def cross_entropy(logits: Tensor, masks: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the valid pixels.

    Args:
        logits: (B, K, H, W).
        masks: int64 (B, H, W), 255 = ignored.
        class_weights: (K,) or None; with weights the mean is weighted, as in torch.

    Raises:
        CourseError: if every class that is present has weight 0.
    """
    valid = valid_pixels(masks)
    per_pixel = F.cross_entropy(logits, masks, class_weights, ignore_index=IGNORE_INDEX, reduction="none")
    if class_weights is None:
        return _mean(per_pixel, valid)
    weights = class_weights[masks.where(valid, 0)].where(valid, 0)
    loss, weight, count = _totals(per_pixel.sum(), weights.sum(), valid.sum())
    if count > 0 and weight == 0:
        raise CourseError("every class in this batch has class weight 0: give a present class a positive weight")
    return loss / weight.where(count > 0, 1)


def focal(logits: Tensor, masks: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss -(1 - p)^gamma log p, p the probability of the true class; gamma = 0 is the cross-entropy.

    Args:
        logits: (B, K, H, W).
        masks: int64 (B, H, W), 255 = ignored.
        gamma: how strongly easy pixels are played down, >= 0.

    Source: Lin et al., arXiv:1708.02002, equation 4.
    """
    valid = valid_pixels(masks)
    log_p = -F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX, reduction="none")
    return _mean(-((1 - log_p.exp()).clamp(min=1e-12) ** gamma) * log_p, valid)


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - mean over the classes present of 2 Σpt / (Σp + Σt); the sums run over the valid pixels of the batch.

    Args:
        logits: (B, K, H, W).
        masks: int64 (B, H, W), 255 = ignored.

    Source: Milletari et al., arXiv:1606.04797 (their denominator squares p and t; this is the plain overlap).
    """
    valid = valid_pixels(masks)
    probabilities = logits.softmax(1).where(valid[:, None], 0)
    truth = F.one_hot(masks.where(valid, 0), logits.shape[1]).movedim(-1, 1) * valid[:, None]  # (B, K, H, W)
    sums = _totals(*(x.sum((0, 2, 3)) for x in (probabilities * truth, probabilities, truth)))  # (K,) each
    overlap = 2 * sums[0] / (sums[1] + sums[2]).clamp(min=1e-12)
    present = sums[2] > 0
    return (1 - overlap).where(present, 0).sum() / present.sum().clamp(min=1)


def _binary(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, H, W), truth as floats, valid pixels."""
    valid = valid_pixels(masks)
    return logits[:, 0], masks.where(valid, 0).to(logits.dtype), valid


def binary_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean cross-entropy of one logit a pixel.

    Args:
        logits: (B, 1, H, W).
        masks: int64 (B, H, W) of 0, 1 and 255 = ignored.
    """
    logits, truth, valid = _binary(logits, masks)
    return _mean(F.binary_cross_entropy_with_logits(logits, truth, reduction="none"), valid)


def binary_dice(logits: Tensor, masks: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - (2 Σpt + smooth) / (Σp + Σt + smooth) for one logit a pixel; `smooth` (pixels) keeps empty masks defined.

    Args:
        logits: (B, 1, H, W).
        masks: int64 (B, H, W) of 0, 1 and 255 = ignored.
        smooth: pixels added to both sides, > 0.
    """
    logits, truth, valid = _binary(logits, masks)
    probabilities = logits.sigmoid().where(valid, 0)
    both, either = _totals((probabilities * truth).sum(), (probabilities + truth).sum())
    return 1 - (2 * both + smooth) / (either + smooth)


def boundary_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy in which boundary and other pixels weigh the same in total, since boundaries are thin.

    Args:
        logits: (B, 1, H, W).
        masks: int64 (B, H, W) of 0, 1 = boundary and 255 = ignored.

    Source: Xie and Tu, arXiv:1504.06375, equation 2 (there a sum over the picture, here a mean over the pixels).
    """
    logits, truth, valid = _binary(logits, masks)
    share = _mean(truth, valid)  # of boundary pixels
    balance = truth * (1 - share) + (1 - truth) * share
    # A batch of one class only has nothing to balance.
    balance = balance.where((share > 0) & (share < 1), 0.5)
    return _mean(2 * balance * F.binary_cross_entropy_with_logits(logits, truth, reduction="none"), valid)


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over the valid pixels and all channels, in the target's unit.

    Args:
        prediction, target: float (B, C, H, W); NaN in the target = unknown.
    """
    valid = valid_pixels(target)
    known = target.where(valid[:, None], prediction.detach())  # NaN would spread through the gradient
    return _mean((prediction - known).abs().mean(1), valid)


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between predicted and true direction, in [0, 2].

    Args:
        prediction: float (B, C, H, W), any length.
        target: float (B, C, H, W), unit length; NaN = unknown.
    """
    valid = valid_pixels(target)
    known = target.where(valid[:, None], 0)
    return _mean(1 - F.cosine_similarity(prediction, known, dim=1, eps=1e-4), valid)


def losses(predictions: Batch, batch: Batch, tasks: Mapping[str, "Task"]) -> dict[str, Tensor]:
    """The losses Lᵢ of the tasks that have a valid pixel in the batch, in the order of `tasks`.

    Args:
        predictions: what the model answered, one tensor a task.
        batch: images and targets; a task may be missing.
        tasks: by name; a loss of your own that is to serve several processes adds up what it sums by
            `distributed.total` before it divides.

    Raises:
        CourseError: if a prediction is missing, or does not fit its target.
    """
    present = [name for name in tasks if name in batch] if world() == 1 else list(tasks)
    batch = {name: batch[name] if name in batch else _unknown(predictions[name], tasks[name]) for name in present}
    valid = [valid_pixels(batch[name]).any() for name in present]
    found = total(torch.stack(valid).int()).tolist() if valid else []  # one wait for the GPU
    present = [name for name, has_pixels in zip(present, found) if has_pixels]
    check_predictions(predictions, batch, tasks, present)
    return {name: tasks[name].loss(predictions[name], batch[name]) for name in present}


def _unknown(prediction: Tensor, task: "Task") -> Tensor:
    """A target that says nothing, for a process whose part of the batch lacks one."""
    if task.classes:
        return torch.full_like(prediction[:, 0], IGNORE_INDEX, dtype=torch.int64)
    return torch.full_like(prediction, torch.nan)


def answers(found: object) -> dict[str, Tensor]:
    """What a model answers, a dict of tensors, in float32; what else is in the dict is left out."""
    if not isinstance(found, Mapping):
        raise CourseError(f"a model answers a dict with one tensor for each task, and not {type(found).__name__}")
    return {name: value.float() for name, value in found.items() if isinstance(value, Tensor)}


def check_predictions(predictions: Batch, batch: Batch, tasks: Mapping[str, "Task"], names: Iterable[str]) -> None:
    """Refuse predictions of the tasks `names` that are missing or do not have the shape that their target needs."""
    refuse_unknown("prediction", names, predictions)
    for name in names:
        found, target = tuple(predictions[name].shape), tuple(batch[name].shape)
        expected = (target[0], tasks[name].channels, *target[-2:])
        if found != expected:
            raise CourseError(f"task {name!r}: the target {target} needs a prediction {expected}, and this is {found}")


def l2(parameters: Iterable[Tensor], strength: float) -> Tensor:
    """Ω(θ) = strength / 2 · Σ‖θ‖²: keeps the parameters small."""
    return strength / 2 * sum(p.square().sum() for p in parameters)


def tie(groups: Sequence[Sequence[Tensor]], strength: float) -> Tensor:
    """Ω(θ) = strength / 2 · Σᵢ ‖θᵢ - θ̄‖²: pulls the parameters of the tasks towards their mean.

    strength → 0 leaves T separate models, strength → ∞ makes them one.

    Args:
        groups: the parameters θᵢ of each task, in the same order and of the same shapes.
        strength: λ >= 0.

    Source: Evgeniou and Pontil, "Regularized multi-task learning", KDD 2004.
    """
    groups = [list(group) for group in groups]
    if len({tuple(p.shape for p in group) for group in groups}) != 1:
        raise CourseError("tie needs the same parameter shapes for every task: build the task models alike")
    stacks = [torch.stack(same) for same in zip(*groups)]  # (T, ...) each
    return strength / 2 * sum((stack - stack.mean(0)).square().sum() for stack in stacks)
