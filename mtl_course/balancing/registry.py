"""What makes a rule of a function on a Gramian: the check of G, float64 inside, and the list of all rules."""

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch

from mtl_course.balancing.solvers import Array, unit

GRADIENT_RULES: dict[str, Callable[..., torch.Tensor]] = {}  # lesson 06 and the records compare these: they stay
FURTHER_RULES: dict[str, Callable[..., torch.Tensor]] = {}  # those that came later


def gradient_rule(function: Callable[..., Array] | None = None, *, reads: str = "gramian",
                  never_conflicts: bool = False, further: bool = False) -> Callable:  # fmt: skip
    """Make a rule of a function from G, a NumPy array (K, K) in float64, to α, (K,), and put it into a list of rules.

    The rule checks G and gives α in the dtype and on the device of G. The tests find every rule in the lists.

    Args:
        function: the formula.
        reads: "gramian", or "nothing" if α does not depend on the gradients, which then are not computed.
        never_conflicts: whether the rule promises gᵢ·d >= 0 for every task.
        further: whether it joins FURTHER_RULES, as a new rule does, and not GRADIENT_RULES.
    """
    if function is None:
        return lambda f: gradient_rule(f, reads=reads, never_conflicts=never_conflicts, further=further)

    @wraps(function)
    def rule(gramian: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        gramian = torch.as_tensor(gramian)
        alpha = function(check(gramian, reads != "nothing"), *args, **options)
        dtype = gramian.dtype if gramian.is_floating_point() else torch.float64
        return torch.from_numpy(alpha).to(gramian.device, dtype)

    rule.reads, rule.never_conflicts = reads, never_conflicts
    (FURTHER_RULES if further else GRADIENT_RULES)[function.__name__] = rule
    return rule


def check(gramian: torch.Tensor, entries: bool = True) -> Array:
    """The Gramian as float64 on the CPU.

    Args:
        gramian: (K, K).
        entries: whether more than its shape and NaN matters.

    Raises:
        ValueError: if it is no Gramian: not square, empty, not finite, not symmetric, or with a negative eigenvalue.
    """
    if gramian.ndim != 2 or gramian.shape[0] != gramian.shape[1] or not len(gramian):
        raise ValueError(f"a Gramian of K >= 1 gradients is (K, K), and this is {tuple(gramian.shape)}")
    # What rounding can do to a Gramian of this dtype, and to one that was computed in float32.
    tolerance = 1e-6 if gramian.dtype == torch.float64 else 1e-3
    if gramian.dtype in (torch.float16, torch.bfloat16):
        tolerance = max(tolerance, len(gramian) * torch.finfo(gramian.dtype).eps)
    matrix = gramian.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(matrix).all():
        raise ValueError("the Gramian is not finite: a gradient holds NaN or infinity, so look at the losses")
    return _semidefinite(matrix, tolerance) if entries else matrix


def _semidefinite(matrix: Array, tolerance: float) -> Array:
    if (lowest := matrix.diagonal().min()) < 0:
        raise ValueError(f"a Gramian has squared lengths on its diagonal, and this one has {lowest:.3g}")
    _, cosines = unit(matrix)
    if (matrix != matrix.T).any():
        if np.abs(cosines - cosines.T).max() > tolerance:
            raise ValueError("a Gramian is symmetric, and this matrix is not: pass J @ J.T")
        matrix = (matrix + matrix.T) / 2
    if (lowest := np.linalg.eigvalsh(cosines)[0]) < -tolerance:
        raise ValueError(f"a Gramian has no negative eigenvalue, and this matrix has ({lowest:.3g} with unit diagonal)")
    return matrix
