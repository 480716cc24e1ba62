"""Intervals and verdicts: against Student's t computed otherwise, against every resample there is, and by hand."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from mtl_course import records
from mtl_course.errors import CourseError
from mtl_course.records.intervals import _t_quantile

README = (Path(__file__).resolve().parents[1] / "data" / "records" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("df", "outside", "expected"),
    [
        (1, 0.05, 12.7062),
        (2, 0.05, 4.3027),
        (4, 0.05, 2.7764),
        (4, 0.01, 4.6041),
        (9, 0.05, 2.2622),
        (30, 0.001, 3.6460),
    ],
)
def test_quantiles_as_tables_print_them(df, outside, expected):
    """From the tables of Student's t in textbooks."""
    assert _t_quantile(df, outside) == pytest.approx(expected, abs=5e-5)


def test_quantiles_in_closed_form():
    """With 1 and 2 degrees of freedom the quantile has a formula."""
    for outside in (0.5, 0.05, 0.05 / 7, 1e-5):
        inside = 1 - outside
        assert _t_quantile(1, outside) == pytest.approx(math.tan(math.pi / 2 * inside), rel=1e-9)
        assert _t_quantile(2, outside) == pytest.approx(inside * math.sqrt(2 / (1 - inside**2)), rel=1e-9)


def test_quantiles_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for df, comparisons in itertools.product([*range(1, 41), 99, 200, 999], (1, 2, 3, 8, 21, 1000)):
        expected = stats.t.ppf(1 - 0.025 / comparisons, df)
        assert _t_quantile(df, 0.05 / comparisons) == pytest.approx(expected, rel=1e-9)


def test_intervals_worked_by_hand():
    """1, 2, 3: mean 2, standard deviation 1, t with 2 degrees of freedom 4.3027; 6.2053 leaves half as much out."""
    interval = records.mean_interval([1, 2, 3])
    assert interval == {"mean": 2, "half_width": pytest.approx(4.30265 / math.sqrt(3), rel=1e-5), "n": 3}
    assert records.mean_interval([1, 2, 3], 2)["half_width"] == pytest.approx(6.2053 / math.sqrt(3), rel=1e-5)
    one = records.mean_interval([7.0])
    assert one["mean"] == 7 and math.isnan(one["half_width"]) and one["n"] == 1
    assert records.paired_difference([11, 102, 1003], [10, 100, 1000]) == interval
    assert records.paired_difference([11, 102, 1003], [10, 100, 1000], 2) == records.mean_interval([1, 2, 3], 2)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
@pytest.mark.parametrize("interval", [records.mean_interval, records.bootstrap_interval])
def test_intervals_of_nothing_or_of_gaps(values, interval):
    with pytest.raises(CourseError, match="finite"):
        interval(values)


def test_pairs_must_be_pairs():
    with pytest.raises(CourseError, match="pairs"):
        records.paired_difference([1, 2], [1])


def every_resample(n):
    """Each of the nⁿ resamples as the shares of its members, (nⁿ, n)."""
    drawn = np.array(list(itertools.product(range(n), repeat=n)))
    return (drawn[..., None] == np.arange(n)).mean(1)


def test_bootstrap_of_five_against_all_resamples():
    values = [0.3, 1.1, 1.9, 2.4, 7.0]
    for comparisons in (1, 4):
        found = records.bootstrap_interval(values, comparisons=comparisons)
        means, outside = every_resample(5) @ values, 0.025 / comparisons
        for side in (means - found["low"], found["high"] - means):
            assert (side < -1e-9).mean() < outside + 0.004 and (side < 1e-9).mean() > outside - 0.004
        assert found["value"] == pytest.approx(np.mean(values)) and found["n"] == 5
    assert found == records.bootstrap_interval(values, comparisons=4), "it draws the same in every call"


def test_bootstrap_of_anything():
    """The statistic sees lists of the objects themselves, as many as there are seeds."""
    runs = [{"score": value} for value in (1.0, 5.0, 2.0)]
    found = records.bootstrap_interval(runs, lambda resample: max(run["score"] for run in resample) + len(resample))
    assert found == {"value": 8, "low": 4, "high": 8, "n": 3}
    assert records.bootstrap_interval([3.0]) == {"value": 3, "low": 3, "high": 3, "n": 1}
    with pytest.raises(CourseError, match="finite"):
        records.bootstrap_interval(runs, lambda resample: math.nan)


def test_how_much_too_narrow_the_bootstrap_of_five_seeds_is():
    """The numbers that README.md gives, for normal data: 4000 sets of five, each with all 3125 resamples."""
    values = np.random.default_rng(0).standard_normal((4000, 5))
    low, high = np.quantile(values @ every_resample(5).T, [0.025, 0.975], axis=1)
    half_width = _t_quantile(4, 0.05) * values.std(1, ddof=1) / math.sqrt(5)
    bootstrap, student = ((low < 0) & (high > 0)).mean(), (np.abs(values.mean(1)) < half_width).mean()
    assert student == pytest.approx(0.95, abs=0.01)
    cover, width = re.search(r"holds the true mean in (\d+) % of\s+cases.*?(\d\.\d+) times", README, re.DOTALL).groups()
    assert 100 * bootstrap == pytest.approx(int(cover), abs=1)
    assert np.mean((high - low) / (2 * half_width)) == pytest.approx(float(width), abs=0.01)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"a": [1, 2, 3, 2, 2]}, "holds"),
        ({"a": [1, 2, 3, 2, 2], "b": [5, 6, 5, 6, 5]}, "holds"),
        ({"a": [1, 2, 3, 2, 2], "b": [-1, 2, 0, 1, -1]}, "depends"),
        ({"a": [-1, 2, 0, 1, -1]}, "fails"),
        ({"a": [-1, -2, -3, -2, -2], "b": [0, 0, 0, 0, 0]}, "fails"),
    ],
)
def test_verdicts(gains, verdict):
    judged = records.judge(gains, "points")
    assert judged["verdict"] == verdict and judged["unit"] == "points" and list(judged["effects"]) == list(gains)
    for setting, effect in judged["effects"].items():
        interval = records.mean_interval(gains[setting], len(gains))
        bootstrap = records.bootstrap_interval(gains[setting], comparisons=len(gains))
        assert effect["mean"] == interval["mean"] and effect["half_width"] == interval["half_width"]
        assert effect["low"] == effect["mean"] - effect["half_width"] and effect["n"] == 5
        assert effect["high"] == effect["mean"] + effect["half_width"]
        assert effect["bootstrap"] == [bootstrap["low"], bootstrap["high"]]


def test_more_settings_ask_for_more():
    """A gain that one setting shows alone is not shown among ten."""
    gain = [1, 2, 3, 2, 0.5]
    assert records.judge({"a": gain}, "points")["verdict"] == "holds"
    assert records.judge({str(i): gain for i in range(10)}, "points")["verdict"] == "fails"


@pytest.mark.parametrize("gains", [{}, {"a": []}, {"a": [1.0]}, {"a": [1, 2], "b": [1]}, {"a": [1, math.nan]}])
def test_no_verdict_without_repeats(gains):
    with pytest.raises(CourseError):
        records.judge(gains, "points")


def test_intervals_hold_together():
    """Of four settings without any effect, all four intervals hold 0 in about 95 % of cases, not in 81 %."""
    draws = np.random.default_rng(1).standard_normal((2000, 4, 5))
    mean, deviation = draws.mean(2), draws.std(2, ddof=1)
    alone, together = (_t_quantile(4, 0.05 / comparisons) * deviation / math.sqrt(5) for comparisons in (1, 4))
    assert (np.abs(mean) < alone).all(1).mean() < 0.86
    assert (np.abs(mean) < together).all(1).mean() == pytest.approx(0.95, abs=0.015)
