"""What moves the parameters: AdamW, the learning rate of each step, clipping, and the mean of the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel

from mtl_course.balancing import LossRule, Rule
from mtl_course.errors import CourseError

Rates = float | Mapping[str, float]


class Descent:
    """AdamW under a one-cycle learning rate; see `fit` for the arguments.

    Attributes:
        scored: the model to score and keep: the one trained, or the mean of its weights.
    """

    def __init__(self, model: nn.Module, rule: Rule, lr: Rates, weight_decay: float, steps: int, clip: float | None,
                 mean: float):  # fmt: skip
        rates = lr if isinstance(lr, Mapping) else {"": lr}
        if not all(0 < rate < torch.inf for rate in rates.values()) or not rates or not (clip is None or clip > 0):
            raise CourseError(f"fit needs a finite lr > 0 and clip > 0 or None, and got {lr} and {clip}")
        if not 0 <= mean < 1:
            raise CourseError(f"mean_weights is a decay, >= 0 and < 1, and not {mean}")
        groups = by_prefix(model, rates)
        if learned := list(rule.parameters()) if isinstance(rule, LossRule) else []:
            groups.append({"params": learned, "lr": max(rates.values()), "weight_decay": 0.0})
        # Fused is one kernel; the parameters of a rule are on the CPU.
        on_cuda = next(model.parameters()).is_cuda and not learned
        self.optimizer = optim.AdamW(groups, weight_decay=weight_decay, fused=on_cuda or None)
        self.schedule = optim.lr_scheduler.OneCycleLR(self.optimizer, [g["lr"] for g in groups], total_steps=steps)
        self.model, self.clip = model, clip or torch.inf
        self.mean = AveragedModel(model, multi_avg_fn=_mean_of(mean), use_buffers=True) if mean else None
        self.scored = self.mean.module if self.mean else model

    def step(self, scaler: torch.amp.GradScaler | None = None) -> bool:
        """One step down the gradient in `.grad`; nothing moves where it is not finite.

        Returns:
            Whether the gradient was finite.
        """
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if scaler is not None and gradients:
            scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm(gradients)
        finite = bool(norm.isfinite())
        if finite and norm > self.clip:
            nn.utils.clip_grads_with_norm_(gradients, self.clip, norm)
        if scaler is not None and gradients:
            scaler.step(self.optimizer)  # which looks for itself whether all is finite
            scaler.update()
        elif finite:
            self.optimizer.step()
        if finite:
            self.schedule.step()
            if self.mean is not None:
                self.mean.update_parameters(self.model)
        return finite


def by_prefix(model: nn.Module, rates: Mapping[str, float]) -> list[dict]:
    """Parameters with their learning rate, by the longest prefix of their name.

    Raises:
        CourseError: if a prefix is that of no parameter, or a parameter has no prefix.
    """
    groups: dict[str, list[Tensor]] = {prefix: [] for prefix in rates}
    for name, parameter in model.named_parameters():
        prefixes = [prefix for prefix in rates if name.startswith(prefix)]
        if not prefixes:
            raise CourseError(f"lr has no rate for {name}: add one for the prefix ''")
        groups[max(prefixes, key=len)].append(parameter)
    if unused := [prefix for prefix, found in groups.items() if not found]:
        parts = ", ".join(name for name, _ in model.named_children())
        raise CourseError(f"lr has a rate for {unused[0]!r}, and no parameter's name starts so; the parts are {parts}")
    return [{"params": found, "lr": rates[prefix]} for prefix, found in groups.items()]


def _mean_of(decay: float):
    """Exponential mean; over few steps plainly a mean, so that the first weights do not stay in it for long."""

    @torch.no_grad()
    def update(means: list[Tensor], values: list[Tensor], seen: Tensor | int) -> None:
        share = 1 - min(decay, (1 + float(seen)) / (10 + float(seen)))
        if means[0].is_floating_point():
            torch._foreach_lerp_(means, values, share)
        else:
            torch._foreach_copy_(means, values)

    return update
