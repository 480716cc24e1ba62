"""How good a model is on data: the scores of every task over all batches."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mtl_course.distributed import total
from mtl_course.errors import CourseError
from mtl_course.losses import check_predictions, valid_pixels
from mtl_course.tasks import Batch, Tasks
from mtl_course.training.device import Device, choose_device

if TYPE_CHECKING:
    from torchmetrics import Metric


def evaluate(
    model: nn.Module, tasks: Tasks, loader: Iterable[Batch], device: Device = "auto", *, progress: bool = True
) -> dict[str, dict[str, float]]:
    """The scores of every task over all batches, of all processes, with the model in evaluation mode.

    Returns:
        {task: {metric: value}}, see `mtl_course.metrics`.

    Raises:
        CourseError: if a target does not fit its task, or a task has no valid pixel at all.
    """
    return {name: m.compute() for name, m in run_metrics(model, tasks, loader, device, progress=progress).items()}


def run_metrics(
    model: nn.Module, tasks: Tasks, loader: Iterable[Batch], device: Device = "auto", *, progress: bool = True
) -> dict[str, "Metric"]:
    """The filled metrics behind `evaluate`, for what is more than a number, such as a confusion matrix."""
    place = choose_device(device)
    metrics = {name: task.metric() for name, task in tasks.items()}
    was_training = model.training
    model.to(place).eval()
    try:
        with torch.inference_mode():
            for index, batch in enumerate(tqdm(loader, "evaluate", disable=not progress, unit="batch"), 1):
                batch = checked(batch, tasks, f"batch {index}")
                predictions = model(batch["image"].to(place))
                present = [name for name in tasks if name in batch and valid_pixels(batch[name]).any()]
                check_predictions(predictions, batch, tasks, present)
                for name in present:
                    if not predictions[name].isfinite().all():
                        raise CourseError(
                            f"batch {index}: the model's {name!r} is not finite: train it with a lower lr"
                        )
                    metrics[name].update(tasks[name].decode(predictions[name]).cpu(), batch[name])
    finally:
        model.train(was_training)
    refuse_empty(tasks, {name for name, metric in metrics.items() if metric.update_called})
    return metrics


def checked(batch: Batch, tasks: Tasks, where: str) -> dict[str, Tensor]:
    """The image and the targets of a batch on the CPU; on a GPU a wrong class id would end the process."""
    images = batch.get("image") if isinstance(batch, Mapping) else None
    if not isinstance(images, Tensor) or images.dtype != torch.float32 or images.ndim != 4:
        found = (
            f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images or batch).__name__
        )
        raise CourseError(f"{where}: expected is a dict with 'image', float32 (B, 3, H, W) in [0, 1], not {found}")
    wanted = {name: batch[name] for name in ("image", *tasks) if name in batch}
    for name in list(wanted)[1:]:  # without the image
        tasks[name].check(batch[name], where)
        image, target = tuple(images.shape), tuple(batch[name].shape)
        if image[0] != target[0] or image[-2:] != target[-2:]:
            raise CourseError(
                f"{where}: the target of {name!r} is {target} and the image {image}: both need the same number of "
                "pictures, height and width"
            )
    return wanted


def refuse_empty(tasks: Tasks, seen: Iterable[str]) -> None:
    """Raise CourseError for a task that no process has seen a valid pixel of."""
    counts = total(torch.tensor([float(name in seen) for name in tasks])).tolist()
    for name, count in zip(tasks, counts):
        if not count:
            raise CourseError(f"no picture of this data has a valid pixel for the task {name!r}: leave the task out")
