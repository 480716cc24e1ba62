"""Scores, one metric a task, built on torchmetrics so that they add up over batches and processes.

Every metric takes `update(decoded prediction, target)` and answers `compute()` with a dict of plain numbers. What is
not defined (a class that appears nowhere, a task without a valid pixel) is NaN, never 0.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities import dim_zero_cat

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.losses import IGNORE_INDEX, valid_pixels

# Of all other scores, higher is better.
LOWER_IS_BETTER = frozenset({"abs_error", "rel_error", "mean_angle", "median_angle"})


def iou(confusion: Tensor) -> Tensor:
    """Intersection over union of each class: true positives / (true + false positives + false negatives).

    Args:
        confusion: pixel counts, (..., K, K), rows = truth, columns = prediction.

    Returns:
        (..., K), NaN where a class is neither there nor predicted.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 88, 2010.
    """
    hits = confusion.diagonal(dim1=-2, dim2=-1).double()
    return hits / (confusion.sum(-1) + confusion.sum(-2) - hits)


class SegmentationScores(Metric):
    """IoU and accuracy of class masks.

    compute() gives `miou` (mean over the classes of the IoU cumulated over all pictures, VOC's score), `miou_per_image`
    (mean over pictures of each picture's own mean IoU, which is another number), `accuracy` (share of right pixels) and
    `iou_CLASS` for each class. Pixels of value 255 count nowhere.

    Args:
        classes: names, by class id.
    """

    full_state_update = False

    def __init__(self, classes: Sequence[str]):
        super().__init__()
        self.classes = tuple(classes)
        self.score_names = ("miou", "miou_per_image", "accuracy", *(f"iou_{name}" for name in self.classes))
        self.add_state("confusions", default=[], dist_reduce_fx="cat")  # (pictures, K, K)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: class ids, int64 (B, H, W) both."""
        options = {"num_classes": len(self.classes), "ignore_index": IGNORE_INDEX, "validate_args": False}
        pairs = zip(prediction, target)
        self.confusions.append(torch.stack([multiclass_confusion_matrix(p, t, **options) for p, t in pairs]))

    def _sync_dist(self, *args: object, **options: object) -> None:
        """As torchmetrics does it; a process that has seen no picture still says of what shape it would be."""
        nothing = torch.zeros(0, len(self.classes), len(self.classes), dtype=torch.int64, device=self.device)
        self.confusions = self.confusions or [nothing]
        super()._sync_dist(*args, **options)

    @property
    def confusion(self) -> Tensor:
        """Pixel counts over all pictures, int64 (K, K), rows = truth, columns = prediction."""
        return self.per_image.sum(0)

    @property
    def per_image(self) -> Tensor:
        """Pixel counts of each picture, int64 (pictures, K, K), rows = truth, columns = prediction."""
        return dim_zero_cat(self.confusions)

    def compute(self) -> dict[str, float]:
        """The scores of everything seen so far, each in [0, 1] or NaN."""
        total, ious = self.confusion, iou(self.confusion)
        accuracy = total.diagonal().sum().double() / total.sum()
        values = [ious.nanmean(), iou(self.per_image).nanmean(1).nanmean(), accuracy, *ious]
        return dict(zip(self.score_names, map(float, values)))


class _Sums(Metric):
    """A metric that is a function of named sums; unless it says otherwise, the means of its scores over `pixels`."""

    full_state_update = False
    sums: Sequence[str] = ()
    score_names: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__()
        for name in self.sums:
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, **sums: Tensor) -> None:
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + value.detach().to(torch.float64))

    def compute(self) -> dict[str, float]:
        """The scores of everything seen so far, or NaN."""
        return {name: float(getattr(self, name) / self.pixels) for name in self.score_names}


class BoundaryScores(_Sums):
    """Precision, recall and F1 of thin lines; a pixel also counts as found when it lies `tolerance` pixels away.

    Args:
        tolerance: in pixels, along rows, columns and diagonals.

    Source: Martin et al., "Learning to detect natural image boundaries", TPAMI 2004 (there with one-to-one matching).
    """

    sums = ("found", "true", "right", "predicted")
    score_names = ("f1", "precision", "recall")

    def __init__(self, tolerance: int = 1):
        super().__init__()
        self.tolerance = tolerance

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: 0 and 1, int64 (B, H, W) both; 255 in the target counts nowhere."""
        valid = valid_pixels(target)
        true, predicted = (target == 1) & valid, (prediction == 1) & valid
        found, right = true & self._near(predicted), predicted & self._near(true)
        self.add(found=found.sum(), true=true.sum(), right=right.sum(), predicted=predicted.sum())

    def _near(self, mask: Tensor) -> Tensor:
        size = 2 * self.tolerance + 1
        return torch.nn.functional.max_pool2d(mask[:, None].float(), size, stride=1, padding=self.tolerance)[:, 0] > 0

    def compute(self) -> dict[str, float]:
        """The scores of everything seen so far, each in [0, 1] or NaN."""
        precision, recall = self.right / self.predicted, self.found / self.true
        f1 = 2 * precision * recall / (precision + recall)
        if self.true > 0 and self.found + self.right == 0:
            f1 = torch.zeros(())  # there were boundaries, and none was found
        return dict(zip(self.score_names, map(float, (f1, precision, recall))))


class DepthScores(_Sums):
    """Errors of depth: `abs_error` (metres), `rel_error` (share of the true depth), `delta1` (share of the pixels
    that lie within a factor of 1.25).

    Source: Eigen et al., arXiv:1406.2283, section 4.
    """

    score_names = ("abs_error", "rel_error", "delta1")
    sums = (*score_names, "pixels")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: metres, float (B, 1, H, W) both; NaN in the target counts nowhere."""
        valid = valid_pixels(target)
        p, t = prediction[:, 0][valid].double(), target[:, 0][valid].double()
        error = (p - t).abs()
        close = torch.maximum(p, t) < 1.25 * torch.minimum(p, t)
        self.add(abs_error=error.sum(), rel_error=(error / t).sum(), delta1=close.sum(), pixels=valid.sum())


class DirectionScores(_Sums):
    """Angles: `mean_angle` (degrees) and the shares `within_11`, `within_22`, `within_30`.

    Source: Fouhey et al., "Data-driven 3D primitives for single image understanding", ICCV 2013 (11.25°, 22.5°, 30°).
    """

    limits = {"within_11": 11.25, "within_22": 22.5, "within_30": 30.0}  # degrees
    score_names = ("mean_angle", *limits)
    sums = (*score_names, "pixels")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: unit vectors, float (B, 3, H, W) both; NaN in the target counts nowhere."""
        valid = valid_pixels(target)
        angle = (prediction * target).sum(1)[valid].double().clamp(-1, 1).acos().rad2deg()
        within = {name: (angle < limit).sum() for name, limit in self.limits.items()}
        self.add(mean_angle=angle.sum(), pixels=valid.sum(), **within)


Scores = Mapping[str, Mapping[str, float]]


def delta_m(scores: Scores, baseline: Scores, lower_is_better: Collection[str] = LOWER_IS_BETTER,
            average: str = "task") -> float:  # fmt: skip
    """How much better a model is than a baseline, in percent of the baseline: + is better, 0 is as good.

    Every metric given counts, each `iou_CLASS` too: pass those that should. Papers also print the opposite sign.

    Args:
        scores: task -> metric -> score, as `training.evaluate` gives them.
        baseline: the same metrics of the same tasks, such as those of single-task models.
        lower_is_better: the metrics of which less is better, in any task; or a dict {metric: bool} that says it of all.
        average: "task": over the metrics of each task, then over the tasks; "metric": over all metrics alike.

    Returns:
        The mean of 100 (score - baseline) / |baseline|, negated where lower is better.

    Raises:
        CourseError: if both do not hold the same metrics, a number is not finite, or a baseline is 0.

    Source: Maninis et al., arXiv:1904.08918; over metrics as in Liu et al., arXiv:2306.03792.
    """
    refuse_unknown("average", [average], ("task", "metric"))
    _refuse_other_metrics(scores, baseline, lower_is_better)
    lower = lower_is_better if isinstance(lower_is_better, Mapping) else dict.fromkeys(lower_is_better, True)
    gains: list[list[float]] = []  # of each task
    for task, metrics in scores.items():
        found = {m: _gain(value, baseline[task][m], f"{task}.{m}") for m, value in metrics.items()}
        gains.append([-gain if lower.get(m) else gain for m, gain in found.items()])
    if average == "metric":
        gains = [sum(gains, [])]
    return sum(sum(task) / len(task) for task in gains) / len(gains)


def _gain(score: float, base: float, name: str) -> float:
    """Percent of the baseline; of its size, so that more stays more below 0."""
    if not (math.isfinite(score) and math.isfinite(base)) or base == 0:
        raise CourseError(f"{name}: finite numbers are expected, the baseline's not 0, and not {score} and {base}")
    return 100 * (score - base) / abs(base)


def _refuse_other_metrics(scores: Scores, baseline: Scores, lower_is_better: Collection[str]) -> None:
    ours, theirs = ({f"{task}.{m}" for task, metrics in side.items() for m in metrics} for side in (scores, baseline))
    if ours != theirs or set(scores) != set(baseline) or not scores or not all(scores.values()):
        odd = ", ".join(sorted(ours ^ theirs)) or "none"
        raise CourseError(f"both need the same metrics of the same tasks, at least one; only on one side: {odd}")
    if isinstance(lower_is_better, Mapping):
        refuse_unknown("metric of lower_is_better", (m for ms in scores.values() for m in ms), lower_is_better)
