"""MaskExplorer: what is sent, the reference renderer, and the canvas that draws the same; controls by key and mouse."""

import io
import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from viewer_fixture import PIXELS, axe, canvas_pixels, open_viewer, scores, settings

from mtl_course.errors import CourseError
from mtl_course.metrics import SegmentationScores
from mtl_course.widgets import MaskExplorer, render
from mtl_course.widgets.explorer import unpacked

CLASSES = ("background", "cat", "cow", "dog", "horse", "person", "sheep")


def made(count=3, height=19, width=26, classes=CLASSES, seed=0, **options):
    """An explorer of blobs of random classes with ignored pixels; about four of five answers are right."""
    draw = torch.Generator().manual_seed(seed)
    known = len(classes)
    coarse = torch.randint(0, known, (count, 1 + height // 5, 1 + width // 5), generator=draw)
    truth = coarse.repeat_interleave(5, 1).repeat_interleave(5, 2)[:, :height, :width].clone()
    other = ((torch.arange(count) + 2) % known)[:, None, None].expand(truth.shape)  # each picture has its own mistake
    wrong = torch.rand(truth.shape, generator=draw) < 0.2
    logits = 3 * torch.nn.functional.one_hot(truth.where(~wrong, other), known).movedim(-1, 1)
    probabilities = (logits + torch.rand(logits.shape, generator=draw)).softmax(1)
    truth[torch.rand(truth.shape, generator=draw) < 0.1] = 255
    images = torch.randint(0, 256, (count, 3, height, width), generator=draw, dtype=torch.uint8)
    second = other.where(torch.rand(truth.shape, generator=draw) < 0.3, truth.where(truth != 255, 0))
    return MaskExplorer(images, truth, probabilities=probabilities, second=second, classes=classes, **options)


# ---- what is sent ----


def test_a_sample_comes_back_as_it_was_given():
    explorer = made()
    image, masks, probabilities = unpacked(explorer.samples[1])
    assert image.shape == (19, 26, 3) and probabilities.shape == (7, 10, 13)
    assert set(masks) == {"truth", "prediction", "second"} and (masks["truth"] == 255).any()


def test_probabilities_are_bytes_of_the_mean_of_four_pixels():
    values = torch.rand(1, 2, 5, 4)
    explorer = MaskExplorer(torch.zeros(1, 3, 5, 4), probabilities=values, classes=("a", "b"))
    _, masks, sent = unpacked(explorer.samples[0])
    assert sent[1, 0, 1] == round(values[0, 1, 0:2, 2:4].mean().item() * 255)
    assert sent[1, 2, 0] == round(values[0, 1, 4:5, 0:2].mean().item() * 255), "the last row has no partner"
    assert (masks["prediction"] == values[0].argmax(0).numpy()).all(), "the classes are those of the full size"


def test_every_byte_is_sent_once():
    count, height, width = 3, 20, 30
    explorer = made(count, height, width)
    state = explorer.get_state()
    sent = sum(len(part) for sample in state["data"]["samples"] for part in sample["parts"].values())
    assert sent == count * (height * width * (3 + 1 + 1 + 1) + 7 * height // 2 * width // 2)
    assert not [name for name, value in state.items() if isinstance(value, bytes)]


def test_pictures_may_differ_in_size_and_lack_a_truth():
    images = [torch.zeros(3, 8, 9), np.zeros((3, 5, 4), np.uint8)]
    masks = [torch.zeros(8, 9, dtype=torch.int64), np.ones((5, 4), np.uint8)]
    explorer = MaskExplorer(images, prediction=masks, classes=("a", "b"), names=("one", "two"))
    assert [one["name"] for one in explorer.samples] == ["one", "two"]
    assert explorer.settings["left"] == explorer.settings["scored"] == "prediction"
    assert explorer.painted(sample=1).shape == (5, 4, 3)


BAD = {
    "truth are 1 and the pictures 2": {"truth": torch.zeros(1, 4, 4, dtype=torch.int64)},
    r"truth of picture 0 should be whole numbers \(4, 4\).*\(4, 5\)": {
        "truth": torch.zeros(2, 4, 5, dtype=torch.int64)
    },
    "truth of picture 0 .* float32": {"truth": torch.zeros(2, 4, 4)},
    "prediction of picture 0 holds the class id 3": {"prediction": torch.full((2, 4, 4), 3)},
    "second of picture 0 holds the class id -1": {"second": torch.full((2, 4, 4), -1)},
    r"probabilities of picture 0 should be floats \(3, 4, 4\)": {"probabilities": torch.zeros(2, 2, 4, 4)},
    "probabilities of picture 0 should lie in": {"probabilities": torch.full((2, 3, 4, 4), 1.5)},
    "probabilities of picture 0 should lie": {"probabilities": torch.full((2, 3, 4, 4), torch.nan)},
    "picture 0 should be a picture": {"images": torch.zeros(2, 4, 4, 3)},
    "picture 0 is a picture of floats": {"images": torch.full((2, 3, 4, 4), 255.0)},
    r"picture 0 should be a picture .* int32 \(3, 4, 4\)": {"images": torch.zeros(2, 3, 4, 4, dtype=torch.int32)},
    "expected are a picture or more": {"images": []},
    "1 to 255 classes, not 2, 0": {"classes": ()},
    "names are 1": {"names": ["one"]},
    "unknown setting 'opacty': did you mean 'opacity'": {"opacty": 3},
    "left is one of picture, drawing, and not 'errors'": {"left": "errors"},
    "chosen is one of 0, 1, 2, and not 3": {"chosen": 3},
    "sample is one of 0, 1, and not 2": {"sample": 2},
    "opacity is one of 0 to 100, and not 300": {"opacity": 300},
    "threshold is one of None, and not 9": {"threshold": 9},
    "order is one of given": {"order": "worst"},
    "visible needs 4 switches": {"visible": ()},
    r"truth of picture 0 should be whole numbers .* and is list": {"truth": [[["a"]]] * 2},
    r"prediction of picture 0 should be whole numbers .* complex64": {"prediction": torch.zeros(2, 4, 4) + 0j},
    r"probabilities of picture 0 should be floats \(3, 4, 4\), and is int64": {
        "probabilities": torch.ones(2, 3, 4, 4).long()
    },
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_does_not_fit_is_refused_before_anything_is_sent(sentence):
    arguments = {"images": torch.zeros(2, 3, 4, 4), "classes": ("a", "b", "c")} | BAD[sentence]
    with pytest.raises(CourseError, match=sentence):
        MaskExplorer(arguments.pop("images"), **arguments)


def test_a_view_that_runs_backwards_is_taken():
    """As OpenCV's blue, green, red become red, green, blue."""
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 6), np.uint8)
    mask = np.zeros((4, 6), np.int64)
    turned = MaskExplorer([image[::-1]], [mask[:, ::-1]], classes=["a", "b"])
    whole = MaskExplorer([image[::-1].copy()], [mask], classes=["a", "b"])
    assert turned.samples[0]["parts"] == whole.samples[0]["parts"]


def test_tensors_of_a_model_are_taken_as_they_are():
    likely = torch.rand(1, 2, 4, 4, requires_grad=True).softmax(1)
    images = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True).transpose(2, 3)
    for kind in (torch.bfloat16, torch.float16, torch.float64):
        sample = MaskExplorer(images, probabilities=likely.to(kind), classes=("a", "b")).samples[0]["parts"]
        assert len(sample["probabilities"]) == 2 * 2 * 2
    bits = MaskExplorer(images, torch.ones(1, 4, 4, dtype=torch.bool), classes=("a", "b")).samples[0]["parts"]["truth"]
    assert bits == bytes([1]) * 16


def test_one_name_for_the_model_is_enough():
    mask = torch.zeros(1, 4, 4, dtype=torch.int64)
    explorer = MaskExplorer(torch.rand(1, 3, 4, 4), prediction=mask, classes=("a",), models=["U-Net"], second=mask)
    assert explorer.frames()[0][1].endswith("the picture, U-Net, second model.")


def test_the_pictures_have_the_colours_of_the_canvas():
    mask = torch.full((1, 128, 128), 29)
    explorer = MaskExplorer(
        torch.rand(1, 3, 128, 128), prediction=mask, classes=[str(k) for k in range(30)], opacity=100
    )
    assert tuple(explorer.frames()[0][0][0, -1]) == render.rgb(render.PALETTE[7])


def test_a_drawing_of_the_browser_is_read_in_python():
    explorer = made()
    assert (explorer.drawing(2) == 255).all()
    mask = np.arange(19 * 26, dtype=np.uint8).reshape(19, 26) % 7
    explorer.set_state({"drawings": {"2": memoryview(mask.tobytes())}})
    assert (explorer.drawing(2) == mask).all() and (explorer.drawing(0) == 255).all()


def test_the_output_holds_pictures_for_where_no_front_end_loads():
    names = ('<img src=x onerror="alert(1)">', "b", "c")
    data, _ = made(names=names)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"].count('<img alt="') == 3 and "<img src=x" not in data["text/html"]
    assert len(data["text/html"]) < 60_000 and "script" not in data["text/html"]
    assert "the truth, prediction, second model" in data["text/plain"]


# ---- the reference renderer ----


def test_errors_and_scores_by_hand():
    truth = np.array([[1, 1, 0], [0, 255, 1]], np.uint8)
    found = np.array([[True, False, True], [False, True, True]])
    kinds = render.errors(truth, found, 1)
    assert kinds.tolist() == [[1, 3, 2], [0, 0, 1]], "hit, miss, false alarm; the ignored pixel counts nowhere"
    assert scores(kinds) == {"iou": 2 / 4, "precision": 2 / 3, "recall": 2 / 3}


def test_scores_equal_those_of_the_metrics():
    explorer = made(1)
    _, masks, _ = unpacked(explorer.samples[0])
    metric = SegmentationScores(CLASSES)
    metric.update(torch.tensor(masks["prediction"][None]).long(), torch.tensor(masks["truth"][None]).long())
    computed = metric.compute()
    for k, name in enumerate(CLASSES):
        now = render.Settings(**explorer.settings | {"chosen": k})
        ours = scores(render.errors(masks["truth"], render.answer(masks, now), k))
        assert ours["iou"] == pytest.approx(computed[f"iou_{name}"], abs=1e-6)


@given(st.integers(0, 100), st.booleans(), st.booleans())
@hypothesis_settings(max_examples=30, deadline=None)
def test_opacity_goes_from_the_picture_to_the_colour(opacity, outline, patterns):
    mask = np.repeat(np.arange(6, dtype=np.uint8), 8)[None].repeat(6, 0)
    image = np.full((6, 48, 3), 100, np.uint8)
    now = render.Settings(left="truth", opacity=opacity, outline=outline, patterns=patterns, visible=(True,) * 7)
    drawn = render.paint(image, {"truth": mask}, now)
    colors = np.array([render.rgb(color) for color in render.PALETTE])[mask]
    low, high = np.minimum(image, colors), np.maximum(image, colors)
    assert ((drawn >= low) & (drawn <= high)).all(), "between picture and colour"
    if opacity == 0:
        assert (drawn == image).all()
    if opacity == 100 and not (outline or patterns):
        assert (drawn == colors).all()


def test_switched_off_classes_and_outlines_leave_the_picture():
    explorer = made(1, left="truth", opacity=100)
    image, masks, _ = unpacked(explorer.samples[0])
    drawn = explorer.painted(visible=(False, True, *[False] * 6))
    assert ((drawn != image).any(2) <= (masks["truth"] == 1)).all()
    inside = ~render.outline(masks["truth"])
    outlines = explorer.painted(outline=True, visible=(True,) * 8)
    assert inside.any() and (outlines[inside] == image[inside]).all()


@pytest.mark.parametrize("number,name", [(1, "rows"), (2, "columns"), (3, "one"), (4, "other"), (5, "chessboard")])
def test_half_of_a_hatched_plane_is_strong(number, name):
    strong = render.hatch(np.full((8, 8), number))
    assert strong.mean() == 0.5
    same = [render.hatch(np.full((8, 8), other)) for other in range(6) if other != number]
    assert not any((strong == other).all() for other in same), "patterns differ from each other"


# ---- the canvas ----


def random_settings(draw, samples=3):
    views = ["picture", "truth", "prediction", "second", "drawing", "chosen", "errors"]
    return {
        "sample": int(draw.integers(samples)),
        "left": str(draw.choice(views)),
        "right": [None, *views][draw.integers(8)],
        "split": int(draw.integers(101)),
        "opacity": int(draw.integers(101)),
        "visible": [bool(one) for one in draw.integers(2, size=8)],
        "outline": bool(draw.integers(2)),
        "patterns": bool(draw.integers(2)),
        "chosen": int(draw.integers(7)),
        "scored": str(draw.choice(["prediction", "second", "drawing"])),
        "threshold": [None, int(draw.integers(1, 257))][draw.integers(2)],
    }


@pytest.mark.browser
@pytest.mark.parametrize("height,width", [(19, 26), (16, 16), (1, 7), (40, 3)])
def test_canvas_equals_the_reference_pixel_for_pixel(page, tmp_path, height, width):
    explorer, draw = made(3, height, width, seed=height), np.random.default_rng(width)
    open_viewer(page, explorer, tmp_path)
    drawn = [draw.choice([0, 3, 6, 255], size=(height, width)).astype(np.uint8) for _ in range(3)]
    explorer.drawings = {str(k): mask.tobytes() for k, mask in enumerate(drawn)}
    lists = {k: mask.ravel().tolist() for k, mask in enumerate(drawn)}
    arrays = "Object.fromEntries(Object.entries(all).map(([k, v]) => [k, Uint8Array.from(v)]))"
    page.evaluate(f"all => model.set('drawings', {arrays})", lists)
    for _ in range(40):
        now = explorer.settings | random_settings(draw)
        page.evaluate("now => model.set('settings', now)", now)
        explorer.settings = now
        canvas = canvas_pixels(page)
        assert (canvas[..., 3] == 255).all()
        assert (canvas[..., :3] == explorer.painted()).all(), now
        _, masks, probabilities = unpacked(explorer.samples[now["sample"]])
        masks["drawing"] = explorer.drawing(now["sample"])
        chosen = render.Settings(**now)
        kinds = render.errors(masks["truth"], render.answer(masks, chosen, probabilities), now["chosen"])
        told = page.locator(".mtl-result").inner_text()
        for name, value in scores(kinds).items():
            text = re.search(rf"(?i)\b{name} ([\d.–]+)", told)[1]
            assert text == "–" if np.isnan(value) else float(text) == pytest.approx(value, abs=0.00051)
    assert page.trouble == []


# Every control: its label, what the keys do to it, and the setting that must change.
SLIDERS = {
    "divider": "split",
    "opacity": "opacity",
    "threshold on P(class)": "threshold",
    "width of the brush": "brush",
}
CHOICES = {
    "show": ("left", "errors of the class", "errors"),
    "right of the divider": ("right", "truth", "truth"),
    "score": ("scored", "my drawing", "drawing"),
    "tool": ("tool", "brush", "brush"),
    "order": ("order", "worst mIoU", "worst mIoU"),
    "only where truth is": ("true", "cow", 2),
    "and the answer is": ("predicted", "dog", 3),
}


LAST = {"show": "errors", "right of the divider": "errors", "score": "drawing", "tool": "eraser"}
LAST |= {"order": "most of the class", "only where truth is": 6, "and the answer is": 6}


def test_a_divider_shows_one_view_on_each_side_and_a_threshold_changes_both():
    explorer = made(chosen=2)
    image, masks, probabilities = unpacked(explorer.samples[0])
    views = {"left": "chosen", "right": "errors", "split": 37, "threshold": 90, "opacity": 100}
    both = explorer.painted(**views)
    left, right = (explorer.painted(**views | {"left": view, "right": None}) for view in ("chosen", "errors"))
    columns = round(0.37 * image.shape[1])
    assert (both[:, :columns] == left[:, :columns]).all() and (both[:, columns:] == right[:, columns:]).all()
    color = render.rgb(render.PALETTE[2])
    for y, x in np.ndindex(*image.shape[:2]):
        found = probabilities[2, y // 2, x // 2] >= 90
        assert tuple(left[y, x]) == (color if found else tuple(image[y, x]))
        there = masks["truth"][y, x] == 2
        kind = {(True, True): render.HIT, (True, False): render.FALSE_ALARM, (False, True): render.MISS}
        drawn = None if masks["truth"][y, x] == 255 else kind.get((bool(found), bool(there)))
        assert tuple(right[y, x]) == (render.rgb(render.ERROR_COLORS[drawn]) if drawn else tuple(image[y, x]))


def test_the_bytes_of_a_picture_that_is_asked_for_are_sent(monkeypatch):
    explorer, sent = made(3, right="second"), []
    monkeypatch.setattr(explorer, "send", lambda message, buffers: sent.append((message, buffers)))
    explorer._more(None, {"sample": 2, "ticket": 7}, None)
    ((message, buffers),) = sent
    parts = explorer.samples[2]["parts"]
    assert message == {"sample": 2, "ticket": 7, "parts": list(parts)} and buffers == list(parts.values())


@pytest.fixture
def opened(page, tmp_path):
    explorer = made(6, height=40, width=48, right="second", names=[f"picture {k}" for k in range(6)])
    open_viewer(page, explorer, tmp_path)
    yield explorer
    assert page.trouble == []


@pytest.mark.browser
@pytest.mark.parametrize("label", SLIDERS)
def test_slider_by_key_and_by_mouse(page, opened, label):
    slider = page.get_by_label(label, exact=True)
    before, start = settings(page)[SLIDERS[label]], canvas_pixels(page)
    slider.focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    by_key = settings(page)[SLIDERS[label]]
    assert by_key == ((before or 0) + 9 if label != "width of the brush" else 5 + 18)
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    assert settings(page)[SLIDERS[label]] > by_key
    if label in ("divider", "opacity"):
        assert (canvas_pixels(page) != start).any()


@pytest.mark.browser
@pytest.mark.parametrize("label", CHOICES)
def test_choice_by_key_and_by_mouse(page, opened, label):
    key, text, value = CHOICES[label]
    select = page.get_by_label(label, exact=True)
    select.focus()
    page.keyboard.press("End")
    assert settings(page)[key] == LAST[label]
    page.keyboard.press("Home")
    select.click()
    page.keyboard.press("Escape")
    select.select_option(label=text)
    assert settings(page)[key] == value


@pytest.mark.browser
@pytest.mark.parametrize("label,key", [("outlines only", "outline"), ("patterns", "patterns")])
def test_switch_by_key_and_by_mouse(page, opened, label, key):
    box, start = page.get_by_label(label), canvas_pixels(page)
    box.focus()
    page.keyboard.press("Space")
    assert settings(page)[key] is True and (canvas_pixels(page) != start).any()
    box.click()
    assert settings(page)[key] is False and (canvas_pixels(page) == start).all()


@pytest.mark.browser
def test_legend_switches_and_chooses_classes(page, opened):
    page.evaluate("model.set('settings', {...model.get('settings'), right: null})")
    for k, name in enumerate([*CLASSES, "ignored"]):
        was = settings(page)["visible"][k]
        shown = page.get_by_label(f"show {name}")
        shown.focus()
        page.keyboard.press("Space")
        assert settings(page)["visible"][k] is not was
        shown.click()
        assert settings(page)["visible"][k] is was
    page.get_by_label("choose cow").click()
    assert settings(page)["chosen"] == 2 and page.locator(".mtl-result").inner_text().startswith("cow,")
    page.keyboard.press("ArrowDown")
    assert settings(page)["chosen"] == 3
    _, masks, _ = unpacked(opened.samples[0])
    row = page.locator(".mtl-legend tbody tr").nth(3).locator("td").all_inner_texts()
    share = [(masks[name] == 3).mean() for name in ("truth", "prediction")]
    assert row[-3:-1] == [f"{100 * one:.1f} %" for one in share]
    kinds = render.errors(masks["truth"], masks["prediction"] == 3, 3)
    assert row[-1] == f"{scores(kinds)['iou']:.2f}"


@pytest.mark.browser
def test_cursor_by_key_and_by_mouse_reads_the_pixel(page, opened):
    image, masks, probabilities = unpacked(opened.samples[0])
    canvas, said = page.locator(".mtl-canvas"), page.locator(".mtl-said").last
    canvas.focus()
    for key in ["ArrowRight"] * 3 + ["Shift+ArrowDown", "ArrowUp", "ArrowLeft"]:
        page.keyboard.press(key)

    def expected(y, x):
        best = int(probabilities[:, y // 2, x // 2].argmax())
        truth = masks["truth"][y, x]
        names = {"truth": "ignored" if truth == 255 else CLASSES[truth]}
        names |= {"prediction": CLASSES[masks["prediction"][y, x]], "second model": CLASSES[masks["second"][y, x]]}
        texts = [f"row {y}, column {x}", *[f"{who} {what}" for who, what in names.items()]]
        shown = dict.fromkeys([best, 1])
        return (
            "; ".join(texts)
            + "; "
            + ", ".join(f"P({CLASSES[k]}) {probabilities[k, y // 2, x // 2] / 255:.2f}" for k in shown)
        )

    assert said.inner_text() == expected(9, 2)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 30.5 / 48, box["y"] + box["height"] * 20.5 / 40)
    assert said.inner_text() == expected(20, 30)


@pytest.mark.browser
def test_zoom_and_pan_by_key_button_and_mouse(page, opened):
    canvas = page.locator(".mtl-canvas")
    wide = canvas.bounding_box()["width"]
    canvas.focus()
    page.keyboard.press("+")
    assert canvas.bounding_box()["width"] == pytest.approx(2 * wide)
    page.get_by_role("button", name="zoom in").click()
    assert canvas.bounding_box()["width"] == pytest.approx(4 * wide)
    left = canvas.bounding_box()["x"]
    window = page.locator(".mtl-window").bounding_box()
    page.mouse.move(window["x"] + 200, window["y"] + 100)
    page.mouse.down()
    page.mouse.move(window["x"] + 150, window["y"] + 100, steps=3)
    page.mouse.up()
    assert canvas.bounding_box()["x"] == pytest.approx(left - 50)
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    mark = page.locator(".mtl-cursor").bounding_box()
    assert window["x"] <= mark["x"] < window["x"] + window["width"], "the cursor is scrolled into sight"
    page.keyboard.press("-")
    assert canvas.bounding_box()["width"] == pytest.approx(2 * wide)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    assert canvas.bounding_box()["width"] == pytest.approx(2.5 * wide)
    page.get_by_role("button", name="zoom out").focus()
    page.keyboard.press("Enter")
    assert canvas.bounding_box()["width"] == pytest.approx(1.25 * wide)
    page.get_by_role("button", name="whole picture").focus()
    page.keyboard.press("Space")
    assert canvas.bounding_box()["width"] == pytest.approx(wide)
    page.get_by_role("button", name="zoom in").click()
    page.get_by_role("button", name="zoom out").click()
    page.get_by_role("button", name="zoom in").click()
    canvas.focus()
    page.keyboard.press("0")
    assert canvas.bounding_box()["width"] == pytest.approx(wide)
    page.keyboard.press("Control+-")
    page.keyboard.press("Control+0")
    assert canvas.bounding_box()["width"] == pytest.approx(wide), "these are the browser's own"


@pytest.mark.browser
def test_zoom_keeps_the_pixel_under_the_cursor(page, opened):
    canvas, window = page.locator(".mtl-canvas"), page.locator(".mtl-window").bounding_box()
    canvas.focus()
    for key in ["Shift+ArrowRight"] * 2 + ["Shift+ArrowDown"] * 2:
        page.keyboard.press(key)
    middle = lambda box: (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # noqa: E731
    before = middle(page.locator(".mtl-cursor").bounding_box())
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert middle(page.locator(".mtl-cursor").bounding_box()) == pytest.approx(before, abs=1.5)
    top = canvas.bounding_box()["y"]
    page.mouse.move(window["x"] + 100, window["y"] + 150)
    page.mouse.down()
    page.mouse.move(window["x"] + 100, window["y"] + 120, steps=3)
    page.mouse.up()
    assert canvas.bounding_box()["y"] == pytest.approx(top - 30)


@pytest.mark.browser
def test_divider_is_dragged(page, opened):
    divider, canvas = page.locator(".mtl-divider").bounding_box(), page.locator(".mtl-canvas").bounding_box()
    page.mouse.move(divider["x"] + 2, divider["y"] + 60)
    page.mouse.down()
    page.mouse.move(canvas["x"] + canvas["width"] * 0.8, divider["y"] + 60, steps=4)
    page.mouse.up()
    assert settings(page)["split"] in range(78, 83)
    columns = (48 * settings(page)["split"] + 50) // 100
    line = page.locator(".mtl-divider").bounding_box()
    assert line["x"] + line["width"] / 2 == pytest.approx(canvas["x"] + canvas["width"] * columns / 48, abs=1.5)
    _, masks, _ = unpacked(opened.samples[0])
    opened.settings = settings(page)
    assert (canvas_pixels(page)[..., :3] == opened.painted()).all()


@pytest.mark.browser
def test_brush_and_eraser_by_key_and_by_mouse(page, opened):
    page.evaluate("model.set('settings', {...model.get('settings'), right: null, left: 'drawing', scored: 'drawing'})")
    page.get_by_label("tool", exact=True).select_option(label="brush")
    page.get_by_label("choose dog").click()
    box = page.locator(".mtl-canvas").bounding_box()
    at = lambda x, y: (box["x"] + box["width"] * (x + 0.5) / 48, box["y"] + box["height"] * (y + 0.5) / 40)  # noqa: E731
    page.mouse.move(*at(10, 20))
    page.mouse.down()
    page.mouse.move(*at(30, 20), steps=2)
    page.mouse.up()
    drawn = drawing(page)
    assert (drawn[20, 8:33] == 3).all() and drawn[20, 7] == 255 and (drawn[17] == 255).all(), "5 pixels wide"
    canvas = page.locator(".mtl-canvas")
    canvas.focus()
    for key in ("Shift+ArrowDown", "Space"):
        page.keyboard.press(key)
    assert (drawing(page)[30, 28:33] == 3).all()
    page.get_by_label("tool", exact=True).select_option(label="eraser")
    canvas.focus()
    page.keyboard.press("Space")
    assert (drawing(page)[30] == 255).all()
    _, masks, _ = unpacked(opened.samples[0])
    opened.drawings, opened.settings = {"0": drawing(page).tobytes()}, settings(page)
    assert (canvas_pixels(page)[..., :3] == opened.painted()).all()
    score = scores(render.errors(masks["truth"], drawing(page) == 3, 3))["iou"]
    told = page.locator(".mtl-result").inner_text()
    assert f"dog, my drawing: IoU {score:.3f}" in told and "; prediction: IoU" in told, "beat the model"
    model_iou = scores(render.errors(masks["truth"], masks["prediction"] == 3, 3))["iou"]
    assert told.endswith(f"; prediction: IoU {model_iou:.3f}")
    page.get_by_label("tool", exact=True).select_option(label="brush")
    page.get_by_label("width of the brush").fill("9")
    canvas.focus()
    page.keyboard.press("Space")
    assert (drawing(page)[30] == 3).sum() == 9, "nine pixels wide"
    page.get_by_role("button", name="clear drawing").click()
    assert (drawing(page) == 255).all()
    canvas.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="clear drawing").focus()
    page.keyboard.press("Enter")
    assert (drawing(page) == 255).all()


def drawing(page):
    """What the browser has sent, or would send, as the drawing of picture 0."""
    sent = page.evaluate("(v => [...new Uint8Array(v.buffer, v.byteOffset, v.byteLength)])(model.get('drawings')[0])")
    return np.array(sent, np.uint8).reshape(40, 48)


@pytest.mark.browser
def test_samples_are_sorted_filtered_and_chosen(page, opened):
    def shown():
        return [int(text.split()[-1]) for text in page.locator(".mtl-thumb span").all_inner_texts()]

    masks = [unpacked(one)[1] for one in opened.samples]

    def iou(k, c):
        kinds = render.errors(masks[k]["truth"], masks[k]["prediction"] == c, c)
        return scores(kinds)["iou"]

    metric = SegmentationScores(CLASSES)
    for one in masks:
        metric.update(torch.tensor(one["prediction"][None]).long(), torch.tensor(one["truth"][None]).long())
    own = np.nanmean([iou(k, 1) for k in range(6)])
    told = page.locator(".mtl-said").first.inner_text()
    assert told.endswith(f"IoU of all pixels {metric.compute()['iou_cat']:.3f}, mean of the pictures {own:.3f}")
    page.get_by_label("order", exact=True).select_option(label="worst IoU of the class")
    assert shown() == sorted(range(6), key=lambda k: iou(k, 1))
    assert page.locator(".mtl-thumb small").all_inner_texts() == [f"{iou(k, 1):.2f}" for k in shown()]
    page.get_by_label("order", exact=True).select_option(label="worst mIoU")
    assert shown() == sorted(range(6), key=lambda k: np.nanmean([iou(k, c) for c in range(7)]))
    page.get_by_label("order", exact=True).select_option(label="most of the class")
    assert shown() == sorted(range(6), key=lambda k: -(masks[k]["truth"] == 1).sum())
    page.get_by_label("order", exact=True).select_option(label="given")
    cells = {
        (t, p): [k for k in range(6) if ((masks[k]["truth"] == t) & (masks[k]["prediction"] == p)).any()]
        for t in range(7)
        for p in range(7)
    }
    (t, p), cell = min(cells.items(), key=lambda one: len(one[1]))
    page.get_by_label("only where truth is").select_option(label=CLASSES[t])
    page.get_by_label("and the answer is").select_option(label=CLASSES[p])
    assert shown() == cell and len(cell) < 6, "some have no such pixel"
    page.get_by_label("and the answer is").select_option(label="any")
    there = [k for k in range(6) if (masks[k]["truth"] == t).any()]
    assert shown() == there, "one side: pictures where this class is true"
    page.get_by_label("only where truth is").select_option(label="any")
    page.get_by_label("and the answer is").select_option(label=CLASSES[p])
    valid = [one["truth"] != 255 for one in masks]
    assert shown() == [k for k in range(6) if (masks[k]["prediction"][valid[k]] == p).any()]
    page.get_by_label("and the answer is").select_option(label="any")
    page.locator(".mtl-list").focus()
    page.keyboard.press("End")
    assert settings(page)["sample"] == 5
    page.keyboard.press("ArrowLeft")
    assert settings(page)["sample"] == 4
    page.locator(".mtl-thumb").nth(1).click()
    assert settings(page)["sample"] == 1
    page.locator(".mtl-canvas").focus()
    page.keyboard.press("]")
    assert settings(page)["sample"] == 2
    opened.settings = settings(page)
    assert (canvas_pixels(page)[..., :3] == opened.painted()).all()
    page.keyboard.press("[")
    assert settings(page)["sample"] == 1
    for k, one in enumerate(opened.samples):
        small = page.evaluate(PIXELS, f".mtl-thumb:nth-child({k + 1}) canvas")[2][:3]
        assert small == list(unpacked(one)[0][0, 0]), "each thumbnail begins with its picture's first pixel"


@pytest.mark.browser
def test_what_has_no_score_comes_last_and_the_sum_follows_the_filter(page, tmp_path):
    truth = torch.tensor([[[1, 0], [0, 0]], [[0, 0], [0, 0]], [[1, 1], [0, 0]], [[255, 255], [2, 2]]])
    answers = torch.tensor([[[0, 1], [0, 1]], [[0, 0], [0, 1]], [[1, 0], [0, 0]], [[2, 2], [2, 2]]])
    second = truth.where(truth != 255, 0)
    pictures = torch.zeros(4, 3, 2, 2)
    explorer = MaskExplorer(pictures, truth, answers, second=second, classes=("a", "b", "c"), models=("one", "two"))
    open_viewer(page, explorer, tmp_path)
    page.get_by_label("order", exact=True).select_option(label="worst IoU of the class")
    names = page.locator(".mtl-thumb span")
    assert names.all_inner_texts() == ["0", "1", "2", "3"], "IoU of b: 0, 0, 1/2, none"
    told = page.locator(".mtl-said").first
    assert told.inner_text() == "b in these 4 pictures, one: IoU of all pixels 0.167, mean of the pictures 0.167"
    page.get_by_label("only where truth is").select_option(label="b")
    assert names.all_inner_texts() == ["0", "2"], "b is true"
    page.get_by_label("only where truth is").select_option(label="any")
    page.get_by_label("and the answer is").select_option(label="b")
    assert names.all_inner_texts() == ["0", "1", "2"], "b is answered"
    page.get_by_label("only where truth is").select_option(label="b")
    assert told.inner_text() == "b in this picture, one: IoU of all pixels 0.500, mean of the pictures 0.500"
    page.get_by_label("score", exact=True).select_option(label="two")
    assert names.all_inner_texts() == ["0", "2"], "thumbnails judge the model that is scored"
    page.locator(".mtl-thumb").first.click()
    cells = page.locator(".mtl-legend tbody tr").nth(1).locator("td").all_inner_texts()
    assert cells[-3:] == ["25.0 %", "25.0 %", "1.00"] and page.locator(".mtl-legend th").nth(4).inner_text() == "two"
    page.evaluate("model.set('settings', {...model.get('settings'), sample: 3, true: null, predicted: null})")
    ignored = page.locator(".mtl-legend tbody tr").last.locator("td").all_inner_texts()
    assert ignored[-3:] == ["50.0 %", "–", "–"]


@pytest.mark.browser
def test_a_threshold_says_its_resolution_and_leaves_the_drawing(page, opened):
    page.evaluate("model.set('settings', {...model.get('settings'), threshold: 128})")
    assert page.locator(".mtl-result").inner_text().startswith("cat, P ≥ 0.50, at half the resolution: IoU")
    page.get_by_label("score", exact=True).select_option(label="my drawing")
    told = page.locator(".mtl-result").inner_text()
    assert told.startswith("cat, my drawing: IoU 0.000") and "; prediction: IoU" in told


@pytest.mark.browser
def test_drawings_stay_in_the_page_that_is_saved(page, tmp_path):
    explorer = made(2, 8, 8, left="drawing")
    explorer.drawings = {"1": bytes([3] * 64)}
    open_viewer(page, explorer, tmp_path)
    page.locator(".mtl-canvas").focus()
    page.keyboard.press("]")
    explorer.settings = settings(page)
    assert explorer.settings["sample"] == 1 and (canvas_pixels(page)[..., :3] == explorer.painted()).all()


@pytest.mark.browser
def test_numbers_of_numpy_in_the_settings_are_numbers_in_the_page(page, tmp_path):
    open_viewer(page, made(2, 8, 8, chosen=np.int64(3), opacity=np.uint8(40)), tmp_path)
    assert (settings(page)["chosen"], settings(page)["opacity"]) == (3, 40)


@pytest.mark.browser
def test_the_picture_is_saved_as_png(page, opened):
    button = page.get_by_role("button", name="save as PNG")
    for act in (button.click, lambda: (button.focus(), page.keyboard.press("Enter"))):
        with page.expect_download() as download:
            act()
        file = Image.open(io.BytesIO(download.value.path().read_bytes())).convert("RGB")
        assert (np.asarray(file) == canvas_pixels(page)[..., :3]).all()
        assert download.value.suggested_filename == "picture_0.png"


@pytest.mark.browser
def test_a_python_side_change_moves_controls_and_canvas(page, opened):
    page.evaluate(
        "model.set('settings', {...model.get('settings'), opacity: 33, outline: true, chosen: 4, right: null})"
    )
    assert page.get_by_label("opacity").input_value() == "33" and page.get_by_label("outlines only").is_checked()
    assert page.get_by_label("choose horse").is_checked()


@pytest.mark.browser
def test_html_and_script_in_names_are_text(page, tmp_path):
    bad = ['<img src=x onerror="window.hit=1">', "</script><script>window.hit=1</script>", "{{STATE}}"]
    explorer = made(3, classes=(*bad, "d"), names=bad, title=bad[0], models=bad[:2])
    root = open_viewer(page, explorer, tmp_path, title=bad[1])
    assert page.evaluate("window.hit") is None and page.trouble == []
    assert root.locator("img, script").count() == 0
    assert page.locator(".mtl-thumb span").all_inner_texts() == bad
    assert page.locator(".mtl-legend th[scope=row]").all_inner_texts() == [*bad, "d", "ignored"]
    assert page.title() == bad[1]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, opened, scheme):
    page.emulate_media(color_scheme=scheme)
    page.evaluate("model.set('settings', {...model.get('settings'), left: 'errors'})")
    assert axe(page) == []


@pytest.mark.browser
def test_without_truth_or_probabilities_what_needs_them_is_gone(page, tmp_path):
    explorer = MaskExplorer(
        torch.rand(1, 3, 8, 8), prediction=torch.zeros(1, 8, 8, dtype=torch.int64), classes=("a", "b")
    )
    open_viewer(page, explorer, tmp_path)
    labels = page.locator(".mtl-field label").all_inner_texts()
    assert "score" not in labels and "threshold on P(class)" not in labels and "order" not in labels
    options = page.get_by_label("show", exact=True).locator("option").all_inner_texts()
    assert options == ["picture alone", "prediction", "my drawing"]
    assert page.locator(".mtl-result").inner_text() == "no truth is known for this picture"
    assert page.trouble == []


def test_settings_of_the_reference_are_those_that_are_sent():
    assert set(made(1).settings) == set(asdict(render.Settings()))
