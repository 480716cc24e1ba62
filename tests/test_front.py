"""FrontExplorer: which point beats which, and every control worked by keyboard and by mouse."""

import numpy as np
import pytest
from viewer_fixture import axe, canvas_pixels, open_viewer, settings

from mtl_course.errors import CourseError
from mtl_course.widgets import FrontExplorer
from mtl_course.widgets.front import front

NAMES = {"x": "mIoU <b>(no unit)</b>", "y": "error (m)"}
POINTS = [  # higher x and lower y are better; d, b and e are the front
    {"label": "a", "x": 0.1, "y": 5.0, "weights": {"semantic": 0.5, "depth": 1.5}, "group": "fixed"},
    {"label": "b", "x": 0.4, "y": 3.0, "weights": {"semantic": 1, "depth": 1}, "group": "fixed", "runs": [(0.2, 2)]},
    {"label": "c", "x": 0.3, "y": 3.5, "weights": {"semantic": 1.9, "depth": 0.1}, "group": "fixed"},
    {"label": "<i>d</i>", "x": 0.2, "y": 1.0, "group": "rules", "x_error": 0.05, "y_error": 0.4},
    {"label": "e", "x": 0.5, "y": 3.2, "group": "rules", "x_error": 0.02, "y_error": 0.3},
]
LABELS = [one["label"] for one in POINTS]


def made(**options):
    return FrontExplorer(POINTS, **NAMES, better=("higher", "lower"), **options)


def test_front_of_worked_points():
    assert front(POINTS, [True, False]).tolist() == [False, True, False, True, True]
    assert front(POINTS, [True, True]).tolist() == [True, False, True, False, True]
    same = [{"x": 1, "y": 1}, {"x": 1, "y": 1}, {"x": 1, "y": 0}, {"x": 0, "y": 1}]
    assert front(same, [True, True]).tolist() == [True, True, False, False]  # equal points do not beat each other


def test_what_is_sent():
    """Weighted points are swept by the share of the first weight."""
    data = made().data
    assert data["sweep"] == [0, 1, 2] and data["groups"] == ["fixed", "rules"] and data["higher"] == [True, False]
    assert data["points"][0]["weights"] == "semantic 0.5, depth 1.5" and data["points"][3]["weights"] == ""
    listed = [one | {"weights": {"a": 1 - 0.3 * k, "b": 0.3 * k}} for k, one in enumerate(POINTS[:3])]
    data = FrontExplorer(listed, **NAMES).data
    assert data["sweep"] == [2, 1, 0] and data["points"][1]["weights"] == "a 0.7, b 0.3"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": float("nan")}, "finite"), ({"y": None}, "finite"), ({"x_error": -1}, "from 0"),
        ({"runs": [1, 2]}, "runs"),
        ({"weights": {"a": 1, "b": -1}}, "from 0"), ({"weigths": {"a": 1}}, "did you mean 'weights'"),
        ({"y": "much"}, "finite"),
    ],
)  # fmt: skip
def test_bad_points(change, told):
    with pytest.raises(CourseError, match=told):
        FrontExplorer([POINTS[0], POINTS[1] | change], **NAMES)


@pytest.mark.parametrize(
    "options",
    [
        {"better": ("more", "less")}, {"chosen": 5}, {"pictures": [np.zeros((4, 4, 3), np.uint8)]},
        {"pictures": [np.zeros((4, 4, 3))] * 5}, {"pictures": [np.zeros((4, k + 1, 3), np.uint8) for k in range(5)]},
    ],
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(CourseError):
        FrontExplorer(POINTS, **NAMES, **options)
    with pytest.raises(CourseError):
        FrontExplorer([], **NAMES)


def test_fallback():
    """A chart, and the pictures of points of the front."""
    pictures = [np.full((8, 8, 3), 40 * k, np.uint8) for k in range(5)]
    frames = made(pictures=pictures).frames()
    title = made().data["title"]
    assert f"{title}. The front: b, <i>d</i>, e." == frames[0][1]
    assert [alt for _, alt in frames[1:]] == [f"{title}. The picture of {label}." for label in ("b", "<i>d</i>", "e")]
    assert [picture[0, 0, 0] for picture, _ in frames[1:]] == [40, 120, 160]
    text = made(pictures=pictures)._repr_mimebundle_()[0]["text/html"]
    assert "<i>d" not in text and len(text) < 40_000


@pytest.fixture
def opened(page, tmp_path):
    pictures = [np.full((6, 9, 3), [40 * k, 7, 200], np.uint8) for k in range(5)]
    open_viewer(page, made(pictures=pictures), tmp_path)
    yield page
    assert page.trouble == [] and axe(page) == []


def chart_pixels(page, x, y, width=1, height=1):
    """RGBA of a part of the chart: a whole one has a million pixels, slow to hand over."""
    part = "([x, y, w, h]) => [...document.querySelector('.mtl-chart').getContext('2d').getImageData(x, y, w, h).data]"
    return np.array(page.evaluate(part, [x, y, width, height]), np.uint8).reshape(height, width, 4)


def drawing(page):
    return page.locator(".mtl-chart").evaluate("canvas => canvas.toDataURL()")


def chosen(page):
    return LABELS[settings(page)["chosen"]]


def place(label):
    """Where the chart draws a point, in its pixels."""
    ends = []
    for axis in "xy":
        values = [one[axis] + side * one.get(f"{axis}_error", 0) for one in POINTS for side in (-1, 1)]
        values += [run["xy".index(axis)] for one in POINTS for run in one.get("runs", ())]
        room = 0.05 * (max(values) - min(values))
        ends.append((min(values) - room, max(values) + room))
    one, ((left, right), (low, high)) = POINTS[LABELS.index(label)], ends
    return 56 + (one["x"] - left) / (right - left) * 492, 378 - (one["y"] - low) / (high - low) * 364


@pytest.mark.browser
def test_points_by_keys_and_mouse(opened):
    chart = opened.locator(".mtl-chart")
    chart.focus()
    for key, label in [
        ("End", "e"), ("ArrowLeft", "b"), ("ArrowLeft", "c"), ("ArrowUp", "a"), ("ArrowUp", "a"),
        ("ArrowDown", "c"), ("ArrowDown", "e"), ("Home", "a"), ("ArrowRight", "<i>d</i>"), ("ArrowRight", "c"),
    ]:  # fmt: skip
        opened.keyboard.press(key)
        assert chosen(opened) == label, key
    for label in LABELS:
        x, y = place(label)
        chart.click(position={"x": x + 3, "y": y - 3})
        assert chosen(opened) == label
        color = chart_pixels(opened, round(2 * x), round(2 * y))[0, 0, :3]
        assert (color == ([0, 114, 178] if label in "abc" else [213, 94, 0])).all()  # the group's colour
        index = LABELS.index(label)
        assert (canvas_pixels(opened, ".mtl-picture") == [40 * index, 7, 200, 255]).all()
        assert opened.locator("figcaption").text_content() == label
        assert label in chart.get_attribute("aria-label")


@pytest.mark.browser
def test_what_it_says(opened):
    told = {
        "a": "a (fixed, weights semantic 0.5, depth 1.5): mIoU <b>(no unit)</b> 0.100; error (m) 5.00. "
        "Beaten by b, c, <i>d</i>, e.",
        "<i>d</i>": "<i>d</i> (rules): mIoU <b>(no unit)</b> 0.200 ± 0.050; error (m) 1.00 ± 0.40. "
        "No other shown point beats it.",
        "c": "Beaten by b, e.",
    }
    for label, text in told.items():
        opened.evaluate("k => model.set('settings', {...model.get('settings'), chosen: k})", LABELS.index(label))
        assert text in opened.locator(".mtl-result").text_content()
    assert opened.locator(".mtl-said").text_content() == "Front: <i>d</i>, b, e."


@pytest.mark.browser
def test_slider_along_the_weights(opened):
    slider = opened.get_by_label("along the swept weights")
    slider.focus()
    for key, label in (("End", "c"), ("ArrowLeft", "b"), ("Home", "a"), ("ArrowRight", "b")):
        opened.keyboard.press(key)
        assert chosen(opened) == label
    box = slider.bounding_box()
    opened.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert chosen(opened) == "c"
    opened.locator(".mtl-chart").focus()
    opened.keyboard.press("End")
    assert opened.locator(".mtl-field", has=slider).locator("output").text_content() == "not on it"


@pytest.mark.browser
@pytest.mark.parametrize("way", ["keyboard", "mouse"])
def test_groups(opened, way):
    """The front is that of the groups shown; a hidden point is not chosen; the slider shows its group again."""
    boxes = [opened.get_by_label(f"{sign} {name}") for sign, name in (("●", "fixed"), ("▲", "rules"))]

    def turn(box):
        if way == "mouse":
            return box.click()
        box.focus()
        opened.keyboard.press("Space")

    before = drawing(opened)
    turn(boxes[1])
    assert opened.locator(".mtl-said").text_content() == "Front: b." and chosen(opened) == "a"
    assert drawing(opened) != before
    opened.locator(".mtl-chart").focus()
    opened.keyboard.press("End")
    assert chosen(opened) == "b"
    turn(boxes[0])
    assert opened.locator(".mtl-result").text_content() == "no point is shown"
    turn(boxes[1])
    assert settings(opened)["shown"] == [False, True]
    opened.locator(".mtl-chart").focus()
    opened.keyboard.press("Home")
    assert chosen(opened) == "<i>d</i>"
    opened.get_by_label("along the swept weights").focus()
    opened.keyboard.press("End")
    assert chosen(opened) == "c" and settings(opened)["shown"] == [True, True] and boxes[0].is_checked()
    opened.locator(".mtl-chart").click(position=dict(zip("xy", place("e"))))
    turn(boxes[1])
    assert chosen(opened) == "b"  # the front's first


@pytest.mark.browser
@pytest.mark.parametrize("name", ["all intervals", "all names"])
def test_switches(opened, name):
    """Each draws something, and takes it away again."""
    box, pictures = opened.get_by_label(name), [drawing(opened)]
    box.click()
    pictures.append(drawing(opened))
    box.focus()
    opened.keyboard.press("Space")
    assert pictures[0] != pictures[1] and drawing(opened) == pictures[0]
    if name == "all intervals":  # a point of the bar beside its mark
        x, y = place("e")
        around = (round(2 * x) - 3, round(2 * y) - 30, 6, 6)
        assert chart_pixels(opened, *around)[..., 3].max() < 255
        box.click()
        assert chart_pixels(opened, *around)[..., 3].max() == 255


@pytest.mark.browser
def test_dark_theme(opened):
    """Axes follow the theme without a click."""
    assert chart_pixels(opened, 500, 28)[0, 0, :3].max() < 90  # the frame's upper line
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_timeout(200)
    assert chart_pixels(opened, 500, 28)[0, 0, :3].min() > 160
    opened.evaluate("model.set('settings', {...model.get('settings')})")


@pytest.mark.browser
def test_few_points(page, tmp_path):
    """One point, without weights, intervals and pictures, needs no slider."""
    open_viewer(page, FrontExplorer([{"label": "one", "x": 3, "y": 0}], x="a (%)", y="b (%)"), tmp_path)
    assert page.locator("input[type=range]").count() == 0 and page.get_by_label("all intervals").count() == 0
    page.locator(".mtl-chart").focus()
    page.keyboard.press("ArrowRight")
    assert "one (points): a (%) 3.0" in page.locator(".mtl-result").text_content() and page.trouble == []


def test_intervals_of_a_record_are_taken_as_they_are():
    interval = {"mean": 0.5, "half_width": 0.1, "n": 5}
    (point,) = FrontExplorer([{"label": "a", "x": interval, "y": 2}], x="x", y="y").data["points"]
    assert (point["x"], point["x_error"], point["y"], point["y_error"]) == (0.5, 0.1, 2.0, None)
    with pytest.raises(CourseError, match="point 0 needs a label, finite x"):
        FrontExplorer([{"label": "a", "x": {"half_width": 0.1}, "y": 2}], x="x", y="y")
