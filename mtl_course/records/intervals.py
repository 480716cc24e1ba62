"""What the summaries of records are made of: numbers by arm, means, differences and their intervals."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from mtl_course.errors import CourseError, refuse_unknown

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
T_95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
        2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
        2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423)  # fmt: skip


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every (path, value) in nested dicts and lists: names in dicts, positions in lists."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield path, value
    for key, part in pairs or ():
        yield from leaves(part, (*path, key))


def dotted(path: tuple) -> str:
    """A path as one name: ("depth", "abs_error") is depth.abs_error."""
    return ".".join(map(str, path))


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
            refuse_unknown(
                f"part of {name!r} in the numbers of a run", [part], value if isinstance(value, dict) else ()
            )
            value = value[part]
        found.setdefault(result["arm"], []).append(value)
    if len({tuple(sorted(r["seed"] for r in results if r["arm"] == arm)) for arm in found}) > 1:
        raise CourseError(
            f"the arms have other seeds, so their {name!r} cannot be compared in pairs: run what is missing"
        )
    return {result["arm"]: found[result["arm"]] for result in results}


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half width of the 95 % interval of the mean, by Student's t.

    Args:
        values: independent repeats, such as one a seed.

    Returns:
        `mean`, `half_width` (NaN for a single value) and `n`.

    Raises:
        CourseError: without values, or if one is not finite.
    """
    _refuse_gaps(values)
    n = len(values)
    half_width = _t_95(n - 1) * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan
    return {"mean": statistics.fmean(values), "half_width": half_width, "n": n}


def paired_difference(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """`mean_interval` of values - others, pair by pair: what both share, such as a seed's data, drops out.

    Raises:
        CourseError: if there are more of one than of the other.
    """
    if len(values) != len(others):
        raise CourseError(f"pairs are expected, and not {len(values)} values against {len(others)}")
    return mean_interval([a - b for a, b in zip(values, others)])


def _t_95(df: int) -> float:
    if df <= len(T_95):
        return T_95[df - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)  # Abramowitz and Stegun 26.7.5


def _refuse_gaps(values: Sequence[float]) -> None:
    if not values or not all(math.isfinite(value) for value in values):
        raise CourseError(f"finite numbers are expected, and not {list(values)}: leave out what is not defined")
