"""The loop: minimise L(θ) = Σ αᵢ Lᵢ(θᵢ) + Ω(θ), and score the result."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.losses import check_predictions, losses, valid_pixels
from mtl_course.tasks import Batch, Tasks
from mtl_course.training.checkpoints import Keeper

if TYPE_CHECKING:
    from torchmetrics import Metric

Row = dict[str, float]
Device = str | torch.device
Omega = Callable[[nn.Module], Tensor]
RULES = ("equal",)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def choose_device(name: Device = "auto") -> torch.device:
    """The device to compute on: cuda if there is one, else mps, else cpu; or the one named.

    Raises:
        CourseError: if the named device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # not every device that torch names is there, or holds numbers
    except (RuntimeError, AssertionError) as error:
        raise CourseError(f"device {str(name)!r} is not available here: choose auto, cpu, cuda or mps") from error
    return torch.device(name)


def fit(
    model: nn.Module,
    tasks: Tasks,
    train_loader: DataLoader,
    val_loader: DataLoader | None = None,
    *,
    epochs: int = 10,
    lr: float = 3e-3,
    weight_decay: float = 1e-4,
    rule: str = "equal",
    weights: Mapping[str, float] | None = None,
    omega: Omega | None = None,
    device: Device = "auto",
    precision: str = "fp32",
    monitor: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> list[Row]:
    """Minimise L(θ) = Σ αᵢ Lᵢ + Ω(θ) by AdamW under a one-cycle learning rate.

    After each epoch the model is scored on `val_loader`. At the end, and after an interrupt (Ctrl-C) too, it holds the
    weights of the best epoch; without `val_loader`, of the last one.

    Args:
        model: images (B, 3, H, W) -> dict of predictions.
        tasks: by name.
        train_loader, val_loader: batches of samples, see `mtl_course.datasets`.
        epochs: passes over the training data, >= 1.
        lr: the highest learning rate of the cycle.
        weight_decay: AdamW's own, decoupled.
        rule: where α comes from; "equal" is αᵢ = 1.
        weights: fixed αᵢ by task instead; a task not named keeps 1.
        omega: Ω, a function of the model; added after the rule, never weighed.
        device, precision: "auto", "cpu", "cuda" or "mps"; "fp32" or "bf16" (autocast).
        monitor: "task.metric" that says which epoch is best; default the first task's own score.
        checkpoint: a folder for best.safetensors, last.safetensors and history.csv.
        progress: show a bar.

    Returns:
        The history, a row an epoch: epoch, lr, loss/TASK (training mean), TASK.METRIC (validation), seconds.

    Raises:
        CourseError: on an unknown name, a target that does not fit its task, a task without a valid pixel in an epoch,
            or a loss that is not finite (the weights are then those before the step).
    """
    objective = Objective(tasks, rule, weights, omega, precision)
    keeper = Keeper(model, tasks, monitor, checkpoint)
    place = choose_device(device)
    steps = _steps(epochs, lr, train_loader)
    optimizer = torch.optim.AdamW(model.to(place).parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    bar = tqdm(total=steps, disable=not progress, unit="step", mininterval=0.5)
    trainer = _Trainer(model, objective, optimizer, schedule, place, bar)
    history: list[Row] = []
    try:
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            row = {"epoch": epoch, "lr": schedule.get_last_lr()[0]} | trainer.epoch(train_loader, epoch)
            if val_loader is not None:
                row |= _flat(evaluate(model, tasks, val_loader, place, progress=False))
            history.append(row | {"seconds": time.perf_counter() - start})
            keeper.keep(history)
            bar.set_postfix_str(f"{keeper.monitor} {row.get(keeper.monitor, math.nan):.3f}", refresh=False)
    finally:
        bar.close()
        keeper.restore()
    return history


class Objective:
    """L(θ) = Σ αᵢ Lᵢ + Ω(θ), over the tasks that a batch has; see `fit` for the arguments."""

    def __init__(
        self, tasks: Tasks, rule: str, weights: Mapping[str, float] | None, omega: Omega | None, precision: str
    ) -> None:
        weights = weights or {}
        refuse_unknown("rule", [rule], RULES)
        refuse_unknown("task", weights, tasks)
        refuse_unknown("precision", [precision], PRECISIONS)
        self.tasks, self.omega, self.dtype = tasks, omega, PRECISIONS[precision]
        self.alpha = {name: float(weights.get(name, 1)) for name in tasks}
        if not all(0 <= alpha < math.inf for alpha in self.alpha.values()) or not any(self.alpha.values()):
            raise CourseError(f"loss weights are finite, >= 0 and not all 0, and these are {self.alpha}")

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L, and the Lᵢ behind it; no Lᵢ if the batch has no valid pixel at all."""
        images = batch["image"]
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            predictions = model(images)
        terms = losses({name: p.float() for name, p in predictions.items()}, batch, self.tasks)
        total = sum((self.alpha[name] * loss for name, loss in terms.items()), images.new_zeros(()))
        return (total + self.omega(model) if self.omega else total), terms


@dataclass
class _Trainer:
    """What a step of gradient descent needs."""

    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    place: torch.device
    bar: tqdm

    def epoch(self, loader: DataLoader, number: int) -> Row:
        """All batches once; the mean loss of each task over the batches that had it."""
        self.model.train()
        seen: dict[str, list[Tensor]] = {name: [] for name in self.objective.tasks}
        for index, batch in enumerate(loader, 1):
            for name, loss in self.step(batch, f"epoch {number}, batch {index}").items():
                seen[name].append(loss)
            self.bar.update()
        _refuse_empty(name for name, values in seen.items() if not values)
        return {f"loss/{name}": float(torch.stack(values).mean()) for name, values in seen.items()}

    def step(self, batch: Batch, where: str) -> dict[str, Tensor]:
        """One step down the gradient of L; the losses before it."""
        total, terms = self.objective(self.model, _ready(batch, self.objective.tasks, self.place, where))
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {loss.item():.4g}" for name, loss in terms.items())
            raise CourseError(f"{where}: the loss is not finite ({values}): lower lr, or look at this batch")
        self.optimizer.zero_grad()
        if terms:
            total.backward()
        self.optimizer.step()  # moves nothing where there is no gradient
        self.schedule.step()
        return {name: loss.detach() for name, loss in terms.items()}


def evaluate(
    model: nn.Module, tasks: Tasks, loader: Iterable[Batch], device: Device = "auto", *, progress: bool = True
) -> dict[str, Row]:
    """The scores of every task over all batches, with the model in evaluation mode.

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
                batch = _ready(batch, tasks, torch.device("cpu"), f"batch {index}")
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
    _refuse_empty(name for name, metric in metrics.items() if not metric.update_called)
    return metrics


def _ready(batch: Batch, tasks: Tasks, place: torch.device, where: str) -> dict[str, Tensor]:
    """The batch on its device, after its targets were checked; on a GPU a wrong class id would end the process."""
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
    return {name: value.to(place, non_blocking=True) for name, value in wanted.items()}


def _steps(epochs: int, lr: float, loader: DataLoader) -> int:
    if epochs < 1 or not 0 < lr < math.inf or not len(loader):
        got = f"{epochs} epochs, lr {lr} and {len(loader)} batches"
        raise CourseError(f"fit needs epochs >= 1, a finite lr > 0 and data that gives a batch, and got {got}")
    return epochs * len(loader)


def _flat(scores: dict[str, Row]) -> Row:
    return {f"{task}.{metric}": value for task, metrics in scores.items() for metric, value in metrics.items()}


def _refuse_empty(names: Iterable[str]) -> None:
    for name in names:
        raise CourseError(f"no picture of this data has a valid pixel for the task {name!r}: leave the task out")
