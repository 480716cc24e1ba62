"""A task: what one head answers, how its loss and score are computed, and which colours draw it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from mtl_course import losses
from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.losses import IGNORE_INDEX

# 22 colours: near black, Okabe and Ito's seven, then each next one as far as possible from those before it, as seen
# with normal vision and with the three kinds of colour blindness (tests/test_tasks.py measures the distances).
PALETTE = ("#1a1a1a", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#8c00ff",
           "#732600", "#4d0059", "#401aa6", "#00ff8c", "#594d59", "#9980ff", "#b3d9b3", "#e60040", "#a6e6ff",
           "#a6008c", "#d9b359", "#734dd9", "#a6b373")  # fmt: skip
IGNORE_COLOR = "#ffffff"

Kind = Literal["classes", "binary", "boundary", "depth", "direction"]


@dataclass(frozen=True)
class Task:
    """One question that a model answers for every pixel.

    Args:
        name: the key of the task in samples, predictions and losses.
        kind: "classes" (one of K), "binary" (yes or no), "boundary" (yes or no, on thin lines), "depth" (a positive
            number) or "direction" (a unit vector).
        channels: channels of the prediction.
        loss: (prediction, target) -> scalar, see `mtl_course.losses`.
        score: the metric that says which model is best.
        classes: names, by class id; of a binary task the names of 0 and 1.
        unit: of the values, for axes and tables.

    Raises:
        CourseError: on a name that a checkpoint could not hold, or classes that are not 2 to 255 different names.
    """

    name: str
    kind: Kind
    channels: int
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = field(repr=False)
    score: str
    classes: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        """Refuse a name that could not be saved and loaded again, before anything is trained."""
        odd = not self.name or set("./\\:") & set(self.name) or hasattr(torch.nn.ModuleDict(), self.name)
        if odd or not "".join((self.name, *self.classes)).isprintable():
            rule = "names are printable text, and a task's holds none of . / \\ : and is no word of torch, such as type"
            raise CourseError(f"task {self.name!r}, classes {self.classes!s:.90}: {rule}: choose others")
        if (self.classes or self.kind == "classes") and not 2 <= len(set(self.classes)) == len(self.classes) <= 255:
            raise CourseError(
                f"task {self.name!r} has 2 to 255 different classes, not {self.classes!s:.90}: choose others"
            )

    @property
    def colors(self) -> tuple[str, ...]:
        """One colour a class, the same in every picture; after 22 classes they come again."""
        return tuple(PALETTE[value % len(PALETTE)] for value in range(len(self.classes)))

    def decode(self, prediction: torch.Tensor) -> torch.Tensor:
        """What the head's output says, in the form of the target.

        Args:
            prediction: (B, channels, H, W).

        Returns:
            Class ids, int64 (B, H, W), or values, float (B, C, H, W); directions have length 1.

        Raises:
            CourseError: if it is not finite.
        """
        if not prediction.isfinite().all():
            raise CourseError(f"the model's {self.name!r} is not finite: train it with lower lr")
        if self.kind == "classes":
            return prediction.argmax(1)
        if self.channels == 1 and self.classes:
            return (prediction[:, 0] > 0).long()
        return torch.nn.functional.normalize(prediction, dim=1) if self.kind == "direction" else prediction

    def metric(self) -> torch.nn.Module:
        """A fresh torchmetrics metric: update(decoded prediction, target), compute() -> dict of numbers."""
        from mtl_course import metrics  # torchmetrics is slow to import

        kinds = {"boundary": metrics.BoundaryScores, "depth": metrics.DepthScores, "direction": metrics.DirectionScores}
        return kinds[self.kind]() if self.kind in kinds else metrics.SegmentationScores(self.classes)

    def check(self, target: torch.Tensor, where: str) -> None:
        """Refuse a target that the loss or metric could not read.

        Args:
            target: a batch (B, ...) on the CPU.
            where: named in the error, such as the file.

        Raises:
            CourseError: on a wrong shape, dtype or class id.
        """
        where, known = f"{where}: task {self.name!r}", len(self.classes)
        if known:
            expected, fits = "mask of class ids, int64 (B, H, W)", target.dtype == torch.int64 and target.ndim == 3
        else:
            expected = f"target float (B, {self.channels}, H, W)"
            fits = target.is_floating_point() and target.ndim == 4 and target.shape[1] == self.channels
        if not fits:
            found = f"{str(target.dtype).removeprefix('torch.')} {tuple(target.shape)}"
            raise CourseError(f"{where} needs a {expected}, and this is {found}")
        if known and len(bad := target[((target < 0) | (target >= known)) & (target != IGNORE_INDEX)]):
            said = f"{where} knows the class ids 0 to {known - 1} and {IGNORE_INDEX} = ignore, and the mask holds"
            raise CourseError(f"{said} {sorted(set(bad.tolist()))[:5]}: correct the mask or the list of classes")


Tasks = Mapping[str, Task]  # by name
Batch = losses.Batch


def semantic(classes: Sequence[str], name: str = "semantic") -> Task:
    """Which of K classes is this pixel?"""
    return Task(name, "classes", len(classes), losses.cross_entropy, "miou", classes=tuple(classes))


def foreground(name: str = "foreground") -> Task:
    """Is this pixel part of an object?"""
    return Task(name, "binary", 1, losses.binary_cross_entropy, "miou", classes=("background", "foreground"))


def boundary(name: str = "boundary") -> Task:
    """Is this pixel on the border of an object?"""
    return Task(name, "boundary", 1, losses.boundary_loss, "f1", classes=("inside", "boundary"))


def depth(name: str = "depth") -> Task:
    """How far away is this pixel, in metres?"""
    return Task(name, "depth", 1, losses.l1, "abs_error", unit="m")


def normals(name: str = "normals") -> Task:
    """Which way does the surface face? A unit vector (right, up, towards the camera)."""
    return Task(name, "direction", 3, losses.cosine, "mean_angle", unit="°")


def make(names: Iterable[str], classes: Sequence[str] = ()) -> dict[str, Task]:
    """Tasks by name, in the given order.

    Args:
        names: of "semantic", "foreground", "boundary", "depth", "normals".
        classes: the class names of "semantic".

    Raises:
        CourseError: on an unknown name, with the nearest right one.
    """
    makers = {"semantic": lambda: semantic(classes), "foreground": foreground, "boundary": boundary, "depth": depth}
    return {name: maker() for name, maker in pick(makers | {"normals": normals}, names).items()}


def restore(name: str, kind: Kind, classes: Sequence[str]) -> Task:
    """The task that a checkpoint describes, with the loss and score that are usual for its kind."""
    makers = {"binary": foreground, "boundary": boundary, "depth": depth, "direction": normals}
    return semantic(classes, name) if kind == "classes" else replace(makers[kind](name), classes=tuple(classes))


def pick(tasks: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Some of `tasks`, in the order of `names` (or the one of that name).

    Raises:
        CourseError: on no name, one that comes twice, or an unknown one, with the nearest right one.
    """
    names = [names] if isinstance(names, str) else list(names)
    refuse_unknown("task", names, tasks)
    if not names or len(set(names)) < len(names):
        raise CourseError(f"tasks must name one or more of {', '.join(tasks)}, each once, and not {names}")
    return {name: tasks[name] for name in names}
