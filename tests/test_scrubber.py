"""EpochScrubber: the canvas is what Python paints, the IoU what Python counts; every control by keyboard and mouse."""

import numpy as np
import pytest
from viewer_fixture import axe, canvas_pixels, open_viewer, settings
from viewer_fixture import scores as counted

from mtl_course.errors import CourseError
from mtl_course.losses import IGNORE_INDEX
from mtl_course.widgets import EpochScrubber, render

CLASSES = ("background", "<b>cup</b>", "pen")
EPOCHS = (0, 1, 2, 5, 9)


@pytest.fixture
def given():
    """Two pictures; the share of right pixels rises with the epoch; some of the truth is ignored."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 12, 17), np.uint8)
    truth = rng.integers(0, 3, (2, 12, 17), np.uint8)
    noise = rng.integers(0, 3, (2, 5, 12, 17), np.uint8)
    right = rng.random(noise.shape) < np.linspace(0, 1, 5)[:, None, None]
    predictions = np.where(right, truth[:, None], noise).astype(np.uint8)
    truth[:, :2] = IGNORE_INDEX
    return images, truth, predictions


@pytest.fixture
def viewer(given):
    scores = {"mIoU <i>": [float("nan"), 0.1, 0.3, 0.25, 0.6]}
    return EpochScrubber(*given, classes=CLASSES, scores=scores, epochs=EPOCHS, names=["one", "two"])


def test_one_picture(given):
    one = EpochScrubber(*(part[:1] for part in given), classes=CLASSES)
    assert one.data["epochs"] == [0, 1, 2, 3, 4] and one.settings["epoch"] == 4 and len(one.frames()) == 1
    frame, alt = one.frames()[0]
    assert frame.shape == (12 * 7, 17 * 7 * 7, 3) and "after epoch 0, 1, 2, 3, 4, the truth" in alt
    assert (frame[::7, ::7][:, :17] == given[0][0].transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"truth": np.zeros((2, 5, 5), int)}, {"truth": np.full((2, 12, 17), 3)}, {"truth": np.zeros((1, 12, 17), int)},
        {"predictions": np.zeros((2, 5, 12, 17))}, {"predictions": np.full((2, 5, 12, 17), 7)},
        {"predictions": np.zeros((2, 0, 12, 17), int)}, {"scores": {"a": [1, 2]}}, {"epochs": [1, 2]}, {"classes": ()},
        {"images": np.full((2, 3, 12, 17), 3.0)}, {"names": ["one"]},
        {"predictions": [np.zeros((5, 12, 17), int), np.zeros((4, 12, 17), int)]},
    ],
)  # fmt: skip
def test_bad_input(given, change):
    parts = dict(zip(("images", "truth", "predictions"), given), classes=CLASSES) | change
    with pytest.raises(CourseError):
        EpochScrubber(**parts)


@pytest.fixture
def opened(page, viewer, tmp_path):
    open_viewer(page, viewer, tmp_path)
    yield page
    assert page.trouble == [] and axe(page) == []


def wait_for(page, epoch):
    """The page's Content-Security-Policy forbids the text of code that `wait_for_function` would run in it."""
    for _ in range(400):
        if settings(page)["epoch"] == epoch:
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"epoch {epoch} did not come")


def put(page, **values):
    page.evaluate("part => model.set('settings', {...model.get('settings'), ...part})", values)


@pytest.mark.browser
@pytest.mark.parametrize("left", ["prediction", "errors", "truth", "picture"])
def test_canvas_is_what_python_paints(opened, viewer, left):
    for sample, epoch, more in ((0, 0, {"chosen": 1}), (1, 3, {"outline": True}), (0, 4, {"patterns": True})):
        now = {"outline": False, "patterns": False, "sample": sample, "epoch": epoch, "left": left, "opacity": 35}
        now |= more
        put(opened, **now)
        assert (canvas_pixels(opened, ".mtl-picture")[..., :3] == viewer.painted(**now)).all()


@pytest.mark.browser
def test_iou_is_what_python_counts(opened, viewer, given):
    _, truth, predictions = given
    for sample, epoch, chosen in np.ndindex(2, 5, 3):
        put(opened, sample=sample, epoch=epoch, chosen=chosen)
        kinds = render.errors(truth[sample], predictions[sample, epoch] == chosen, chosen)
        score = viewer.data["scores"]["mIoU <i>"][epoch]
        told = f"epoch {EPOCHS[epoch]}: mIoU <i> {'–' if score is None else f'{score:.3f}'}; IoU of {CLASSES[chosen]}, "
        said = opened.locator(".mtl-result").text_content()
        assert said == f"{told}this picture {counted(kinds)['iou']:.3f}"


@pytest.mark.browser
def test_epoch_by_slider_and_curve(opened):
    """The slider by keys and mouse; a click into the chart takes the nearest epoch, and the mark is there."""
    slider = opened.get_by_label("epoch", exact=True)
    assert settings(opened)["epoch"] == 4
    slider.focus()
    for key, epoch in (("ArrowLeft", 3), ("Home", 0), ("ArrowRight", 1), ("End", 4)):
        opened.keyboard.press(key)
        assert settings(opened)["epoch"] == epoch
    box = slider.bounding_box()
    opened.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert settings(opened)["epoch"] == 2
    chart = opened.locator(".mtl-chart")
    for epoch, value in ((3, 5), (0, 0), (4, 9)):
        x = 56 + (value + 0.45) / 9.9 * 352
        chart.click(position={"x": x + (4 if epoch < 4 else -4), "y": 100})
        assert settings(opened)["epoch"] == epoch
        part = "(c, x) => [...c.getContext('2d').getImageData(x, 40, 4, 40).data]"
        column = np.array(chart.evaluate(part, round(2 * x) - 2)).reshape(40, 4, 4)[..., 3]
        assert (column.max(1) == 255).all()  # a line at the epoch, from top to bottom
        assert f"epoch {value}" in chart.get_attribute("aria-label")


@pytest.mark.browser
@pytest.mark.parametrize("way", ["keyboard", "mouse"])
def test_play_and_pause(opened, way):
    button = opened.get_by_role("button")

    def press():
        if way == "mouse":
            return button.click()
        button.focus()
        opened.keyboard.press("Enter")

    put(opened, epoch=3)
    press()
    assert button.text_content() == "pause"
    wait_for(opened, epoch=4)
    assert button.text_content() == "play"  # it stops at the end
    press()  # and begins anew
    assert settings(opened)["epoch"] == 0
    wait_for(opened, epoch=1)
    press()
    opened.wait_for_timeout(1500)
    assert settings(opened)["epoch"] == 1 and button.text_content() == "play"
    press()
    opened.get_by_label("epoch", exact=True).focus()
    opened.keyboard.press("Home")  # a hand on the slider ends it
    assert button.text_content() == "play" and settings(opened)["epoch"] == 0


@pytest.mark.browser
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_never_plays_by_itself(page, viewer, tmp_path, motion):
    page.emulate_media(reduced_motion=motion)
    viewer.settings = viewer.settings | {"epoch": 0}
    open_viewer(page, viewer, tmp_path)
    page.wait_for_timeout(1500)
    assert settings(page)["epoch"] == 0 and page.get_by_role("button").text_content() == "play"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("label", "key", "shown", "value"),
    [("show", "left", "errors of the class", "errors"), ("class", "chosen", "pen", 2), ("picture", "sample", "two", 1)],
)
def test_choices(opened, viewer, label, key, shown, value):
    """By mouse (an option) and by keys, and the canvas follows."""
    select, before = opened.get_by_label(label, exact=True), settings(opened)[key]
    select.select_option(shown)
    assert settings(opened)[key] == value
    assert (canvas_pixels(opened, ".mtl-picture")[..., :3] == viewer.painted(**{key: value})).all()
    select.focus()
    opened.keyboard.press("ArrowUp")
    assert settings(opened)[key] == before


@pytest.mark.browser
@pytest.mark.parametrize("key", ["outline", "patterns", "opacity"])
def test_the_look(opened, viewer, key):
    labels = {"outline": "outlines only", "patterns": "patterns", "opacity": "opacity"}
    control = opened.get_by_label(labels[key])
    if key == "opacity":
        box = control.bounding_box()
        opened.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
        assert settings(opened)[key] == 100
    else:
        control.click()
        assert settings(opened)[key] is True
    assert (canvas_pixels(opened, ".mtl-picture")[..., :3] == viewer.painted(**{key: settings(opened)[key]})).all()
    control.focus()
    opened.keyboard.press("Home" if key == "opacity" else "Space")
    assert settings(opened)[key] == 0
    assert (canvas_pixels(opened, ".mtl-picture")[..., :3] == viewer.painted(**{key: settings(opened)[key]})).all()
