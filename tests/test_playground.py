"""GradientPlayground: the rules in the browser are those of the package, and every control does what it says."""

import numpy as np
import pytest
import torch
from lab_fixture import open_lesson, run_all, write_notebook
from viewer_fixture import axe, open_viewer

from mtl_course.balancing import GRADIENT_RULES
from mtl_course.errors import CourseError
from mtl_course.widgets import GradientPlayground
from mtl_course.widgets.playground import alphas

LOAD = """async text => {
    window.lib = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
}"""
SETTINGS = "model.get('settings')"


def turned(angle: float, length: float) -> list[float]:
    return [length * float(np.cos(angle)), length * float(np.sin(angle))]


def pairs() -> list[list[list[float]]]:
    """Pairs of gradients: random ones, and those where formulas go wrong."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        start, length = rng.uniform(0, 2 * np.pi), 10 ** rng.uniform(-3, 3)
        found.append([turned(start, 1.0), turned(rng.uniform(0, 2 * np.pi), length)])
    for between in (0.0, np.pi / 2, np.pi, 1e-4, np.pi - 0.01, np.pi / 2 + 1e-5, 0.3):
        for length in (1.0, 0.5, 3.0, 1e-3, 1e4, 0.0):
            for start in (0.0, 0.7):
                found.append([turned(start, 1.0), turned(start + between, length)])
    same = [[0.3, 0.7], [0.3, 0.7]]
    exact = [[[1, 0], [0, 1]], [[1, 0], [-1, 0]], [[1, 0], [-3, 0]], [[1, 0], [3, 0]], [[0, 0], [0, 0]]]
    return [*found, same, *exact]


@pytest.mark.browser
def test_rules_in_the_browser_are_those_of_the_package(page):
    drawn = pairs()
    assert len(drawn) > 280
    page.evaluate(LOAD, str(GradientPlayground._esm) + "\nexport { alphas };")
    there = page.evaluate("pairs => pairs.map(lib.alphas)", drawn)
    undefined = set()
    for gradients, found in zip(drawn, there):
        expected = alphas(gradients)
        assert list(found) == list(expected)
        for rule, alpha in expected.items():
            if isinstance(alpha, str):
                undefined.add(alpha)
                assert found[rule] == alpha, (rule, gradients)
            else:
                assert not isinstance(found[rule], str), (rule, gradients, alpha, found[rule])
                size = max(map(abs, alpha))
                assert found[rule] == pytest.approx(alpha, rel=1e-6, abs=max(1e-9 * size, 1e-12)), (rule, gradients)
    assert len(undefined) == 7, undefined  # zero: imtl_g, nash, fairgrad, aligned; singular; no solution, twice


@pytest.mark.browser
def test_browser_solves_what_is_nearly_opposite(page):
    """There the package's Newton steps end without an answer; the equation itself says who is right."""
    page.evaluate(LOAD, str(GradientPlayground._esm) + "\nexport { alphas };")
    for length in (0.5, 1.0, 3.0):
        J = np.array([turned(0.7, 1.0), turned(0.7 + np.pi - 1e-4, length)])
        found = page.evaluate("pair => lib.alphas(pair)", J.tolist())
        for rule, power in (("nash", 1.0), ("fairgrad", 0.5)):
            alpha = np.array(found[rule])
            assert J @ J.T @ alpha == pytest.approx(alpha**-power, rel=1e-6), (rule, length)


def test_alphas_of_three_gradients_are_those_of_the_rules():
    rows = [[1.0, 0.0], [-0.5, 1.0], [0.5, -1.2]]
    J = torch.tensor(rows, dtype=torch.float64)
    found = alphas(rows)
    assert list(found) == list(GRADIENT_RULES)
    assert found["upgrad"] == GRADIENT_RULES["upgrad"](J @ J.T).tolist()
    assert found["imtl_g"].startswith("imtl_g is not defined where G is singular")  # three in a plane
    assert found["pcgrad"] == alphas(rows)["pcgrad"], "one seed, one answer"


@pytest.mark.parametrize("bad", [[[1, 0]], [[1, 0, 0], [0, 1, 0]], [[1, 0], [float("nan"), 1]], "ab", [[1], [2, 3]]])
def test_other_forms_are_refused(bad):
    with pytest.raises(CourseError, match="two or three gradients"):
        GradientPlayground(bad)


def test_unknown_rule_is_refused():
    with pytest.raises(CourseError, match="did you mean 'pcgrad'"):
        GradientPlayground(rule="pcgrat")


def test_python_answers_three_gradients_when_the_browser_asks():
    viewer = GradientPlayground()
    assert viewer.answers == {}, "two are the browser's"
    asked = [[1.0, 0.0], [-0.5, 1.0], [0.5, -1.0]]
    viewer.settings = viewer.settings | {"gradients": asked}
    assert viewer.answers == {"gradients": asked, "rules": alphas(asked)}
    viewer.settings = viewer.settings | {"gradients": asked[:2]}
    viewer.close()


def test_fallback_says_what_the_rule_gives():
    ((picture, told),) = GradientPlayground([[1.0, 0.0], [-2.0, 0.0]], rule="nash").frames()
    assert picture.dtype == np.uint8 and picture.std() > 10 and "nash has no solution" in told
    assert "mgda gives α = (0.54, 0.46)" in GradientPlayground(rule="mgda").frames()[0][1]


# ---- in the browser ----


@pytest.fixture
def opened(page, tmp_path):
    open_viewer(page, GradientPlayground(), tmp_path)
    yield page
    assert page.trouble == []


def point(page, x: float, y: float) -> tuple[float, float]:
    """Where in the window a point of the plane is."""
    box = page.locator(".mtl-plane").bounding_box()
    return box["x"] + (x + 3) / 6 * box["width"], box["y"] + (3 - y) / 6 * box["height"]


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*point(page, *start))
    page.mouse.down()
    page.mouse.move(*point(page, *end), steps=5)
    page.mouse.up()


def result(page) -> str:
    return page.locator(".mtl-result").inner_text()


@pytest.mark.browser
def test_tip_by_mouse(opened):
    drag(opened, (-0.5, 1), (-2, 0.3))
    s = opened.evaluate(SETTINGS)
    assert s["chosen"] == 1 and s["gradients"] == [[1, 0], [pytest.approx(-2), pytest.approx(0.3)]]
    assert result(opened) == "equal: d = (−1.00, 0.30), ‖d‖ = 1.04, g₁·d = −1.00, g₂·d = 2.09: harms task 1"
    tips = opened.locator(".mtl-tip")
    assert tips.nth(0).locator("line").get_attribute("stroke-dasharray") and "harmed" in tips.nth(0).inner_html()
    assert not tips.nth(1).locator("line").get_attribute("stroke-dasharray")
    assert (
        opened.locator(".mtl-said").inner_text()
        == "g₁ = (1.00, 0.00), g₂ = (−2.00, 0.30); cos(g₁, g₂) = −0.99: in conflict"
    )


@pytest.mark.browser
def test_tip_by_keys(opened):
    opened.locator(".mtl-plane").focus()
    for key in ("2", "Shift+ArrowLeft", "ArrowDown", "1", "ArrowUp"):
        opened.keyboard.press(key)
    s = opened.evaluate(SETTINGS)
    assert np.allclose(s["gradients"], [[1, 0.05], [-1, 0.95]]) and s["chosen"] == 0
    for _ in range(9):
        opened.keyboard.press("Shift+ArrowRight")
    assert opened.evaluate(SETTINGS)["gradients"][0][0] == 3, "the tip stays in the picture"
    assert "g₁ = (3.00, 0.05)" in opened.locator(".mtl-plane").get_attribute("aria-label")


@pytest.mark.browser
@pytest.mark.parametrize("way", ["key", "mouse"])
def test_rule_and_table(opened, way):
    radio = opened.get_by_label("rule equal")
    if way == "key":
        radio.focus()
        opened.keyboard.press("ArrowDown")
    else:
        opened.get_by_label("rule pcgrad").click()
    assert opened.evaluate(SETTINGS)["rule"] == "pcgrad"
    assert result(opened).startswith("pcgrad: d = (0.80, 1.40), ‖d‖ = 1.61")
    cells = opened.locator(".mtl-chosen").inner_text().split("\t")
    assert [cell.strip() for cell in cells][1:] == ["▶ pcgrad", "1.500, 1.400", "1.612", "60°", "none"]
    assert opened.locator(".mtl-rules tbody tr").count() == 10


@pytest.mark.browser
@pytest.mark.parametrize("way", ["key", "mouse"])
def test_length_keeps_the_direction(opened, way):
    opened.get_by_label("move", exact=True).select_option("1")
    slider = opened.get_by_label("its length")
    if way == "key":
        slider.focus()
        opened.keyboard.press("ArrowRight")
    else:
        box = slider.bounding_box()
        opened.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + box["height"] / 2)
    g = np.array(opened.evaluate(SETTINGS)["gradients"][1])
    assert np.hypot(*g) > 1.13 and g[1] == pytest.approx(-2 * g[0])
    assert opened.locator(".mtl-said").inner_text().endswith("; cos(g₁, g₂) = −0.45: in conflict"), (
        "only the scale moved"
    )


@pytest.mark.browser
@pytest.mark.parametrize("way", ["key", "mouse"])
def test_unit_length_and_reset(opened, way):
    def use(control):
        control.focus()
        opened.keyboard.press("Space") if way == "key" else control.click()

    tip = lambda: float(opened.locator(".mtl-d line").get_attribute("y2"))  # noqa: E731
    before = tip()
    use(opened.get_by_label("draw d with length 1"))
    assert opened.evaluate(SETTINGS)["unit"] is True
    assert tip() > before, "d of length 1.12 was drawn longer"
    assert opened.locator(".mtl-d text").text_content() == "d/‖d‖"
    drag(opened, (1, 0), (2, 2))
    use(opened.get_by_role("button", name="first gradients"))
    assert opened.evaluate(SETTINGS)["gradients"] == [[1, 0], [-0.5, 1]]


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, theme):
    opened.emulate_media(color_scheme=theme)
    opened.get_by_label("rule nash").click()
    assert axe(opened) == []


@pytest.mark.browser
def test_three_gradients_wait_for_a_kernel_and_show_its_answer(opened):
    select = opened.get_by_label("gradients", exact=True)
    select.focus()
    opened.keyboard.press("ArrowDown")
    asked = opened.evaluate(SETTINGS)["gradients"]
    assert len(asked) == 3 and "running kernel" in result(opened)
    answers = {"gradients": asked, "rules": alphas(asked)}
    opened.evaluate("answers => model.set('answers', answers)", answers)  # as Python's observer does
    assert result(opened).startswith("equal: d = (1.30, 0.40)")
    opened.get_by_label("rule nash").click()
    assert result(opened).startswith("nash: d =")
    opposite = [*asked[:2], [0.5, -1]]
    opened.evaluate("g => model.set('settings', {...model.get('settings'), gradients: g})", opposite)
    answers = {"gradients": opposite, "rules": alphas(opposite)}
    opened.evaluate("answers => model.set('answers', answers)", answers)
    assert result(opened) == answers["rules"]["nash"]
    select.select_option("2")
    assert len(opened.evaluate(SETTINGS)["gradients"]) == 2 and result(opened).startswith("nash: d =")


@pytest.mark.browser
def test_page_made_with_three_gradients_knows_their_answer(page, tmp_path):
    viewer = GradientPlayground([[1, 0], [-2, 0.3], [0.5, -1]], rule="upgrad")
    page.goto(f"file://{viewer.save_html(tmp_path / 'three.html')}")
    assert page.locator(".mtl-result").inner_text().startswith("upgrad: d = ")
    assert viewer.answers["rules"]["upgrad"] == alphas(viewer.settings["gradients"])["upgrad"]


@pytest.mark.browser
def test_a_running_kernel_answers_three_gradients(page, lab):
    made = "from mtl_course.widgets import GradientPlayground\nGradientPlayground(rule='upgrad')"
    write_notebook(lab, "three.ipynb", made)
    open_lesson(page, lab, "three.ipynb")
    run_all(page)
    root = page.locator(".jp-NotebookPanel:visible .mtl-viewer")
    root.get_by_label("gradients", exact=True).select_option("3")
    root.locator(".mtl-plane").focus()
    for key in ("3", "Shift+ArrowLeft", "ArrowDown"):  # g₃ = (0.3, -0.65)
        page.keyboard.press(key)
    alpha = alphas([[1, 0], [-0.5, 1], [0.3, -0.65]])["upgrad"]
    cell = root.locator(".mtl-chosen").get_by_text(", ".join(f"{a:.3f}" for a in alpha))
    cell.wait_for(timeout=20_000)
    assert root.locator(".mtl-result").inner_text().startswith("upgrad: d = ")
