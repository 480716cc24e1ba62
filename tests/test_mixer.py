"""AlphaMixer: f and IoU in the browser are those of mtl_course.formula, and every control does what it says."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from viewer_fixture import axe, open_viewer

from mtl_course import formula
from mtl_course.errors import CourseError
from mtl_course.widgets import AlphaMixer

LOAD = """async text => {
    window.lib = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
}"""
BROWSER = str(AlphaMixer._esm) + "\nexport { mixed, gated, iouOf };"
SETTINGS = "model.get('settings')"


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vector(**options) -> AlphaMixer:
    learned = torch.tensor([0.75, -0.26, 0.13])
    kinds = {"labels": ("colour", "brightness", "height"), "learned": learned} | options
    return AlphaMixer(drawn(3, 2, 8, 10), drawn(2, 8, 10, seed=1) > 0, **kinds)


def matrix() -> AlphaMixer:
    truth = torch.stack([drawn(2, 8, 10, seed=1), 4 + drawn(2, 8, 10, seed=2)])
    learned = torch.tensor([[0.7, -0.2], [0.1, 4.2]])
    return AlphaMixer(drawn(2, 2, 8, 10), truth, labels=("a", "b"), learned=learned, tasks={"mask": None, "depth": "m"})


def gated() -> AlphaMixer:
    truth, gate = drawn(2, 8, 10, seed=1) > 0, drawn(2, 2, 8, 10, seed=3)
    return AlphaMixer(drawn(2, 2, 8, 10), truth, labels=("a", "b"), gate=gate)


def iou(f: torch.Tensor, truth: torch.Tensor) -> float:
    return ((f > 0) & truth).sum().item() / ((f > 0) | truth).sum().item()


# ---- Python ----


def test_mixed_is_the_formula():
    mixer = vector()
    alpha = torch.tensor([1.2, -0.4, 0.3])
    expected = formula.mix(alpha, drawn(3, 2, 8, 10)[:, :, None])[:, 0]
    assert torch.allclose(mixer.mixed([alpha.tolist()])[0], expected, atol=1e-6)
    assert torch.allclose(mixer.mixed()[0], drawn(3, 2, 8, 10).mean(0), atol=1e-6), "it starts at equal weights"
    assert gated().mixed([[0.0, 0.0, 50.0]])[0].allclose(drawn(2, 2, 8, 10)[1]), "b₂ alone decides"
    assert matrix().mixed([[1.0, 0.0], [0.0, 1.0]]).allclose(drawn(2, 2, 8, 10)), "a row for each task"


WRONG = {
    "outputs": {"labels": ("one", "two")},
    "learned": {"learned": torch.ones(4)},
    "truth": {"tasks": {"a": None, "b": None}, "learned": None},
    "images": {"images": torch.zeros(2, 3, 8, 9)},
    "gate should": {"gate": torch.zeros(2, 2, 8, 10), "learned": None},
    "leave out `learned`": {"gate": torch.zeros(3, 2, 8, 10)},
}


@pytest.mark.parametrize("told", WRONG)
def test_bad_input_is_refused(told):
    with pytest.raises(CourseError, match=told):
        vector(**WRONG[told])


def test_numbers_that_are_not_finite_are_refused():
    for bad in (torch.full((3, 1, 2, 2), torch.nan), torch.full((3, 1, 2, 2), torch.inf)):
        with pytest.raises(CourseError, match="outputs should be finite numbers"):
            AlphaMixer(bad, torch.ones(1, 2, 2), labels="abc")
    with pytest.raises(CourseError, match=r"outputs should be finite numbers \(N, B, H, W\)"):
        AlphaMixer(torch.ones(3, 4), torch.ones(4), labels="abc")


def test_fallback_shows_learned_and_equal():
    frames = vector(images=torch.rand(2, 3, 8, 10)).frames()
    assert [picture.shape for picture, _ in frames] == [(20, 96, 3)] * 2, "gaps of two pixels"
    assert "learned α: the picture, f(x)" in frames[0][1] and (frames[0][0] != frames[1][0]).any()
    ((learned, _), (equal, _)), f = gated().frames(), gated().mixed([[1.0, 0.0, 0.0]])[0, 0]
    orange = (learned[:16:2, ::2] == (0xE6, 0x9F, 0)).all(-1)
    assert (orange[:, 24:34] == (f > 0).numpy()).all(), "α₁, f, answer, truth"
    assert np.ptp(equal[0, 0]) > 0 and (equal[:16, :20] == equal[0, 0]).all(), "α₁ is the same everywhere"
    assert matrix().frames()[0][0].shape == (40, 72, 3)


# ---- the browser's numbers ----


@pytest.mark.browser
def test_f_and_iou_in_the_browser_are_those_of_the_formula(page):
    page.evaluate(LOAD, BROWSER)
    for seed in range(3):
        outputs, gate = drawn(4, 3, 6, 5, seed=seed), 2 * drawn(4, 3, 6, 5, seed=10 + seed)
        alpha, row = drawn(4, seed=20 + seed), [1.7, *drawn(4, seed=30 + seed).tolist()]
        sent = outputs.flatten().tolist()
        found = page.evaluate("([g, a]) => Array.from(lib.mixed(new Float32Array(g), a, 90))", [sent, alpha.tolist()])
        expected = formula.mix(alpha, outputs[:, :, None])[:, 0]
        agree(found, expected)
        truth = drawn(3, 6, 5, seed=40 + seed) > 0
        there = page.evaluate("([f, t]) => lib.iouOf(f, t)", [found, truth.int().flatten().tolist()])
        assert there == pytest.approx(iou(expected, truth), abs=1e-12)
        found = page.evaluate(
            """([g, z, row]) => { const gate = new Float32Array(z);
               return Array.from(lib.mixed(new Float32Array(g), lib.gated(gate, row, 90), 90)); }""",
            [sent, gate.flatten().tolist(), row],
        )
        scores = row[0] * gate + torch.tensor(row[1:])[:, None, None, None]  # (N, B, H, W)
        model = formula.GatedMix([], lambda _, scores=scores: scores.movedim(0, 1))
        agree(found, formula.mix(model.alpha(outputs), outputs[:, :, None])[:, 0])


def agree(found: list[float], expected: torch.Tensor) -> None:
    found = torch.tensor(found, dtype=torch.float64).reshape(expected.shape)
    assert torch.allclose(found, expected.double(), atol=1e-5)
    sure = expected.abs() > 1e-5
    assert torch.equal((found > 0)[sure], (expected > 0)[sure]) and sure.float().mean() > 0.99


@pytest.mark.browser
def test_iou_leaves_ignored_pixels_out(page):
    page.evaluate(LOAD, BROWSER)
    assert page.evaluate("lib.iouOf([1, 1, -1, 1], [1, 0, 1, 255])") == pytest.approx(1 / 3)


# ---- the page ----


@pytest.fixture
def opened(page, tmp_path):
    def show(mixer: AlphaMixer):
        open_viewer(page, mixer, tmp_path)
        return page

    yield show
    assert page.trouble == []


def canvas(page, name: str, row: int = 0) -> np.ndarray:
    """Colours of a map, (H, W, 3)."""
    element = page.locator(".mtl-task").nth(row).locator(f'canvas[aria-label^="{name}"]')
    rgba = element.evaluate("c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
    return np.array(rgba, np.uint8).reshape(8, 10, 4)[..., :3]


def told(page, row: int = 0) -> str:
    return page.locator(".mtl-task .mtl-result").nth(row).inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("way", ["key", "mouse"])
def test_slider_redraws_maps_and_iou(opened, way):
    mixer = vector()
    page = opened(mixer)
    slider, before = page.get_by_label("α₂ brightness"), canvas(page, "f(x)")
    box = slider.bounding_box()
    if way == "key":
        slider.focus()
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
    else:
        page.mouse.click(box["x"] + 0.1 * box["width"], box["y"] + box["height"] / 2)
    values = page.evaluate(SETTINGS)["values"]
    assert values[0][1] == pytest.approx(0.1) if way == "key" else values[0][1] < -1
    f, truth = mixer.mixed(values)[0], drawn(2, 8, 10, seed=1) > 0
    assert (canvas(page, "f(x)") != before).any()
    assert ((canvas(page, "answer")[..., 0] == 0xE6) == (f[0] > 0).numpy()).all()
    learned = iou(mixer.mixed(mixer.data["learned"])[0], truth)
    expected = f"IoU {iou(f[0], truth[0]):.3f} on this picture, {iou(f, truth):.3f} on all 2 sent"
    assert told(page) == f"{expected}; learned α: {learned:.3f}"


@pytest.mark.browser
@pytest.mark.parametrize("way", ["key", "mouse"])
def test_buttons(opened, way):
    mixer = vector()
    page = opened(mixer)
    assert "(learned −0.26)" in page.locator(".mtl-controls").inner_text()
    marks = page.locator(".mtl-mark")
    assert marks.count() == 3 and "* 0.75" in marks.first.get_attribute("style"), "0.75 of ±1.5"
    for name, values in (("learned α", mixer.data["learned"]), ("equal α", [[1 / 3] * 3])):
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter") if way == "key" else button.click()
        assert page.evaluate(SETTINGS)["values"] == values
        shown = canvas(page, "f(x)")
        scale = colormaps["cividis"].resampled(15)(range(15), bytes=True)[:, :3]
        share = (mixer.mixed(values)[0, 0].numpy() + 3) / 6 * 15
        sure = np.abs(share - share.round()) > 1e-3  # not at the border of two colours
        apart = np.abs(shown.astype(int) - scale[share.clip(0, 14).astype(int)])
        assert apart[sure].max() <= 1, "the bytes of matplotlib are cut, not rounded"


@pytest.mark.browser
def test_choice_of_the_picture(opened):
    page = opened(vector(images=torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(0))))
    before, picture = canvas(page, "truth"), canvas(page, "picture x")
    page.get_by_label("picture", exact=True).focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(SETTINGS)["picture"] == 1
    assert (canvas(page, "truth") != before).any() and (canvas(page, "picture x") != picture).any()
    page.get_by_label("picture", exact=True).select_option("0")
    assert (canvas(page, "picture x") == picture).all()


@pytest.mark.browser
@pytest.mark.parametrize("way", ["key", "mouse"])
def test_matrix_has_a_row_for_each_task(opened, way):
    mixer = matrix()
    page = opened(mixer)
    masks, depths = canvas(page, "f(x)"), canvas(page, "f(x)", 1)
    slider = page.get_by_role("group", name="depth").get_by_label("α₂ b")
    if way == "key":
        slider.focus()
        page.keyboard.press("End")
    else:
        box = slider.bounding_box()
        page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    values = page.evaluate(SETTINGS)["values"]
    assert values == [[0.5, 0.5], [0.5, 7.5]], "the limit is 1.5 times the learned 4.2, rounded up to 5"
    assert (canvas(page, "f(x)") == masks).all() and (canvas(page, "f(x)", 1) != depths).any()
    error = (mixer.mixed(values)[1] - (4 + drawn(2, 8, 10, seed=2))).abs().mean()
    assert f"{error:.3f} m on all 2 sent; learned α: " in told(page, 1)
    assert told(page, 0).startswith("IoU ")


@pytest.mark.browser
@pytest.mark.parametrize("way", ["key", "mouse"])
def test_gate_by_sharpness_and_offsets(opened, way):
    mixer = gated()
    page = opened(mixer)
    assert len(np.unique(canvas(page, "α₁(x)").reshape(-1, 3), axis=0)) == 1, "sharpness 0: α is the same everywhere"
    for label, column in (("sharpness", 0), ("b₁ a", 1), ("b₂ b", 2)):
        slider = page.get_by_label(label)
        before, box = page.evaluate(SETTINGS)["values"][0][column], slider.bounding_box()
        slider.focus()
        if way == "key":
            page.keyboard.press("PageUp")
        else:
            page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
        assert page.evaluate(SETTINGS)["values"][0][column] > before
    f, truth = mixer.mixed(page.evaluate(SETTINGS)["values"])[0], drawn(2, 8, 10, seed=1) > 0
    assert f"{iou(f, truth):.3f} on all 2 sent" in told(page)
    assert len(np.unique(canvas(page, "α₁(x)").reshape(-1, 3), axis=0)) > 3


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("make", [vector, matrix, gated])
def test_axe_finds_nothing_serious(opened, make, theme):
    page = opened(make())
    page.emulate_media(color_scheme=theme)
    assert axe(page) == []
