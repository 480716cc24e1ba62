"""The loop: minimise L(θ) = Σ αᵢ Lᵢ(θᵢ) + Ω(θ) step by step, keep the best, and go on after an interruption."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader

from mtl_course import __version__
from mtl_course.balancing import Rule
from mtl_course.datasets.loading import workers_told
from mtl_course.distributed import is_main, world
from mtl_course.errors import CourseError
from mtl_course.files import owned
from mtl_course.tasks import Batch, Tasks
from mtl_course.training.descent import Descent, Rates
from mtl_course.training.device import Device, choose_device, placed
from mtl_course.training.keeper import Keeper, Row
from mtl_course.training.objective import Objective, Omega
from mtl_course.training.trainer import Trainer


def fit(model: nn.Module, tasks: Tasks, train_loader: DataLoader, val_loader: DataLoader | None = None, *,
        epochs: int = 10, lr: Rates = 3e-3, weight_decay: float = 1e-4, rule: str | Rule = "equal",
        wrt: str = "parameters", weights: Mapping[str, float] | None = None, omega: Omega | None = None,
        clip: float | None = None, mean_weights: float = 0.0, augment: Callable[[Batch], Batch] | None = None,
        device: Device = "auto", precision: str = "fp32", compile: bool = False, monitor: str | None = None,
        patience: int | None = None, checkpoint: str | Path | None = None, resume: bool = False,
        progress: bool = True) -> list[Row]:  # fmt: skip
    """Minimise L(θ) = Σ αᵢ Lᵢ + Ω(θ) by AdamW under a one-cycle learning rate.

    After each epoch the model is scored on `val_loader`. At the end, and after an interrupt too, it holds the weights
    of the best epoch; without `val_loader`, of the last one. A second `fit` starts optimizer, cycle, history and a rule
    given by name anew, unless it resumes.

    All of the model is put into training mode, so the batch statistics of a part without gradient move too.

    Started by torchrun, after `distributed.start`, each process sees its part of every batch (`datasets.loader`), and
    all take the step that one process would take on the whole batch, but for batch norm, whose statistics are those of
    a part.

    Args:
        model: images (B, 3, H, W) -> dict of predictions.
        tasks: by name.
        train_loader, val_loader: batches of samples, see `mtl_course.datasets`.
        epochs: passes over the training data, >= 1.
        lr: the highest learning rate of the cycle; or {prefix: rate} for parameters by the start of their name, the
            longest prefix counts: {"": 1e-3, "trunk.down": 1e-4}.
        weight_decay: AdamW's own, decoupled.
        rule: where α comes from: a rule of `mtl_course.balancing` or its name, such as "pcgrad" or "cagrad:c=0.4".
        wrt: "parameters" or "representation", the gradients that the rule reads; see `balancing.multitask_backward`.
        weights: fixed αᵢ by task instead; a task not named keeps 1.
        omega: Ω, a function of the model, added after the rule and never weighed; so is the Ω of SoftSharing.
        clip: the largest length of the gradient; a longer one is shortened to it.
        mean_weights: decay, < 1, of a mean over the weights of past steps; it is scored and kept instead of the last.
        augment: batch -> batch, for training batches, on their device.
        device, precision: "auto", "cpu", "cuda" or "mps"; "fp32", or "bf16" or "fp16" (autocast).
        compile: let torch.compile make the parts of the model faster, where steps are many.
        monitor: "task.metric" that says which epoch is best; default the first task's own score.
        patience: stop after so many epochs without a better one.
        checkpoint: a folder for best.safetensors, last.safetensors, history.csv, history.json, state.pt and the state
            before it, state.previous.pt. While this runs, no other run may have the folder. Without `resume` what an
            older run left there is overwritten.
        resume: go on from state.pt there, or where it is damaged or missing, from the state before it; on a CPU bit for
            bit with as many workers and threads, if these draw from the loader's or torch's generator and are not
            persistent. It is written after each epoch, every five
            minutes, and on Ctrl-C and SIGTERM. Model, rule and rates are compared with the state; the losses and Ω by
            their names; `augment` and the data are not: give the same.
        progress: show a bar.

    Returns:
        The history, a row an epoch: epoch, lr, loss/TASK and alpha/TASK (training means), skipped (steps where the rule
        was not defined or fp16 overflowed), waiting (share of the training time spent on waiting for data),
        TASK.METRIC (validation), seconds.

    Raises:
        CourseError: on an unknown name, a target that does not fit its task, a task without a valid pixel in an epoch,
            a loss or gradient that is not finite (no step was taken then), a rule that is defined
            at no step, a state of another run, a folder in use, a loader's worker that died or hangs.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    if not (batches := len(train_loader)) or epochs < 1 or patience is not None and patience < 1:
        raise CourseError(f"fit needs epochs and patience >= 1 and a batch of data, and got {epochs} epochs and "
                          f"{batches} batches, patience {patience}")  # fmt: skip
    # NumPy's numbers would be code in a state, and be refused there.
    lr = {name: float(rate) for name, rate in lr.items()} if isinstance(lr, Mapping) else float(lr)
    epochs, weight_decay, clip = int(epochs), float(weight_decay), None if clip is None else float(clip)
    if resume and checkpoint is None:
        raise CourseError("resume goes on from the state in a folder: name it as checkpoint")
    objective = Objective(tasks, rule, weights, omega, precision, wrt)
    place = choose_device(device)
    objective.prepare(model.to(place), place)
    descent = Descent(model, objective.rule, lr, weight_decay, epochs * batches, clip, mean_weights)
    keeper = Keeper(descent.scored, tasks, monitor, checkpoint)
    placed(model, place, compile)
    run = described(model, tasks, objective) | {"epochs": epochs, "batches an epoch": batches, "lr": lr, "clip": clip}
    run |= {"weight_decay": weight_decay, "mean_weights": float(mean_weights), "precision": precision,
            "monitor": keeper.monitor, "processes": world(), "scored": val_loader is not None,
            "pictures": getattr(getattr(train_loader, "dataset", None), "names", None)}  # fmt: skip
    trainer = Trainer(model, objective, descent, keeper, train_loader, val_loader, place, augment, run)
    with owned(keeper.folder if is_main() else None), workers_told():
        if resume:
            trainer.resume()
        trainer.train(epochs, patience, silent=not (progress and is_main()))
    return keeper.history


def described(model: nn.Module, tasks: Tasks, objective: Objective) -> dict:
    """What a state must fit: the version, the names and shapes of all that it fills, and what is minimised, by name."""
    rule = objective.rule
    options = getattr(rule, "keywords", None) or {name: x for name, x in vars(rule).items() if isinstance(x, float)}
    return {"version": __version__, "model": str(getattr(model, "recipe", type(model).__name__)),
            "parameters": [[name, list(p.shape)] for name, p in model.named_parameters()],
            "tasks": [[t.name, t.kind, list(t.classes), _name(t.loss)] for t in tasks.values()], "rule": _name(rule),
            "options of the rule": options, "omega": _name(objective.omega), "wrt": objective.wrt}  # fmt: skip


def _name(function: object) -> str:
    function = getattr(function, "func", function)  # of a partial
    return getattr(function, "__name__", type(function).__name__)
