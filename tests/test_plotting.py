"""Pictures show what they say; figures carry an alt sentence and are closed."""

import base64
import io

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from mtl_course import plotting, tasks  # noqa: E402
from mtl_course.errors import CourseError  # noqa: E402

SEMANTIC = tasks.semantic(["background", "cat", "dog"])


@pytest.fixture
def shown(monkeypatch):
    """What `display` got: (data, options) pairs."""
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: calls.append((data, options)))
    return calls


def test_show_gives_a_photograph_as_jpeg(shown):
    fig, ax = plt.subplots(figsize=(4, 4))
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    ax.imshow(noise)
    plotting.show(fig, "Noise.")
    data, options = shown[0]
    assert options["metadata"] == {"image/jpeg": {"alt": "Noise."}}
    assert Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))).format == "JPEG"


def test_show_gives_a_png_with_its_alt_sentence_and_closes_the_figure(shown):
    fig = plotting.curves({"a": [1, 2], "b": [2, 1]}, "step", "loss")
    plotting.show(fig, "Two lines cross.", "Read it from left to right.")
    data, options = shown[0]
    assert (
        options["metadata"] == {"image/png": {"alt": "Two lines cross."}} and data["text/plain"] == "Two lines cross."
    )
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).format == "PNG"
    assert shown[1][0].data == "Read it from left to right." and not plt.get_fignums()
    with pytest.raises(CourseError, match="one sentence that says what the figure shows"):
        plotting.show(fig, " ")


def test_the_same_figure_gives_the_same_bytes(shown):
    for _ in range(2):
        plotting.show(plotting.curves({"a": [1, 2]}, "step", "loss"), "A line.")
    assert shown[0] == shown[1]


def test_colors_of_masks_and_white_for_ignore():
    rgb = plotting.colorize(torch.tensor([[0, 1], [2, 255]]), SEMANTIC)
    expected = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (*SEMANTIC.colors, tasks.IGNORE_COLOR)]
    assert rgb.reshape(4, 3).tolist() == expected


def test_depth_near_is_bright_and_unknown_is_white():
    depth = torch.tensor([[1.0, 2.0], [3.0, torch.nan]])[None]
    rgb = plotting.colorize(depth, tasks.depth()).astype(int).sum(-1)
    assert rgb[0, 0] > rgb[0, 1] > rgb[1, 0] and rgb[1, 1] == 3 * 255
    assert (plotting.colorize(torch.full((1, 2, 2), torch.nan), tasks.depth()) == 255).all()
    farther = plotting.colorize(depth[:, :1] + 1, tasks.depth(), like=depth)
    assert (farther[0, 0] == plotting.colorize(depth, tasks.depth())[0, 1]).all()


def test_directions_as_colors():
    towards = torch.zeros(3, 1, 1)
    towards[2] = 1
    assert plotting.colorize(towards, tasks.normals()).tolist() == [[[128, 128, 255]]]


def test_overlay_mixes_and_leaves_the_background():
    image = torch.ones(3, 1, 3) * 0.4
    mask = torch.tensor([[0, 1, 255]])
    rgb = plotting.overlay(image, mask, SEMANTIC, opacity=0.25)
    own = plotting.as_rgb(image)
    color = plotting.colorize(mask, SEMANTIC)
    assert (rgb[0, 0] == own[0, 0]).all()
    np.testing.assert_allclose(rgb[0, 1:], 0.75 * own[0, 1:] + 0.25 * color[0, 1:], atol=0.5)


def test_panel_has_a_row_a_sample_and_a_column_a_picture():
    kinds = {"semantic": SEMANTIC} | tasks.make(["depth", "normals"])
    sample = {
        "image": torch.rand(3, 8, 8),
        "semantic": torch.zeros(8, 8, dtype=torch.long),
        "depth": torch.rand(1, 8, 8),
        "normals": torch.rand(3, 8, 8),
    }
    predictions = {name: torch.stack([sample[name]] * 2) for name in kinds}
    fig = plotting.panel([sample, sample], kinds, predictions)
    assert len(fig.axes) == 2 * 7 and fig.axes[2].get_title() == "semantic,\npredicted"
    plt.close(fig)


def test_confusion_matrix_writes_shares_and_a_dash_where_there_is_no_truth():
    fig = plotting.confusion_matrix(torch.tensor([[3, 1], [0, 0]]), ["a", "b"])
    assert [text.get_text() for text in fig.axes[0].texts] == ["0.75", "0.25", "–", "–"]
    plt.close(fig)


def test_one_far_pixel_leaves_the_other_depths_apart():
    depth = torch.linspace(1, 2, 400).reshape(1, 20, 20)
    depth[0, 0, 0] = 1000
    rgb = plotting.colorize(depth, tasks.depth()).astype(int)
    assert np.abs(rgb[1, 0] - rgb[-1, -1]).max() > 50


def test_overlay_colours_class_0_where_it_is_no_background():
    room, mask = tasks.semantic(["wall", "cat"]), torch.zeros(1, 1, dtype=torch.long)
    image = torch.ones(3, 1, 1)
    assert (plotting.overlay(image, mask, room) != plotting.as_rgb(image)).all()


def test_panel_shows_each_row_its_own_prediction():
    ids = torch.tensor([[[1]], [[2]]])
    samples = [{"image": torch.rand(3, 1, 1), "semantic": mask} for mask in ids]
    fig = plotting.panel(samples, {"semantic": SEMANTIC}, {"semantic": ids.flip(0)})
    shown = [ax.images[0].get_array() for ax in fig.axes]
    assert np.array_equal(shown[2], plotting.colorize(ids[1], SEMANTIC)) and np.array_equal(shown[5], shown[1])
    plt.close(fig)


def test_curves_count_from_1_or_lie_at_x():
    for x, expected in ((None, [1, 2, 3]), ([5, 7, 9], [5, 7, 9])):
        fig = plotting.curves({"a": [3, 2, 1]}, "epoch", "loss", x)
        assert list(fig.axes[0].lines[0].get_xdata()) == expected
        assert (fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()) == ("epoch", "loss")
        plt.close(fig)


def test_confusion_matrix_has_the_truth_down_and_the_prediction_across():
    fig = plotting.confusion_matrix(torch.tensor([[3, 1], [0, 2]]), ["a", "b"])
    ax = fig.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in ax.get_xticklabels() + ax.get_yticklabels()] == ["a", "b"] * 2
    assert [text.get_position() for text in ax.texts if text.get_text() == "0.25"] == [(1, 0)]  # (column, row)
    plt.close(fig)
