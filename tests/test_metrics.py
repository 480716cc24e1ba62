"""Metrics against plain loops, worked values and torchmetrics' own."""

import json
import math
from pathlib import Path

import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from mtl_course import metrics
from mtl_course.errors import CourseError

NYUV2 = json.loads((Path(__file__).parents[1] / "data" / "records" / "nyuv2_published.json").read_text())


def masks(seed, shape=(4, 8, 8), classes=3, ignore=0.2):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, classes, shape, generator=generator)
    target = torch.randint(0, classes, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < ignore] = 255
    return prediction, target


def scores(metric, *pairs):
    for prediction, target in pairs:
        metric.update(prediction, target)
    return metric.compute()


@pytest.mark.parametrize("seed", range(5))
def test_iou_against_sets_of_pixels(seed):
    prediction, target = masks(seed)
    result = scores(metrics.SegmentationScores(["a", "b", "c"]), (prediction, target))
    valid = target != 255
    for k, name in enumerate("abc"):
        both = ((prediction == k) & (target == k) & valid).sum()
        either = (((prediction == k) | (target == k)) & valid).sum()
        assert result[f"iou_{name}"] == pytest.approx((both / either).item())
    assert result["accuracy"] == pytest.approx(((prediction == target) & valid).sum().item() / valid.sum().item())
    peer = MulticlassJaccardIndex(3, average="macro", ignore_index=255)
    assert result["miou"] == pytest.approx(peer(prediction, target).item())


def test_batches_add_up():
    pairs = [masks(seed) for seed in range(3)]
    together = tuple(torch.cat(side) for side in zip(*pairs))
    one, many = metrics.SegmentationScores("abc"), metrics.SegmentationScores("abc")
    assert scores(one, together) == scores(many, *pairs)
    assert torch.equal(one.confusion, many.confusion)


def test_cumulative_iou_is_not_the_mean_of_the_pictures():
    """A big object found (IoU 1) and a small one missed (IoU 0): cumulated 8/10, per picture ½."""
    target = torch.zeros(2, 1, 10, dtype=torch.long)
    target[0, 0, :8], target[1, 0, :2] = 1, 1
    prediction = target.clone()
    prediction[1] = 0
    result = scores(metrics.SegmentationScores(["background", "object"]), (prediction, target))
    assert result["iou_object"] == pytest.approx(8 / 10)
    assert result["miou"] == pytest.approx((8 / 10 + 10 / 12) / 2)
    assert result["miou_per_image"] == pytest.approx((1 + (0 + 8 / 10) / 2) / 2)


def test_a_class_that_is_nowhere_is_nan_and_not_counted():
    prediction = target = torch.zeros(1, 2, 2, dtype=torch.long)
    result = scores(metrics.SegmentationScores(["a", "b"]), (prediction, target))
    assert math.isnan(result["iou_b"]) and result["miou"] == 1
    empty = scores(metrics.SegmentationScores(["a", "b"]), (prediction, torch.full_like(target, 255)))
    assert all(math.isnan(value) for value in empty.values())


def test_boundary_within_one_pixel():
    target = torch.zeros(1, 5, 9, dtype=torch.long)
    target[0, :, 4] = 1
    shifted = target.roll(1, 2)
    far = target.roll(3, 2)
    assert scores(metrics.BoundaryScores(), (shifted, target)) == {"f1": 1, "precision": 1, "recall": 1}
    assert scores(metrics.BoundaryScores(), (far, target))["f1"] == 0
    assert scores(metrics.BoundaryScores(0), (shifted, target))["f1"] == 0
    assert scores(metrics.BoundaryScores(), (torch.zeros_like(target), target))["f1"] == 0
    half = scores(metrics.BoundaryScores(), (shifted | far, target))
    assert half["precision"] == pytest.approx(0.5) and half["f1"] == pytest.approx(2 / 3)


def test_depth_errors_worked_by_hand():
    target = torch.tensor([1.0, 2.0, 4.0, math.nan]).reshape(1, 1, 2, 2)
    prediction = torch.tensor([1.1, 2.0, 6.0, 9.0]).reshape(1, 1, 2, 2)
    result = scores(metrics.DepthScores(), (prediction, target))
    assert result["abs_error"] == pytest.approx(2.1 / 3)
    assert result["rel_error"] == pytest.approx((0.1 + 0 + 0.5) / 3)
    assert result["delta1"] == pytest.approx(2 / 3)


def at(degrees):
    """Unit vectors (1, 3, 1, W) at these angles."""
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.sin(), radians.cos(), torch.zeros_like(radians)]).reshape(1, 3, 1, -1)


def test_angles_worked_by_hand():
    result = scores(metrics.DirectionScores(), (at([0.0, 10.0, 20.0, 90.0]), at([0.0, 0.0, 0.0, 0.0])))
    assert result["mean_angle"] == pytest.approx(30, abs=1e-3)
    assert (result["within_11"], result["within_22"], result["within_30"]) == (0.5, 0.75, 0.75)


@pytest.mark.parametrize("maker", [metrics.BoundaryScores, metrics.DepthScores, metrics.DirectionScores])
def test_score_names_are_those_computed(maker):
    metric = maker()
    shape = (1, 2, 2) if maker is metrics.BoundaryScores else (1, 3 if maker is metrics.DirectionScores else 1, 2, 2)
    ones = torch.ones(shape)
    metric.update(
        ones.long() if maker is metrics.BoundaryScores else ones,
        ones.long() if maker is metrics.BoundaryScores else ones,
    )
    assert tuple(metric.compute()) == tuple(metric.score_names)


def test_miou_per_image_is_the_mean_over_a_pictures_classes_then_over_pictures():
    """Picture 1 holds a, b, c with IoU ½, 0, 1 (mean ½); picture 2 is all a, right (1). Pooled it would be 5/8."""
    target, prediction = torch.tensor([[[0, 1, 2, 2]], [[0] * 4]]), torch.tensor([[[0, 0, 2, 2]], [[0] * 4]])
    assert scores(metrics.SegmentationScores("abc"), (prediction, target))["miou_per_image"] == pytest.approx(0.75)


def test_boundary_with_a_tolerance_of_two():
    target = torch.zeros(1, 5, 9, dtype=torch.long)
    target[0, :, 2] = 1
    assert scores(metrics.BoundaryScores(2), (target.roll(2, 2), target))["f1"] == 1
    assert scores(metrics.BoundaryScores(2), (target.roll(3, 2), target))["f1"] == 0


def test_boundary_predicted_on_ignored_pixels_counts_nowhere():
    target = torch.tensor([[[1, 0, 0, 0, 255]]])
    prediction = torch.tensor([[[1, 0, 0, 0, 1]]])
    assert scores(metrics.BoundaryScores(), (prediction, target)) == {"f1": 1, "precision": 1, "recall": 1}


def test_no_boundary_and_none_predicted_is_nan():
    nothing = torch.zeros(1, 3, 3, dtype=torch.long)
    assert math.isnan(scores(metrics.BoundaryScores(), (nothing, nothing))["f1"])


@pytest.mark.parametrize(("depth", "counts"), [(1.24, 1), (1.26, 0), (1 / 1.24, 1), (1 / 1.26, 0)])
def test_delta1_is_a_factor_of_one_and_a_quarter(depth, counts):
    one = torch.ones(1, 1, 1, 1)
    assert scores(metrics.DepthScores(), (one * depth, one))["delta1"] == counts


def test_angles_just_inside_and_outside_their_limits():
    angles = at([11.0, 11.5, 22.0, 23.0, 29.5, 30.5])
    result = scores(metrics.DirectionScores(), (angles, at([0.0] * 6)))
    assert [result[f"within_{limit}"] * 6 for limit in (11, 22, 30)] == pytest.approx([1, 3, 5])


def test_equal_directions_and_unknown_ones():
    """Rounding may give a cosine above 1, whose angle must not be NaN; a NaN in the target counts nowhere."""
    target = torch.nn.functional.normalize(torch.randn(1, 3, 32, 32), dim=1)
    assert (target.square().sum(1) > 1).any()
    assert scores(metrics.DirectionScores(), (target, target))["mean_angle"] < 0.1
    hidden = target.clone()
    hidden[0, 1, 0] = math.nan
    result = scores(metrics.DirectionScores(), (target, hidden))
    assert result["mean_angle"] < 0.1 and result["within_11"] == 1


BASE = {"semantic": {"miou": 0.5, "accuracy": 0.8}, "depth": {"abs_error": 2.0}}
BETTER = {"semantic": {"miou": 0.6, "accuracy": 0.8}, "depth": {"abs_error": 1.5}}


def test_delta_m_worked_by_hand():
    """miou + 20 %, accuracy 0 %, the error 25 % smaller: by task (10 + 25)/2, by metric 45/3."""
    assert metrics.delta_m(BETTER, BASE) == metrics.delta_m(BETTER, BASE, average="task") == pytest.approx(17.5)
    assert metrics.delta_m(BETTER, BASE, average="metric") == pytest.approx(15)
    assert metrics.delta_m(BASE, BASE) == 0


@pytest.mark.parametrize(
    ("method", "by_task"),
    [("equal", 0.88), ("uncertainty", 0.91), ("pcgrad", 1.11), ("cagrad", 4.33), ("nash", 7.65), ("famo", 6.79)],
)
def test_delta_m_gives_the_published_table_and_the_other_average(method, by_task):
    """Over metrics it is the column of FAMO's Table 1 with the other sign, to the last digit that the printed scores
    allow: these are rounded, which moves the mean by up to 0.03. By task it is a second computation's."""
    scores, baseline = NYUV2["results"][method], NYUV2["results"][NYUV2["baseline"]]
    lower = NYUV2["lower_is_better"]
    published = -NYUV2["delta_m_published"][method]
    assert metrics.delta_m(scores, baseline, lower, average="metric") == pytest.approx(published, abs=0.0075)
    assert round(metrics.delta_m(scores, baseline, lower, average="task"), 2) == by_task
    assert metrics.delta_m(scores, baseline) == metrics.delta_m(scores, baseline, lower), "the default knows them"


@pytest.mark.parametrize("average", ["task", "metric"])
def test_delta_m_of_the_opposite_metrics_is_the_negative(average):
    """Where lower is better becomes where higher is, and the sign turns; so it does for a step back."""
    gain = metrics.delta_m(BETTER, BASE, average=average)
    assert metrics.delta_m(BETTER, BASE, {"miou", "accuracy"}, average) == pytest.approx(-gain)
    worse = {t: {m: 2 * BASE[t][m] - value for m, value in ms.items()} for t, ms in BETTER.items()}
    assert metrics.delta_m(worse, BASE, average=average) == pytest.approx(-gain)
    below = {t: {m: v - 10 for m, v in ms.items()} for t, ms in BETTER.items()}
    base_below = {t: {m: v - 10 for m, v in ms.items()} for t, ms in BASE.items()}
    assert metrics.delta_m(below, base_below, average=average) > 0, "+ is better below 0 too"


@pytest.mark.parametrize("average", ["task", "metric"])
def test_delta_m_does_not_depend_on_units_or_order(average):
    def changed(scores):
        return {
            task: {m: value * (1000 if m == "abs_error" else 100) for m, value in reversed(ms.items())}
            for task, ms in reversed(scores.items())
        }

    expected = metrics.delta_m(BETTER, BASE, average=average)
    assert metrics.delta_m(changed(BETTER), changed(BASE), average=average) == pytest.approx(expected)
    assert metrics.delta_m(changed(BETTER), {t: dict(reversed(ms.items())) for t, ms in changed(BASE).items()},
                           average=average) == pytest.approx(expected)  # fmt: skip


def test_delta_m_with_a_dict_that_says_it_of_every_metric():
    lower = {"miou": False, "accuracy": False, "abs_error": True}
    assert metrics.delta_m(BETTER, BASE, lower) == metrics.delta_m(BETTER, BASE)
    with pytest.raises(CourseError, match="did you mean 'abs_eror'"):
        metrics.delta_m(BETTER, BASE, {"miou": False, "accuracy": False, "abs_eror": True})


@pytest.mark.parametrize(
    ("scores", "baseline", "expected"),
    [
        ({"depth": {"abs_error": 1.0}}, BASE, "only on one side: semantic.accuracy, semantic.miou"),
        (BASE, {"depth": {"abs_error": 1.0}}, "only on one side: semantic.accuracy, semantic.miou"),
        ({"depth": {"miou": 1.0}}, {"depth": {"abs_error": 1.0}}, "depth.abs_error, depth.miou"),
        ({"depth": {"abs_error": 1.0}}, {"depth": {"abs_error": 0.0}}, "depth.abs_error: .*not 0"),
        ({"depth": {"abs_error": math.nan}}, {"depth": {"abs_error": 1.0}}, "depth.abs_error: finite"),
        ({"depth": {"abs_error": 1.0}}, {"depth": {"abs_error": math.inf}}, "depth.abs_error: finite"),
        ({}, {}, "at least one"),
        ({"depth": {}}, {"depth": {}}, "at least one"),
        ({"depth": {"abs_error": 1.0}}, {"depth": {"abs_error": 1.0}, "semantic": {}}, "same metrics"),
    ],
)
def test_delta_m_refuses_what_cannot_be_compared(scores, baseline, expected):
    with pytest.raises(CourseError, match=expected):
        metrics.delta_m(scores, baseline)


def test_delta_m_knows_two_averages():
    with pytest.raises(CourseError, match="did you mean 'task'"):
        metrics.delta_m(BASE, BASE, average="tasks")
