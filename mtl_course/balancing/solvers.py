"""The small convex problems behind the rules: K numbers, solved exactly by active sets or Newton's method.

Inside the rules a Gramian is a NumPy array in float64: K is small, and NumPy's calls cost a fraction of torch's.
"""

import numpy as np
from numpy import ndarray as Array

SAME = 1e-13  # gradients whose cosines differ by less count as one direction


def unit(gramian: Array) -> tuple[Array, Array]:
    """Norms of the task gradients (K,), and their cosines (K, K); the norm of a zero gradient is taken as 1."""
    norms = np.sqrt(np.diagonal(gramian))
    norms = np.where(norms == 0, 1.0, norms)
    return norms, gramian / (norms[:, None] * norms)


def refuse_zero(gramian: Array, rule: str) -> None:
    """Raise for a rule that is not defined where the gradient of a task is zero."""
    if not np.diagonal(gramian).all():
        raise ValueError(f"{rule} is not defined where the gradient of a task is zero: leave that task out")


def least(matrix: Array, vectors: Array) -> Array:
    """A u >= 0 that minimises ½ uᵀAu - bᵀu; tasks that A and b do not tell apart get the same.

    Args:
        matrix: A, positive semi-definite, (K, K).
        vectors: b in the range of A, (K,), or several, (N, K).

    Returns:
        u for each b, in the shape of `vectors`.

    Source: Lawson and Hanson, "Solving least squares problems", 1974, chapter 23 (here written with AᵀA).
    """
    norms, matrix = unit(matrix)
    found = [_active_set(matrix, vector) for vector in np.atleast_2d(vectors / norms)]
    return _alike(matrix, np.stack(found)).reshape(vectors.shape) / norms


def _alike(cosines: Array, u: Array, norms: Array | None = None) -> Array:
    """Gradients of one direction (and norm, if given) share what they got, which changes no d: none is preferred."""
    alike = (cosines > 1 - SAME) | np.eye(len(cosines), dtype=bool)  # (K, K)
    if norms is not None:
        alike &= np.abs(norms[:, None] - norms) <= SAME * norms
    return u @ alike / alike.sum(1)


def _active_set(matrix: Array, vector: Array) -> Array:
    """`least` for a matrix with a diagonal of 1 (or 0)."""
    u = np.zeros_like(vector)
    free, barred = np.zeros((2, len(vector)), dtype=bool)
    for _ in range(10 * len(vector) + 10):
        slope = np.where(free | barred, -np.inf, vector - matrix @ u)
        entering = slope.argmax()
        if slope[entering] <= 1e-14 * (np.abs(vector).max() + u.max()):
            return u
        free[entering] = True
        target = _solve(matrix, vector, free)
        if target[entering] <= 0:  # rounding alone made the slope positive
            free[entering], barred[entering] = False, True
            continue
        barred[:] = False
        while (blocked := free & (target <= 0)).any():
            # How far each lets us go.
            stay = np.where(blocked, u / np.where(blocked & (u > target), u - target, 1.0), np.inf)
            u = np.where(free, u + stay.min() * (target - u), 0.0)
            free[stay.argmin()] = False
            target = _solve(matrix, vector, free)
        u = target
    raise ValueError("the quadratic problem of this rule did not converge: look at the Gramian")


def _solve(matrix: Array, vector: Array, free: Array) -> Array:
    """The minimum with the other entries held at 0; a negative answer where there is none."""
    answer = np.zeros_like(vector)
    try:
        answer[free] = np.linalg.solve(matrix[free][:, free], vector[free])
    except np.linalg.LinAlgError:
        answer[free] = -1.0
    return answer


def raise_the_worst(gramian: Array, radius: float) -> Array:
    """The x >= 0 for which d = g₀ + Σ xᵢgᵢ, within `radius` of the mean gradient g₀, has the greatest min gᵢ·d.

    Of all d with gᵢ·d >= μ the nearest to g₀ has an x that is linear in μ, piece by piece. This raises μ from its value
    at g₀, where x = 0, until the radius is used up, or no d has a greater μ.

    Args:
        gramian: (K, K).
        radius: >= 0.
    """
    norms, cosines = unit(gramian)
    one, b = 1 / norms, gramian.mean(1) / norms  # the conditions in units of the norms: Cx + b >= μ one
    x = np.zeros_like(b)
    tight = [int(np.argmin(b / one))]  # the tasks with gᵢ·d = μ, where x = μp - q
    level = b[tight[0]] / one[tight[0]]
    if radius == 0 or cosines[tight[0], tight[0]] == 0:
        return x  # a zero gradient cannot be helped
    for _ in range(10 * len(b) + 10):
        part, others = cosines[tight][:, tight], cosines[:, tight]
        p, q = np.linalg.solve(part, np.stack([one[tight], b[tight]], 1)).T
        a, h = one[tight] @ p, one[tight] @ q
        last = (h + np.sqrt(max(h * h - a * (b[tight] @ q - radius**2), 0.0))) / a  # the end of the ball
        rate, events = others @ p - one, np.full(len(b), np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            falling = rate < -1e-12 * (one + np.abs(others) @ np.abs(p))  # beyond what rounding can do
            events = np.where(falling, np.maximum((others @ q - b) / rate, level), events)
            events[tight] = np.where(p < 0, np.maximum(q / p, level), np.inf)
        task, level = int(events.argmin()), min(last, events.min())
        x[:] = 0.0
        x[tight] = level * p - q
        if level == last or not _exchange(tight, task, cosines, x):
            return _alike(cosines, np.maximum(x, 0.0), norms) / norms
    raise ValueError("the problem of this rule did not converge: look at the Gramian")


def _exchange(tight: list[int], task: int, cosines: Array, x: Array) -> bool:
    """Let a task leave or enter the tight ones; False if then no d is left."""
    if task in tight:
        tight.remove(task)
        return True
    mixed = np.linalg.solve(cosines[tight][:, tight], cosines[tight, task])
    if cosines[task, task] - cosines[task, tight] @ mixed < SAME:  # its gradient is Σ mixedᵢgᵢ: one of them must go
        room = [x[i] / part if part > 1e-9 else np.inf for i, part in zip(tight, mixed)]  # below that it is rounding
        if min(room) == np.inf:
            return False
        tight.pop(int(np.argmin(room)))
    tight.append(task)
    return True


def fair(gramian: Array, power: float, rule: str) -> Array:
    """The α > 0 with Gα = α^(-power), by Newton's method on ½αᵀGα - Σ φ(αᵢ), φ' = α^(-power).

    Args:
        gramian: (K, K).
        power: > 0.
        rule: named in the error.

    Raises:
        ValueError: if a gradient is zero, or the gradients cancel, so that no α solves it.
    """
    refuse_zero(gramian, rule)
    alpha = np.diagonal(gramian) ** (-1 / (1 + power))  # the answer, were the gradients orthogonal
    for _ in range(200):
        slope = gramian @ alpha - alpha**-power
        curvature = gramian + np.diag(power * alpha ** (-power - 1))
        # In units of α, in which the matrix is well scaled.
        try:
            step = -np.linalg.solve(curvature * np.outer(alpha, alpha), slope * alpha)
        except np.linalg.LinAlgError:
            break
        if np.abs(step).max() < 1e-13:
            return alpha
        size = min(1.0, 0.9 / max(-step.min(), 1e-300))
        start = step @ (slope * alpha)  # < 0: the way is down
        for _ in range(60):
            new = alpha * (1 + size * step)
            if step @ (alpha * (gramian @ new - new**-power)) <= 0.5 * abs(start):
                break
            size /= 2
        alpha = new
        if np.abs(step).max() < 1e-9 and size == 1:
            return alpha  # one more step than quadratic convergence needs
    raise ValueError(f"{rule} has no solution here: the task gradients cancel, no step helps them all")
