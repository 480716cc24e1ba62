"""How good a model is on data: the scores of every task over all batches; and what it says about one photograph."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from tqdm.auto import tqdm

from mtl_course import distributed, losses
from mtl_course.datasets.loading import workers_told
from mtl_course.datasets.transforms import fitted_size, joint_transform
from mtl_course.errors import CourseError
from mtl_course.models.trunks import resize
from mtl_course.tasks import Batch, Tasks
from mtl_course.training.device import Device, choose_device


def evaluate(model: nn.Module, tasks: Tasks, loader: Iterable[Batch], device: Device = "auto", *,
             progress: bool = True) -> dict[str, dict[str, float]]:  # fmt: skip
    """The scores of every task over all batches, of all processes, with the model in evaluation mode.

    Returns:
        {task: {metric: value}}, see `mtl_course.metrics`.

    Raises:
        CourseError: if a target does not fit its task, or a task has no valid pixel at all.
    """
    return {name: m.compute() for name, m in run_metrics(model, tasks, loader, device, progress=progress).items()}


@workers_told()
def run_metrics(model: nn.Module, tasks: Tasks, loader: Iterable[Batch], device: Device = "auto", *,
                progress: bool = True) -> dict[str, nn.Module]:  # fmt: skip
    """The filled torchmetrics metrics behind `evaluate`, for what is more than a number, such as a confusion matrix."""
    place = choose_device(device)
    metrics = {name: task.metric() for name, task in tasks.items()}
    was_training = model.training
    model.to(place).eval()
    try:
        with torch.inference_mode():
            # tqdm asks twice for an iterator, and each would start the workers anew.
            batches = iter(loader) if getattr(loader, "num_workers", 0) else loader
            for index, batch in enumerate(tqdm(batches, "evaluate", disable=not progress, unit="batch"), 1):
                batch = checked(batch, tasks, f"batch {index}")
                predictions = losses.answers(model(batch["image"].to(place)))
                present = [name for name in tasks if name in batch and losses.valid_pixels(batch[name]).any()]
                losses.check_predictions(predictions, batch, tasks, present)
                for name in present:
                    metrics[name].update(tasks[name].decode(predictions[name]).cpu(), batch[name])
    finally:
        model.train(was_training)
    refuse_empty(tasks, {name for name, metric in metrics.items() if metric.update_called})
    return metrics


def checked(batch: Batch, tasks: Tasks, where: str) -> dict[str, Tensor]:
    """The image and the targets of a batch on the CPU; on a GPU a wrong class id would end the process."""
    images = batch.get("image") if isinstance(batch, Mapping) else None
    if not isinstance(images, Tensor) or images.dtype != torch.float32 or images.ndim != 4:
        found = batch if images is None else images
        kind = (found.dtype, *found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise CourseError(f"{where}: expected is a dict with 'image', float32 (B, 3, H, W) in [0, 1], not {kind}")
    wanted = {name: batch[name] for name in ("image", *tasks) if name in batch}
    for name in list(wanted)[1:]:  # without the image
        if not isinstance(batch[name], Tensor):
            raise CourseError(f"{where}: the target of {name!r} is a {type(batch[name]).__name__} and no tensor")
        tasks[name].check(batch[name], where)
        image, target = tuple(images.shape), tuple(batch[name].shape)
        if image[0] != target[0] or image[-2:] != target[-2:]:
            raise CourseError(f"{where}: the target of {name!r} is {target} and the image {image}: both need the same "
                              "number of pictures, height and width")  # fmt: skip
    return wanted


def refuse_empty(tasks: Tasks, seen: Iterable[str]) -> None:
    """Raise CourseError for a task that no process has seen a valid pixel of."""
    counts = distributed.total(torch.tensor([float(name in seen) for name in tasks])).tolist()
    if empty := [name for name, count in zip(tasks, counts) if not count]:
        raise CourseError(f"no picture of this data has a valid pixel for the task {empty[0]!r}: leave the task out")


@torch.no_grad()
def predict(model: nn.Module, tasks: Tasks, image: Tensor, size: int | None = None) -> dict[str, Tensor]:
    """The answers of a model to one picture, fitted and padded as in evaluation, then brought back to its size.

    The logits are enlarged, bilinearly, and then decoded, so that no class is invented between two others.

    Args:
        model: images (B, 3, H, W) -> dict of predictions, on any device.
        tasks: by name.
        image: uint8 (3, H, W), or float32 (3, H, W) in [0, 1].
        size: pixels of the longer side that the model sees, best those of its training; None: the picture as it is.

    Returns:
        By task, on the CPU: class ids, int64 (H, W), or values, float32 (C, H, W), as `Task.decode` gives them.

    Raises:
        CourseError: if the image has another form, or a prediction is not finite.
    """
    if image.ndim != 3 or len(image) != 3 or image.dtype not in (torch.uint8, torch.float32) or not image.numel():
        raise CourseError(f"expected is a picture, uint8 or float32 (3, H, W), not {image.dtype} {tuple(image.shape)}")
    height, width = image.shape[1:]
    rows, columns = (height, width) if size is None else fitted_size(height, width, size, augment=False)
    fitted = joint_transform(size)(tv_tensors.Image(image)).as_subclass(Tensor)[None]
    was_training = model.training
    predictions = losses.answers(model.eval()(fitted.to(next(model.parameters()).device)))
    model.train(was_training)
    seen = {name: predictions[name][..., :rows, :columns].cpu() for name in tasks}  # without the padding
    return {name: task.decode(resize(seen[name], (height, width)))[0] for name, task in tasks.items()}
