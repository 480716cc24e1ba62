"""Metrics against plain Python loops, for any masks: absent classes, all ignored, and batches split in any way."""

import math

import pytest
import torch
from drawn import generator, held, seeds
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtl_course import metrics

NAMES = ("a", "b", "c")


def mean(values):
    """Of those that are defined."""
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def ratio(part, whole):
    return part / whole if whole else math.nan


@st.composite
def mask_pairs(draw, classes=3):
    """Predictions and truths, int64 (B, H, W), small enough to be read when one fails."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)))
    said = draw(arrays.arrays("int64", shape, elements=st.integers(0, classes - 1)))
    true = draw(arrays.arrays("int64", shape, elements=st.sampled_from([*range(classes), 255])))
    return torch.from_numpy(said), torch.from_numpy(true)


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert type(found[name]) is float and found[name] == pytest.approx(value, rel=1e-9, nan_ok=True), name


def score(metric, *pairs):
    for pair in pairs:
        metric.update(*pair)
    return metric.compute()


def cut(pair, seed):
    """The pictures of a batch in pieces of drawn sizes, in order."""
    said, true = pair
    ends = torch.rand(len(said) - 1, generator=generator(seed)) < 0.5
    starts = [0, *(i + 1 for i, end in enumerate(ends.tolist()) if end), len(said)]
    return [(said[a:b], true[a:b]) for a, b in zip(starts, starts[1:])]


def loop_iou(pairs, k):
    both = sum(s == t == k for s, t in pairs)
    return ratio(both, sum(k in (s, t) for s, t in pairs))


def valid_pairs(said, true):
    return [(s, t) for s, t in zip(said.flatten().tolist(), true.flatten().tolist()) if t != 255]


@held(60)
@given(mask_pairs(), seeds)
def test_segmentation_scores_are_those_of_loops(pair, seed):
    pairs = valid_pairs(*pair)
    ious = {f"iou_{name}": loop_iou(pairs, k) for k, name in enumerate(NAMES)}
    each = [mean(loop_iou(valid_pairs(s, t), k) for k in range(3)) for s, t in zip(*pair)]
    right = ratio(sum(s == t for s, t in pairs), len(pairs))
    expected = {"miou": mean(ious.values()), "miou_per_image": mean(each), "accuracy": right, **ious}
    assert_same(score(metrics.SegmentationScores(NAMES), pair), expected)
    assert_same(score(metrics.SegmentationScores(NAMES), *cut(pair, seed)), expected)


def loop_near(mask, b, h, w, tolerance):
    return any(
        0 <= h + i < mask.shape[1] and 0 <= w + j < mask.shape[2] and mask[b, h + i, w + j]
        for i in range(-tolerance, tolerance + 1)
        for j in range(-tolerance, tolerance + 1)
    )


def loop_boundary(said, true, tolerance):
    valid = true != 255
    lines, drawn = (true == 1) & valid, (said == 1) & valid
    found = sum(loop_near(drawn, *place, tolerance) for place in lines.nonzero().tolist())
    right = sum(loop_near(lines, *place, tolerance) for place in drawn.nonzero().tolist())
    precision, recall = ratio(right, int(drawn.sum())), ratio(found, int(lines.sum()))
    f1 = ratio(2 * precision * recall, precision + recall) if found + right else (0.0 if lines.any() else math.nan)
    return {"f1": f1, "precision": precision, "recall": recall}


@held(60)
@given(mask_pairs(classes=2), st.integers(0, 2), seeds)
def test_boundary_scores_are_those_of_loops(pair, tolerance, seed):
    expected = loop_boundary(*pair, tolerance)
    assert_same(score(metrics.BoundaryScores(tolerance), pair), expected)
    assert_same(score(metrics.BoundaryScores(tolerance), *cut(pair, seed)), expected)


def dense_pair(seed, channels, hidden):
    g = generator(seed)
    shape = (int(torch.randint(1, 5, (1,), generator=g)), channels, 3, 4)
    said, true = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))
    where = torch.rand(shape[0], 1, 3, 4, generator=g) < hidden
    return said, true, where


def valid_pixels(said, true):
    """(prediction, truth) of each known pixel, lists of channels."""
    channels = said.shape[1]
    rows = zip(said.movedim(1, -1).reshape(-1, channels).tolist(), true.movedim(1, -1).reshape(-1, channels).tolist())
    return [(s, t) for s, t in rows if not any(map(math.isnan, t))]


@held(40)
@given(seeds, st.floats(0, 1))
def test_depth_scores_are_those_of_loops(seed, hidden):
    said, true, where = dense_pair(seed, 1, hidden)
    said, true = said.mul(0.3).exp(), true.mul(0.3).exp().masked_fill(where, math.nan)
    pairs = [(s[0], t[0]) for s, t in valid_pixels(said, true)]
    expected = {
        "abs_error": mean(abs(s - t) for s, t in pairs),
        "rel_error": mean(abs(s - t) / t for s, t in pairs),
        "delta1": mean(float(max(s / t, t / s) < 1.25) for s, t in pairs),
    }
    assert_same(score(metrics.DepthScores(), (said, true)), expected)
    assert_same(score(metrics.DepthScores(), *cut((said, true), seed)), expected)


@held(40)
@given(seeds, st.floats(0, 1), st.floats(0, 0.6))
def test_direction_scores_are_those_of_loops(seed, hidden, spread):
    noise, true, where = dense_pair(seed, 3, hidden)
    true = torch.nn.functional.normalize(true, dim=1)
    said = torch.nn.functional.normalize(true + spread * noise, dim=1)
    true = true.masked_fill(where, math.nan)
    pairs = valid_pixels(said, true)
    angles = [math.degrees(math.acos(max(-1, min(1, sum(x * y for x, y in zip(s, t)))))) for s, t in pairs]
    expected = {"mean_angle": mean(angles)}
    expected |= {f"within_{int(limit)}": mean(float(a < limit) for a in angles) for limit in (11.25, 22.5, 30.0)}
    for found in (
        score(metrics.DirectionScores(), (said, true)),
        score(metrics.DirectionScores(), *cut((said, true), seed)),
    ):
        # Near 0° the arc cosine has half the digits of the cosine.
        assert found.pop("mean_angle") == pytest.approx(expected["mean_angle"], rel=1e-7, abs=1e-5, nan_ok=True)
        assert_same(found, {name: value for name, value in expected.items() if name != "mean_angle"})


numbers = st.floats(0.01, 1000)
scored = st.sampled_from(["miou", "accuracy", "abs_error", "mean_angle"])
tables = st.dictionaries(
    st.sampled_from(["semantic", "depth", "normals"]),
    st.dictionaries(scored, st.tuples(numbers, numbers), min_size=1),
    min_size=1,
)


@held(60)
@given(tables, st.sampled_from(["task", "metric"]), st.floats(0.1, 10))
def test_delta_m_is_the_mean_of_the_gains(table, average, unit):
    gains = []
    for pairs in table.values():
        signs = {m: -1 if m in ("abs_error", "mean_angle") else 1 for m in pairs}
        gains.append([signs[m] * 100 * (new - old) / old for m, (new, old) in pairs.items()])
    every = [gain for task in gains for gain in task]
    expected = mean(every) if average == "metric" else mean(mean(task) for task in gains)
    new, old = ({t: {m: pair[side] for m, pair in pairs.items()} for t, pairs in table.items()} for side in (0, 1))
    found = metrics.delta_m(new, old, average=average)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    scaled = [{t: {m: unit * v for m, v in ms.items()} for t, ms in side.items()} for side in (new, old)]
    assert metrics.delta_m(*scaled, average=average) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert metrics.delta_m(old, old, average=average) == 0
