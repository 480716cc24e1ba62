"""What the summaries of records are made of: numbers by arm, means, differences and their intervals."""

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mtl_course.errors import CourseError, refuse_unknown

LEVEL = 0.95
RESAMPLES, BOOTSTRAP_SEED = 10_000, 0


def by_arm(results: Sequence[dict], name: str) -> dict[str, list]:
    """One number of every run, for each arm in the order of the seeds, so that arms can be compared in pairs.

    Args:
        results: those of a record: each has `arm`, `seed` and `numbers`.
        name: with dots, such as depth.abs_error; a curve is named alike.

    Raises:
        CourseError: if a run has no such number, or the arms have other seeds.
    """
    found: dict[str, list] = {}
    for result in sorted(results, key=lambda result: result["seed"]):
        value = result["numbers"]
        for part in name.split("."):
            refuse_unknown(f"part of {name!r} in a run", [part], value if isinstance(value, dict) else ())
            value = value[part]
        found.setdefault(result["arm"], []).append(value)
    if len({tuple(sorted(r["seed"] for r in results if r["arm"] == arm)) for arm in found}) > 1:
        raise CourseError(f"the arms have other seeds, so {name!r} cannot be paired: run what is missing")
    return {result["arm"]: found[result["arm"]] for result in results}


def mean_interval(values: Sequence[float], comparisons: int = 1) -> dict[str, float]:
    """Mean and half width of the 95 % interval of the mean, by Student's t.

    Args:
        values: independent repeats, such as one a seed.
        comparisons: so many intervals hold together with 95 % (Bonferroni: each misses with 5 % / comparisons).

    Returns:
        `mean`, `half_width` (NaN for a single value) and `n`.

    Raises:
        CourseError: without values, or if one is not finite.
    """
    _refuse_gaps(values)
    n, half_width = len(values), math.nan
    if n > 1:
        half_width = _t_quantile(n - 1, (1 - LEVEL) / comparisons) * statistics.stdev(values) / math.sqrt(n)
    return {"mean": statistics.fmean(values), "half_width": half_width, "n": n}


def paired_difference(values: Sequence[float], others: Sequence[float], comparisons: int = 1) -> dict[str, float]:
    """`mean_interval` of values - others, pair by pair: what both share, such as a seed's data, drops out.

    Raises:
        CourseError: if there are more of one than of the other.
    """
    if len(values) != len(others):
        raise CourseError(f"pairs are expected, and not {len(values)} values against {len(others)}")
    return mean_interval([a - b for a, b in zip(values, others)], comparisons)


def bootstrap_interval(values: Sequence, statistic: Callable[[list], float] | None = None,
                       comparisons: int = 1) -> dict[str, float]:  # fmt: skip
    """A statistic and its 95 % percentile bootstrap interval, over the repeats; it draws the same in every call.

    Args:
        values: independent repeats, such as one a seed: numbers, or whatever `statistic` reads.
        statistic: a list of them -> a number, whatever their order; default the mean.
        comparisons: see `mean_interval`.

    Returns:
        `value`, `low`, `high` and `n`.

    Raises:
        CourseError: without values, or if the statistic of a resample is not finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    values, n, statistic = list(values), len(values), statistic or statistics.fmean
    if not n:
        _refuse_gaps(values)
    different, where = _resamples(n)
    found = [statistic([values[i] for i in row]) for row in different]
    _refuse_gaps(found)
    outside = (1 - LEVEL) / comparisons / 2
    low, high = np.quantile(np.asarray(found)[where], [outside, 1 - outside])
    return {"value": float(statistic(values)), "low": float(low), "high": float(high), "n": n}


@functools.cache
def _resamples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `n` repeats, each different resample once, (M, n); and which of them each draw is, (RESAMPLES,)."""
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(0, n, (RESAMPLES, n))
    different, where = np.unique(np.sort(drawn, axis=1), axis=0, return_inverse=True)
    return different, where.ravel()


def judge(gains: Mapping[str, Sequence[float]], unit: str) -> dict:
    """The verdict on a claim, from what it gained in settings that were named before the runs.

    Args:
        gains: one number a seed for each setting, + = the claim is right.
        unit: of these numbers.

    Returns:
        `unit`; `verdict`: "holds" if every setting's simultaneous interval lies above 0, "fails" if none does, else
        "depends"; and `effects`: {setting: `mean`, `half_width`, `low`, `high`, `bootstrap` (low, high), `n`}.

    Raises:
        CourseError: without settings, or with fewer than two seeds, of which no interval follows.
    """
    if not gains or min(map(len, gains.values())) < 2:
        raise CourseError("a verdict needs settings, and two seeds or more in each")
    effects = {setting: _effect(values, len(gains)) for setting, values in gains.items()}
    shown = [effect["low"] > 0 for effect in effects.values()]
    verdict = "holds" if all(shown) else "depends" if any(shown) else "fails"
    return {"unit": unit, "verdict": verdict, "effects": effects}


def _effect(values: Sequence[float], comparisons: int) -> dict:
    mean, half_width, n = mean_interval(values, comparisons).values()
    bootstrap = bootstrap_interval(values, comparisons=comparisons)
    ends = {"low": mean - half_width, "high": mean + half_width, "bootstrap": [bootstrap["low"], bootstrap["high"]]}
    return {"mean": mean, "half_width": half_width, **ends, "n": n}


def _t_quantile(df: int, outside: float) -> float:
    """What |T| exceeds with the probability `outside`, by bisection of the angle arctan(t / √df)."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, df) < 1 - outside else (low, middle)
    return math.sqrt(df) * math.tan(low)


def _t_inside(angle: float, df: int) -> float:
    """P(|T| < √df tan(angle)) for Student's t, a finite series (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    odd, cosine = df % 2, math.cos(angle)
    term = total = 0.0 if df == 1 else cosine if odd else 1.0
    for k in range(2 + odd, df - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _refuse_gaps(values: Sequence[float]) -> None:
    if not values or not all(math.isfinite(value) for value in values):
        raise CourseError(f"finite numbers are expected, and not {list(values)}: leave out what is not defined")
