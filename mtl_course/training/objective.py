"""What a step minimises, L(θ) = Σ αᵢ Lᵢ(θᵢ) + Ω(θ), and its gradient."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtl_course import distributed, losses
from mtl_course.balancing import LossRule, Rule, fixed, make, multitask_backward, reads_of
from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.tasks import Batch, Tasks

Omega = Callable[[nn.Module], Tensor]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Objective:
    """The losses of a batch and their combined gradient; see `fit` for the arguments."""

    def __init__(self, tasks: Tasks, rule: str | Rule = "equal", weights: Mapping[str, float] | None = None,
                 omega: Omega | None = None, precision: str = "fp32", wrt: str = "parameters"):  # fmt: skip
        refuse_unknown("task", weights or {}, tasks)
        refuse_unknown("precision", [precision], PRECISIONS)
        refuse_unknown("wrt", [wrt], ("parameters", "representation"))
        if weights and rule != "equal":
            raise CourseError(f"fixed weights are a rule of their own: give weights or the rule {rule!r}, not both")
        self.tasks, self.omega, self.dtype, self.wrt = tasks, omega, PRECISIONS[precision], wrt
        self.scaler: torch.amp.GradScaler | None = None
        rule = fixed([weights.get(name, 1.0) for name in tasks]) if weights else rule
        self.rule = make(rule, len(tasks)) if isinstance(rule, str) else rule

    def prepare(self, model: nn.Module, place: torch.device) -> None:
        """Refuse a model that the rule cannot work on; in float16 also make the scaler of the gradients."""
        if "gramian" in reads_of(self.rule):
            name = type(model).__name__
            if not getattr(model, "shared_parameters", list)():
                raise CourseError(f"{name} shares no parameters, so there is nothing to balance: choose equal or a "
                                  "rule on losses")  # fmt: skip
            if self.wrt == "representation" and not hasattr(model, "representation"):
                raise CourseError(f"{name} has no shared representation: choose wrt parameters")
        if self.dtype == torch.float16:
            self.scaler = torch.amp.GradScaler(place.type)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The Lᵢ of the tasks that have a valid pixel in the batch, in float32."""
        images = batch["image"]
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            predictions = model(images)
        return losses.losses(losses.answers(predictions), batch, self.tasks)

    def backward(self, model: nn.Module, terms: Mapping[str, Tensor]) -> Tensor:
        """Put d = Σ αᵢ gᵢ + ∇Ω into `.grad`; Ω is added after the rule and never balanced.

        Returns:
            α, (K,), 0 for a task that is not in `terms`.

        Raises:
            RuleNotDefined: where the rule gives no α.
            CourseError: if the model does not fit the rule.
        """
        alpha = multitask_backward(terms, model, self.rule, self.wrt, self.scaler, list(self.tasks))
        ties = [self.omega(model)] if self.omega else []
        ties += [model.omega()] if hasattr(model, "omega") else []
        for tie in ties if terms else []:
            (self.scaler.scale(tie) if self.scaler else tie).backward()
        return alpha

    def after_step(self, model: nn.Module, batch: Batch, terms: Mapping[str, Tensor], where: str) -> None:
        """Let a rule that asks for it see the losses of the same batch after the step."""
        if isinstance(self.rule, LossRule) and self.rule.wants_new_losses and terms:
            with torch.no_grad(), batch_statistics_kept(model):
                new = self.losses(model, batch)
            self.refuse_not_finite(new, f"{where}, after the step")
            names = list(self.tasks)
            try:
                self.rule.after_step(torch.stack([new[name] for name in terms]), [names.index(name) for name in terms])
            except ValueError as error:
                raise CourseError(f"{where}, after the step: {error}") from error

    def after_epoch(self) -> None:
        """Let a rule that asks for it see that an epoch is over."""
        if isinstance(self.rule, LossRule):
            self.rule.after_epoch()

    def refuse_not_finite(self, terms: Mapping[str, Tensor], where: str) -> None:
        """Raise CourseError if a loss is not finite."""
        if terms and not torch.isfinite(torch.stack(list(terms.values()))).all():
            values = ", ".join(f"{name} {loss.item():.4g}" for name, loss in terms.items())
            raise CourseError(f"{where}: the loss is not finite ({values}): lower lr, or look at this batch")

    def refuse_exploded(self, model: nn.Module, batch: Batch, row: Mapping[str, Tensor], where: str) -> None:
        """Raise CourseError that names the tasks whose own gradient is not finite, though the losses of `row` are."""
        with batch_statistics_kept(model):
            terms = self.losses(model, batch)
        parameters, blamed = [p for p in model.parameters() if p.requires_grad], []
        for name, loss in terms.items():
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            blamed += [] if all(g.isfinite().all() for g in found if g is not None) else [name]
        blamed = [name for name in terms if any(name in found for found in distributed.gather(blamed))]
        if self.scaler and not blamed:
            return  # the scale was too high
        values = ", ".join(f"{name.removeprefix('loss/')} {value.item():.4g}" for name, value in row.items())
        said = f"{where}: the gradient of {' and '.join(blamed) or 'Ω or the sum'} is not finite, though the losses are"
        raise CourseError(f"{said} ({values}); no step was taken: lower lr, or look at this batch")


@contextmanager
def batch_statistics_kept(model: nn.Module) -> Iterator[None]:
    """In this block a forward pass in training mode leaves the running statistics of batch norm as they are."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
