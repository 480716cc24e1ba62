"""f(x, θ) = Σᵢ αᵢ gᵢ(x, θᵢ): α as a vector, as a matrix, and as a function of x.

A part gᵢ maps images (B, 3, H, W) to outputs (B, C, H, W). Only outputs that mean the same thing can be added: all
parts of one mix have the same C and answer the same question.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_course.errors import CourseError


def mix(alpha: Tensor, outputs: Tensor) -> Tensor:
    """Σᵢ αᵢ gᵢ for one question.

    Args:
        alpha: (N,) the same weights everywhere, (N, B) other weights for each picture, or (N, B, H, W) for each pixel.
        outputs: the gᵢ(x), (N, B, C, H, W).

    Returns:
        f(x), (B, C, H, W).

    Raises:
        CourseError: if alpha has another shape.
    """
    parts, pictures, _, *pixels = outputs.shape
    allowed = [(parts,), (parts, pictures), (parts, pictures, *pixels)]
    if tuple(alpha.shape) not in allowed:
        raise CourseError(f"alpha has shape {tuple(alpha.shape)}; these outputs allow {', '.join(map(str, allowed))}")
    if alpha.ndim > 2:
        alpha = alpha[:, :, None]  # (N, B, 1, H, W): every channel is weighed alike
    return (alpha.reshape(*alpha.shape, *[1] * (outputs.ndim - alpha.ndim)) * outputs).sum(0)


def evaluate_parts(parts: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The outputs gᵢ(x) of all parts, stacked: (N, B, C, H, W)."""
    return torch.stack([part(images) for part in parts])


class VectorMix(nn.Module):
    """f(x) = Σᵢ αᵢ gᵢ(x): a fixed or learned vector α."""

    def __init__(self, parts: Sequence[nn.Module], alpha: Sequence[float] | None = None, learn: bool = True):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        start = torch.full((len(parts),), 1 / len(parts)) if alpha is None else torch.as_tensor(alpha).float()
        self.alpha = nn.Parameter(start, requires_grad=learn)  # (N,)

    def forward(self, images: Tensor) -> Tensor:
        return mix(self.alpha, evaluate_parts(self.parts, images))


class MatrixMix(nn.Module):
    """f_t(x) = Σᵢ α_{t,i} gᵢ(x): T tasks mix the same parts, each by its own row of α."""

    def __init__(self, parts: Sequence[nn.Module], tasks: Sequence[str], learn: bool = True):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.tasks = tuple(tasks)
        start = torch.full((len(self.tasks), len(parts)), 1 / len(parts))
        self.alpha = nn.Parameter(start, requires_grad=learn)  # (T, N)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        outputs = evaluate_parts(self.parts, images)  # the parts run once for all tasks
        return {task: mix(row, outputs) for task, row in zip(self.tasks, self.alpha)}


class GatedMix(nn.Module):
    """f(x) = Σᵢ αᵢ(x) gᵢ(x): a gate chooses among the parts, for each picture or for each pixel.

    The gate maps images to scores, (B, N) or (B, N, H, W); α is their softmax over the parts, so Σᵢ αᵢ(x) = 1.

    Source: Jacobs et al., "Adaptive mixtures of local experts", Neural Computation 3, 1991.
    """

    def __init__(self, parts: Sequence[nn.Module], gate: nn.Module):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.gate = gate

    def alpha(self, images: Tensor) -> Tensor:
        """α(x): (N, B) or (N, B, H, W)."""
        return self.gate(images).softmax(1).movedim(1, 0)

    def forward(self, images: Tensor) -> Tensor:
        return mix(self.alpha(images), evaluate_parts(self.parts, images))
