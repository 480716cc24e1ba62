"""Rules for α from the losses, which cost one backward. Those with a state are modules, so that it can be saved.

A rule is made for K tasks. `alpha(losses)` takes the losses of all K, or of the tasks `present` (their indices); it
gives α in the dtype and on the device of the losses. Inside, all is float64 on the CPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_course.errors import CourseError


def check_losses(losses: Tensor, count: int | None = None, logarithm: str = "") -> Tensor:
    """The losses as float64 (K,) on the CPU.

    Args:
        losses: (K,).
        count: K, if it is known.
        logarithm: the rule that takes the logarithm of the losses, if there is one.

    Raises:
        ValueError: if they are not `count` finite numbers, or their logarithm is wanted and not defined.
    """
    values = torch.as_tensor(losses).detach().cpu().double()
    if values.ndim != 1 or not len(values) or (count is not None and len(values) != count):
        raise ValueError(f"expected are {count or 'K >= 1'} losses, (K,), and these are {tuple(values.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"the losses are not finite: {values.tolist()}")
    if logarithm and not (values > 0).all():
        raise ValueError(f"{logarithm} needs losses > 0, and these are {values.tolist()}: leave out a task without one")
    return values


def geometric_mean(losses: Tensor) -> Tensor:
    """L = (Π Lᵢ)^(1/K), so αᵢ = L/(K Lᵢ): a task at 1 % of its loss counts as much as one at 100 %.

    Args:
        losses: (K,), > 0.

    Source: Chennupati et al., arXiv:1904.08492, equation 2.
    """
    values = check_losses(losses, logarithm="geometric_mean")
    return (values.log().mean().exp() / (len(values) * values)).to(losses)


geometric_mean.reads = "losses"


class LossRule(nn.Module):
    """A rule that reads the losses and may learn. A subclass gives `weights`.

    Args:
        count: the number of tasks, K.
    """

    reads = "losses"  # or "losses and gramian"
    wants_new_losses = False  # whether `after_step` must be called, with a second forward pass

    def __init__(self, count: int):
        super().__init__()
        if count < 1:
            raise CourseError(f"a rule is for K >= 1 tasks, and not {count}")
        self.count = count

    def alpha(self, losses: Tensor, present: Sequence[int] | None = None) -> Tensor:
        """α of the tasks present, (K,); it carries a gradient to what the rule learns by the optimizer.

        Raises:
            ValueError: if a loss is not finite, or their number is wrong.
        """
        index = list(range(self.count)) if present is None else list(present)
        return self.weights(check_losses(losses, len(index)), index).to(losses.device, losses.dtype)

    def weights(self, losses: Tensor, present: list[int]) -> Tensor:
        """The formula: losses, float64 (K,), to α."""
        raise NotImplementedError

    def penalty(self, present: Sequence[int]) -> Tensor:
        """What is added to Σ αᵢLᵢ to train the rule's own parameters."""
        return torch.zeros((), dtype=torch.float64)

    def observe(self, losses: Tensor, gramian: Tensor, present: list[int]) -> None:
        """Learn from the gradients of this step; for rules that read the Gramian."""

    def after_step(self, losses: Tensor, present: Sequence[int] | None = None) -> None:
        """Learn from the losses of the same batch after the step of the model."""

    def after_epoch(self) -> None:
        """Learn from the epoch."""


class DynamicAverage(LossRule):
    """αᵢ = K softmax(rᵢ/T), rᵢ the mean loss of the last epoch over that of the epoch before it.

    Who slows down counts more. In the first two epochs αᵢ = 1.

    Args:
        count: K.
        temperature: T > 0.

    Source: Liu et al., arXiv:1803.10704, equation 7.
    """

    def __init__(self, count: int, temperature: float = 2.0):
        super().__init__(count)
        if not temperature > 0:
            raise CourseError(f"dynamic_average needs a temperature > 0, and not {temperature}")
        self.temperature = temperature
        # Of the last two epochs, the newer one last.
        self.register_buffer("means", torch.full((2, count), torch.nan, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(2, count, dtype=torch.float64))  # Σ losses and their number

    def weights(self, losses: Tensor, present: list[int]) -> Tensor:
        self.sums[:, present] += torch.stack([losses, torch.ones_like(losses)])
        ratios = self.means[1] / self.means[0]
        if not ratios[present].isfinite().all():
            return torch.ones(len(present), dtype=torch.float64)
        return len(present) * (ratios[present] / self.temperature).softmax(0)

    def after_epoch(self) -> None:
        self.means = torch.stack([self.means[1], self.sums[0] / self.sums[1]])
        self.sums = torch.zeros_like(self.sums)


class RandomWeights(LossRule):
    """α = softmax(z), z ~ N(0, I), drawn anew at every step: the rule that every other one has to beat.

    Args:
        count: K.
        seed: of the draws.

    Source: Lin et al., arXiv:2111.10603, section 3.
    """

    def __init__(self, count: int, seed: int = 0):
        super().__init__(count)
        self.generator = torch.Generator().manual_seed(seed)

    def weights(self, losses: Tensor, present: list[int]) -> Tensor:
        return torch.randn(self.count, generator=self.generator, dtype=torch.float64)[present].softmax(0)

    def get_extra_state(self) -> Tensor:
        """Where the draws are."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from there."""
        self.generator.set_state(state)


class SmoothTchebycheff(LossRule):
    """L = μ log Σ exp(λᵢ(Lᵢ - zᵢ)/μ), so α = λ softmax(λ(L - z)/μ): a smooth maximum, μ → 0 the worst task alone.

    Args:
        count: K.
        mu: μ > 0, in units of the losses.
        preference: λᵢ > 0, (K,), default 1 each.
        ideal: zᵢ, the loss that each task could reach, (K,), default 0 each.

    Source: Lin et al., arXiv:2402.19078, equation 6.
    """

    def __init__(self, count: int, mu: float = 1.0, preference: Sequence[float] = (), ideal: Sequence[float] = ()):
        super().__init__(count)
        if not mu > 0:
            raise CourseError(f"smooth_tchebycheff needs mu > 0, and not {mu}")
        self.mu = mu
        self.register_buffer("preference", torch.as_tensor(preference or [1.0] * count, dtype=torch.float64))
        self.register_buffer("ideal", torch.as_tensor(ideal or [0.0] * count, dtype=torch.float64))

    def weights(self, losses: Tensor, present: list[int]) -> Tensor:
        preference = self.preference[present]
        return preference * (preference * (losses - self.ideal[present]) / self.mu).softmax(0)
