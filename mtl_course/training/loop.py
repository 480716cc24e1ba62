"""The loop: minimise L(θ) = Σ αᵢ Lᵢ(θᵢ) + Ω(θ), and score the result."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from mtl_course.balancing import LossRule, Rule, RuleNotDefined
from mtl_course.errors import CourseError
from mtl_course.losses import check_predictions, valid_pixels
from mtl_course.tasks import Batch, Tasks
from mtl_course.training.checkpoints import Keeper
from mtl_course.training.device import Device, choose_device
from mtl_course.training.objective import Objective, Omega

if TYPE_CHECKING:
    from torchmetrics import Metric

Row = dict[str, float]


def fit(
    model: nn.Module,
    tasks: Tasks,
    train_loader: DataLoader,
    val_loader: DataLoader | None = None,
    *,
    epochs: int = 10,
    lr: float = 3e-3,
    weight_decay: float = 1e-4,
    rule: str | Rule = "equal",
    wrt: str = "parameters",
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
    weights of the best epoch; without `val_loader`, of the last one. A second `fit` starts optimizer, cycle,
    history and a rule given by name anew.

    All of the model is put into training mode, so the batch statistics of a part without gradient move too.

    Args:
        model: images (B, 3, H, W) -> dict of predictions.
        tasks: by name.
        train_loader, val_loader: batches of samples, see `mtl_course.datasets`.
        epochs: passes over the training data, >= 1.
        lr: the highest learning rate of the cycle.
        weight_decay: AdamW's own, decoupled.
        rule: where α comes from: a rule of `mtl_course.balancing` or its name, such as "pcgrad" or "cagrad:c=0.4".
        wrt: "parameters" or "representation", the gradients that the rule reads; see `balancing.multitask_backward`.
        weights: fixed αᵢ by task instead; a task not named keeps 1.
        omega: Ω, a function of the model, added after the rule and never weighed; so is the Ω of SoftSharing.
        device, precision: "auto", "cpu", "cuda" or "mps"; "fp32", or "bf16" or "fp16" (autocast).
        monitor: "task.metric" that says which epoch is best; default the first task's own score.
        checkpoint: a folder for best.safetensors, last.safetensors and history.csv.
        progress: show a bar.

    Returns:
        The history, a row an epoch: epoch, lr, loss/TASK and alpha/TASK (training means), skipped (steps where the rule
        was not defined or fp16 overflowed), TASK.METRIC (validation), seconds.

    Raises:
        CourseError: on an unknown name, a target that does not fit its task, a task without a valid pixel in an epoch,
            a loss that is not finite (the weights are then those before the step), a rule that is defined at no step.
    """
    objective = Objective(tasks, rule, weights, omega, precision, wrt)
    keeper = Keeper(model, tasks, monitor, checkpoint)
    place = choose_device(device)
    objective.prepare(model.to(place), place)
    optimizer, schedule = _descent(model, objective.rule, lr, weight_decay, _steps(epochs, lr, train_loader))
    bar = tqdm(total=schedule.total_steps, disable=not progress, unit="step", mininterval=0.5)
    trainer = _Trainer(tasks, model, objective, optimizer, schedule, place, bar)
    history = []
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


@dataclass
class _Trainer:
    """What a step of gradient descent needs."""

    tasks: Tasks
    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    place: torch.device
    bar: tqdm
    skipped: list[str] = field(default_factory=list)  # steps of this epoch, and why
    undefined: int = 0  # of them those where the rule was not defined

    def epoch(self, loader: DataLoader, number: int) -> Row:
        """All batches once; the means of each task's loss and α over the batches that had it."""
        self.model.train()
        self.skipped, self.undefined = [], 0
        seen: dict[str, list[Tensor]] = {f"{what}/{name}": [] for what in ("loss", "alpha") for name in self.tasks}
        for index, batch in enumerate(loader, 1):
            for name, value in self.step(batch, f"epoch {number}, batch {index}").items():
                seen[name].append(value)
            self.bar.update()
        self.objective.after_epoch()
        _refuse_empty(name for name in self.tasks if not seen[f"loss/{name}"])
        if self.undefined == index:
            raise CourseError(f"the rule is defined at no step ({self.skipped[0]}): choose another rule")
        if self.skipped:
            self.bar.write(f"{len(self.skipped)} of {index} steps were skipped, the first at {self.skipped[0]}")
        means = {name: float(torch.stack(values).mean()) if values else math.nan for name, values in seen.items()}
        return means | {"skipped": len(self.skipped)}

    def step(self, batch: Batch, where: str) -> Row:
        """One step down the gradient of L, unless the rule is not defined there; the losses before it, and α."""
        batch = _ready(batch, self.tasks, self.place, where)
        terms = self.objective.losses(self.model, batch)
        self.objective.refuse_not_finite(terms, where)
        row = {f"loss/{name}": loss.detach() for name, loss in terms.items()}
        self.optimizer.zero_grad()
        try:
            alpha = dict(zip(self.tasks, self.objective.backward(self.model, terms)))
        except RuleNotDefined as error:
            self.skipped.append(f"{where}: {error}")
            self.undefined += 1
            return row
        if not self.objective.step(self.optimizer):
            self.skipped.append(f"{where}: the gradients overflowed float16")
            return row
        self.schedule.step()
        self.objective.after_step(self.model, batch, terms, where)
        return row | {f"alpha/{name}": alpha[name] for name in terms}


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


def _descent(
    model: nn.Module, rule: Rule, lr: float, weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """What moves the model, and what the rule learns with it, which is not to decay."""
    learned = list(rule.parameters()) if isinstance(rule, LossRule) else []
    groups = [{"params": model.parameters()}] + ([{"params": learned, "weight_decay": 0.0}] if learned else [])
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)


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
