"""Rules for α that learn: by the model's optimizer (Uncertainty) or by a descent of their own (GradNorm, Famo)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_course.balancing.loss_rules import LossRule, check_losses
from mtl_course.errors import CourseError


class Uncertainty(LossRule):
    """L = Σ ½e^(-sᵢ)Lᵢ + ½sᵢ, s = log σ² learned with the model: αᵢ = ½e^(-sᵢ), at its best ½/Lᵢ.

    Source: Kendall et al., arXiv:1705.07115, equation 7 (the same form for every task, also for classification).
    """

    def __init__(self, count: int):
        super().__init__(count)
        self.s = nn.Parameter(torch.zeros(count, dtype=torch.float64))

    def weights(self, losses: Tensor, present: list[int]) -> Tensor:
        return (-self.s[present]).exp() / 2

    def penalty(self, present: Sequence[int]) -> Tensor:
        return self.s[list(present)].sum() / 2


class _Descending(LossRule):
    """A rule with weights w that its own Adam moves; the state of both is saved."""

    def __init__(self, count: int, start: float, lr: float):
        super().__init__(count)
        self.register_buffer("w", torch.full((count,), start, dtype=torch.float64))
        self._adam = torch.optim.Adam([self.w], lr)

    def descend(self, gradient: Tensor) -> None:
        self.w.grad = gradient
        self._adam.step()
        self.w.grad = None

    def get_extra_state(self) -> dict:
        return self._adam.state_dict()

    def set_extra_state(self, state: dict) -> None:
        self._adam.load_state_dict(state)


class GradNorm(_Descending):
    """Weights w whose wᵢ‖∇Lᵢ‖ follow the pace rᵢ of learning: minimise Σ |wᵢ‖∇Lᵢ‖ - Ḡ rᵢ^a| over w, Σw = K.

    rᵢ is the loss over its first value, over the mean of that; Ḡ is the mean of the wᵢ‖∇Lᵢ‖; the target carries no
    gradient. ‖∇Lᵢ‖ is the root of Gᵢᵢ, over all shared parameters (or the representation), not over one layer.

    Args:
        count: K.
        asymmetry: a >= 0, how hard slow tasks are pushed.
        lr: of w, by Adam.

    Source: Chen et al., arXiv:1711.02257, algorithm 1.
    """

    reads = "losses and gramian"

    def __init__(self, count: int, asymmetry: float = 1.5, lr: float = 0.025):
        if not (asymmetry >= 0 and lr > 0):
            raise CourseError(f"grad_norm needs asymmetry >= 0 and lr > 0, and not {asymmetry} and {lr}")
        super().__init__(count, 1.0, lr)
        self.asymmetry = asymmetry
        self.register_buffer("first", torch.full((count,), torch.nan, dtype=torch.float64))

    def weights(self, losses: Tensor, present: list[int]) -> Tensor:
        return self.w[present].clone()

    def observe(self, losses: Tensor, gramian: Tensor, present: list[int]) -> None:
        losses = check_losses(losses, len(present), "grad_norm")
        self.first[present] = torch.where(self.first[present].isnan(), losses, self.first[present])
        norms = gramian.detach().cpu().double().diagonal().sqrt()
        pace = losses / self.first[present]
        scaled = self.w[present] * norms
        target = scaled.mean() * (pace / pace.mean()) ** self.asymmetry
        gradient = torch.zeros_like(self.w)
        gradient[present] = (scaled - target).sign() * norms
        self.descend(gradient)
        self.w.clamp_(min=1e-3)
        self.w *= self.count / self.w.sum()


class Famo(_Descending):
    """z = softmax(w), αᵢ = c zᵢ/Lᵢ with c = 1/Σ(zᵢ/Lᵢ); w then grows for the task whose log loss fell least.

    After a step w ← w - β(Jᵀ(log L_t - log L_{t+1}) + γw) by Adam, J the Jacobian of the softmax. L_{t+1} are the
    losses of the same batch after the step, so a second forward pass is needed; it must not move batch statistics.

    Args:
        count: K.
        lr: β.
        decay: γ.

    Source: Liu et al., arXiv:2306.03792, algorithm 1.
    """

    wants_new_losses = True

    def __init__(self, count: int, lr: float = 0.025, decay: float = 1e-3):
        super().__init__(count, 0.0, lr)
        self.decay = decay
        self.register_buffer("before", torch.full((count,), torch.nan, dtype=torch.float64))

    def weights(self, losses: Tensor, present: list[int]) -> Tensor:
        check_losses(losses, len(present), "famo")
        self.before.fill_(torch.nan)
        self.before[present] = losses
        scaled = self.w[present].softmax(0) / losses
        return scaled / scaled.sum()

    def after_step(self, losses: Tensor, present: Sequence[int] | None = None) -> None:
        """Learn from the losses of the same tasks after the step."""
        present = list(range(self.count)) if present is None else list(present)
        losses = check_losses(losses, len(present), "famo")
        if self.before[present].isnan().any():
            raise ValueError("famo compares losses before and after a step: call alpha with these tasks before")
        gain = self.before[present].log() - losses.log()
        self.before.fill_(torch.nan)
        z = self.w[present].softmax(0)
        gradient = self.decay * self.w
        gradient[present] += z * (gain - z @ gain)  # Jᵀ gain
        self.descend(gradient)
