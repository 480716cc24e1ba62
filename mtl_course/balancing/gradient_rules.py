"""Rules for α from the gradients: pure functions of the Gramian G = JJᵀ, whose entries are the gᵢ·gⱼ.

A step is d = Σ αᵢ gᵢ. To add a rule, write one function from G, a NumPy matrix, to α under
`@gradient_rule(further=True)`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from mtl_course.balancing.registry import gradient_rule
from mtl_course.balancing.solvers import Array, fair, least, raise_the_worst, refuse_zero, unit
from mtl_course.errors import CourseError


@gradient_rule(reads="nothing")
def equal(gramian: Array) -> Array:
    """αᵢ = 1: the plain sum of the losses."""
    return np.ones(len(gramian))


def fixed(alpha: Sequence[float]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The rule that always answers `alpha`.

    Args:
        alpha: (K,), finite, >= 0 and not all 0.

    Raises:
        CourseError: if alpha is something else; of the rule ValueError, if it is asked for another K.
    """
    weights = np.array(alpha, dtype=np.float64)
    if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise CourseError(f"loss weights are finite, >= 0 and not all 0, and these are {list(alpha)}")

    def rule(gramian: torch.Tensor) -> torch.Tensor:
        if len(gramian) != len(weights):
            raise ValueError(f"fixed has weights for {len(weights)} tasks, and there are {len(gramian)}")
        return torch.as_tensor(weights).to(gramian.device, gramian.dtype)

    rule.reads, rule.__name__, rule.keywords = "nothing", "fixed", {"alpha": weights.tolist()}
    return rule


@gradient_rule
def pcgrad(gramian: Array, generator: torch.Generator | None = None) -> Array:
    """For i, for j ≠ i in random order: if pᵢ·gⱼ < 0, take from pᵢ its part along gⱼ. d = Σ pᵢ.

    Args:
        gramian: (K, K).
        generator: draws the orders; for K <= 2 there is but one.

    Source: Yu et al., arXiv:2001.06782, algorithm 1.
    """
    tasks = len(gramian)
    return _surgery(gramian, [torch.randperm(tasks, generator=generator).tolist() for _ in range(tasks)])


def _surgery(gramian: Array, orders: Sequence[Sequence[int]]) -> Array:
    p = np.eye(len(gramian))  # row i: the coefficients of pᵢ over the gradients
    for i, order in enumerate(orders):
        for j in order:
            along = p[i] @ gramian[j]  # pᵢ·gⱼ
            if j != i and along < 0 < gramian[j, j]:  # rounding can give a zero gradient an inner product
                p[i, j] -= along / gramian[j, j]
    return p.sum(0)


@gradient_rule(never_conflicts=True)
def mgda(gramian: Array) -> Array:
    """The shortest convex combination: min ‖Σ αᵢgᵢ‖² over α >= 0, Σα = 1.

    Source: Désidéri 2012; Sener and Koltun, arXiv:1810.04650, equation 3.
    """
    scale = np.diagonal(gramian).min()
    if scale == 0:  # a zero gradient is the shortest
        return (np.diagonal(gramian) == 0) / (np.diagonal(gramian) == 0).sum()
    # With + scale (Σα - 1)² the side condition goes; what is left differs from α by a factor.
    alpha = least(gramian + scale, np.full(len(gramian), scale))
    return alpha / alpha.sum()


@gradient_rule
def cagrad(gramian: Array, c: float = 0.5) -> Array:
    """The d within c‖g₀‖ of the mean gradient g₀ whose worst gᵢ·d is best.

    d = g₀ + (c‖g₀‖/‖g_w‖) g_w, w the minimum of g_w·g₀ + c‖g₀‖‖g_w‖ over the simplex. Where g_w = 0 divides by zero,
    d is the best one nearest to g₀.

    Args:
        gramian: (K, K).
        c: >= 0; 0 gives the mean.

    Raises:
        ValueError: if c < 0.

    Source: Liu et al., arXiv:2110.14048, equations 3 and 4, without the rescaling by 1/(1 + c²) of their code.
    """
    if not 0 <= c < np.inf:
        raise ValueError(f"cagrad needs a finite c >= 0, and not {c}")
    return 1 / len(gramian) + raise_the_worst(gramian, c * np.sqrt(max(gramian.mean(), 0.0)))


@gradient_rule
def imtl_g(gramian: Array) -> Array:
    """The d with the same length along every gradient, d·gᵢ/‖gᵢ‖, and Σα = 1: α ∝ G⁻¹ sqrt(diag G).

    Raises:
        ValueError: if G is singular, or the sum is 0.

    Source: Liu et al., "Towards impartial multi-task learning", ICLR 2021, openreview IMPnRXEWpvr, equation 5.
    """
    refuse_zero(gramian, "imtl_g")
    norms, cosines = unit(gramian)
    eigenvalues, vectors = np.linalg.eigh(cosines)
    if eigenvalues[0] < 1e-12:
        raise ValueError("imtl_g is not defined where G is singular: some task gradients depend on the others")
    alpha = vectors @ (vectors.sum(0) / eigenvalues) / norms
    total = alpha.sum()
    if abs(total) < 1e-12 * np.abs(alpha).max():
        raise ValueError("imtl_g is not defined here: its weights sum to 0 and cannot be scaled to 1")
    return alpha / total


@gradient_rule(never_conflicts=True)
def nash(gramian: Array) -> Array:
    """The bargain Gα = 1/α: no task can gain in relative terms more than the others lose. ‖d‖ = √K.

    Raises:
        ValueError: if a gradient is zero, or the gradients cancel, so that no α solves it.

    Source: Navon et al., arXiv:2202.01017, claim 3.1.
    """
    return fair(gramian, 1.0, "nash")


@gradient_rule
def fairgrad(gramian: Array, a: float = 2.0) -> Array:
    """Gα = α^(-1/a): a = 1 is Nash; the greater a, the more the slowest task counts.

    Args:
        gramian: (K, K).
        a: > 0.

    Raises:
        ValueError: if a gradient is zero, the gradients cancel, or a <= 0.

    Source: Ban and Ji, arXiv:2402.15638, equation 4.
    """
    if not 0 < a < np.inf:
        raise ValueError(f"fairgrad needs a finite a > 0, and not {a}")
    return fair(gramian, 1 / a, "fairgrad")


@gradient_rule
def aligned(gramian: Array) -> Array:
    """α = B w with B = √λ_min V Λ^(-1/2) Vᵀ and w = 1/K: the gradients made orthogonal and equally long.

    Eigenvalues under K ε times the largest count as 0 and are dropped.

    Raises:
        ValueError: if every gradient is zero.

    Source: Senushkin et al., arXiv:2305.19000, algorithm 1.
    """
    eigenvalues, vectors = np.linalg.eigh(gramian)
    kept = eigenvalues > len(gramian) * np.finfo(np.float64).eps * eigenvalues[-1]
    if not kept.any():
        raise ValueError("aligned is not defined where every task gradient is zero")
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    return vectors @ (np.sqrt(eigenvalues[0] / eigenvalues) * vectors.mean(0))


@gradient_rule(never_conflicts=True)
def upgrad(gramian: Array) -> Array:
    """Project each gᵢ/K onto the cone of directions that harm no task, and add: Σᵢ argmin vᵀGv over v >= eᵢ/K.

    Source: Quinton and Rey, arXiv:2406.16232, equation 5.
    """
    return 1 / len(gramian) + least(gramian, -gramian / len(gramian)).sum(0)


@gradient_rule(never_conflicts=True)
def dual_projection(gramian: Array) -> Array:
    """Project the mean gradient onto the cone of directions that harm no task: min vᵀGv over v >= 1/K.

    Source: Lopez-Paz and Ranzato, arXiv:1706.08840, equation 11 (GEM).
    """
    return 1 / len(gramian) + least(gramian, -gramian.mean(1))
