"""Every lesson in a real JupyterLab, driven in Chromium.

MTL_COURSE_SCREENSHOTS names a folder that keeps the pictures.
"""

import os
from pathlib import Path

import nbformat
import pytest
from lab_fixture import LESSONS, ROOT, open_lesson, run_all

pytestmark = pytest.mark.browser
IS_DRAWN = """root => root.querySelector('svg line') !== null || [...root.querySelectorAll('canvas')].some(canvas =>
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value > 0))"""


def take_pictures(page, folder: Path, name: str) -> None:
    """Save the whole notebook as name_1.png, name_2.png ..., window by window."""
    folder.mkdir(parents=True, exist_ok=True)
    page.set_viewport_size({"width": 1200, "height": 2500})
    panel = page.locator(".jp-NotebookPanel:visible .jp-WindowedPanel-outer")
    windows = 1 + panel.evaluate("e => Math.floor((e.scrollHeight - 1) / e.clientHeight)")
    for number in range(windows):
        panel.evaluate("(e, number) => { e.scrollTop = number * e.clientHeight; }", number)
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}_{number + 1}.png")


def stored_pictures(name: str) -> int:
    """How many pictures the committed lesson shows."""
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs)


def stored_viewers(name: str) -> int:
    """How many viewers the committed lesson has, by their pictures."""
    return (ROOT / "notebooks" / name).read_text(encoding="utf-8").count('class=\\"mtl-fallback\\"')


@pytest.mark.parametrize("name", LESSONS)
def test_lesson_runs_in_jupyterlab(page, lab, name, tmp_path):
    open_lesson(page, lab, name)
    run_all(page)
    take_pictures(page, Path(os.environ.get("MTL_COURSE_SCREENSHOTS", tmp_path)), Path(name).stem)
    errors = page.locator(
        '.jp-OutputArea-output[data-mime-type*="error"], .jp-OutputArea-output[data-mime-type*="stderr"]'
    )
    assert errors.all_inner_texts() == []
    assert page.get_by_text("Error displaying widget").count() == 0
    pictures = page.locator(".jp-RenderedImage img")
    assert pictures.count() >= stored_pictures(name)
    assert all(
        picture.evaluate("i => i.complete && i.naturalWidth > 0 && i.offsetWidth > 0") for picture in pictures.all()
    )
    move_the_sliders(page)
    # A viewer inside a box of widgets (lesson 10's upload) has no picture in the committed lesson.
    viewers = page.locator(".jp-NotebookPanel:visible .mtl-viewer:not(.widget-vbox *)")
    assert viewers.count() == stored_viewers(name)
    assert all(viewer.evaluate(IS_DRAWN) for viewer in viewers.all())


def move_the_sliders(page) -> None:
    """An arrow key on any slider gives another picture."""
    notebook = page.locator(".jp-NotebookPanel:visible")
    for handle in notebook.locator(".widget-slider .noUi-handle").all():
        before = [picture.get_attribute("src") for picture in notebook.locator("img.widget-image").all()]
        assert before, "a slider moves a picture"
        handle.scroll_into_view_if_needed()
        handle.focus()
        at_the_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        page.keyboard.press("ArrowLeft" if at_the_end else "ArrowRight")
        changed = "before => [...document.querySelectorAll('img.widget-image')].some((i, n) => i.src !== before[n])"
        page.wait_for_function(changed, arg=before, timeout=20_000)
