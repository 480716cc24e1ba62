"""The viewers in a real JupyterLab: keys, kernel restart, reload, themes; no error, no request that leaves the machine.

Their controls one by one are worked in test_explorer.py and its neighbours, on the page that save_html writes.
"""

import os
from pathlib import Path

import nbformat
import pytest
from lab_fixture import KERNEL_IS_READY, open_lesson, run_all
from viewer_fixture import axe, canvas_pixels, watch

pytestmark = pytest.mark.browser

MADE = """import torch
from mtl_course import widgets
draw = torch.Generator().manual_seed(0)
truth = torch.randint(0, 3, (4, 6, 6), generator=draw).repeat_interleave(8, 1).repeat_interleave(8, 2)
images = torch.rand(4, 3, 48, 48, generator=draw)
logits = 2.0 * torch.nn.functional.one_hot(truth, 3).movedim(-1, 1) + torch.randn(4, 3, 48, 48, generator=draw)
"""
VIEWERS = {
    "explorer": "explorer = widgets.MaskExplorer(images, truth, probabilities=logits.softmax(1),\n"
    "    classes=('background', 'cat', 'dog'), title='Random squares')\nexplorer",
}
ASK = "print('drawn', sorted(set(explorer.drawing(0).ravel().tolist())), explorer.settings['opacity'])"
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"


@pytest.fixture
def notebook(page, lab):
    """A notebook with every viewer, run in JupyterLab."""
    cells = [nbformat.v4.new_code_cell(source) for source in (MADE, *VIEWERS.values(), ASK)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.root / "notebooks" / "viewers.ipynb")
    watch(page, (lab.url, lab.url.replace("http", "ws"), "data:", "blob:"))
    open_lesson(page, lab, "viewers.ipynb")
    run_all(page)
    page.wait_for_function(f"document.querySelectorAll('{PANEL} .mtl-viewer').length === {len(VIEWERS)}")
    yield page
    assert [one for one in page.trouble if not known(one)] == []


def known(trouble: str) -> bool:
    """What JupyterLab itself writes to the console, also without any viewer."""
    return any(
        text in trouble for text in ("favicon", "Failed to load resource: the server responded with a status of 4")
    )


def command(page, menu: str, name: str) -> None:
    page.click(f'.lm-MenuBar-itemLabel:text-is("{menu}")')
    page.click(f'.lm-Menu [data-command="{name}"]')


def work_the_explorer(page) -> None:
    """A key on a slider repaints the canvas, and the cursor moves by arrow keys."""
    root = page.locator(f'{PANEL} [aria-label="Random squares"].mtl-viewer')
    root.scroll_into_view_if_needed()
    before, slider = canvas_pixels(page), root.get_by_label("opacity")
    slider.focus()
    value = int(slider.input_value())
    page.keyboard.press("ArrowLeft")
    assert int(slider.input_value()) == value - 1 and (canvas_pixels(page) != before).any()
    root.locator(".mtl-canvas").focus()
    place = root.locator(".mtl-said").last.inner_text()
    page.keyboard.press("ArrowDown")
    assert root.locator(".mtl-said").last.inner_text() != place


def test_keys_reach_the_viewer_and_not_jupyterlab(notebook):
    page = notebook
    work_the_explorer(page)
    for key in ("0", "0", "d", "d", "x", "m", "a", "ArrowUp"):  # as commands: restart, delete, cut, markdown, insert
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(f"{PANEL} .jp-CodeCell").count() == 2 + len(VIEWERS)


def test_a_drawing_and_a_setting_come_back_to_python(notebook):
    page = notebook
    root = page.locator(f'{PANEL} [aria-label="Random squares"].mtl-viewer')
    root.get_by_label("tool", exact=True).select_option(label="brush")
    root.get_by_label("choose dog").click()
    root.locator(".mtl-canvas").focus()
    page.keyboard.press("Space")
    last = page.locator(f"{PANEL} .jp-CodeCell").last
    last.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    last.get_by_text("drawn [2, 255] 60").wait_for(timeout=20_000)


def test_after_a_restart_the_viewer_still_works_and_runs_again(notebook):
    page = notebook
    command(page, "Kernel", "kernelmenu:restart")
    page.click(".jp-Dialog .jp-mod-accept")
    page.wait_for_function(KERNEL_IS_READY, timeout=60_000)
    work_the_explorer(page)  # without a kernel that knows it
    run_all(page)
    work_the_explorer(page)


def test_after_a_reload_the_viewer_is_there(notebook):
    page = notebook
    command(page, "File", "docmanager:save")
    page.wait_for_timeout(1000)
    page.goto(page.url.replace("reset", "").replace("?&", "?"))
    page.reload()
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.wait_for_selector(f"{PANEL} .mtl-canvas", timeout=60_000)
    work_the_explorer(page)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_serious_in_either_theme(notebook, theme, tmp_path):
    page = notebook
    page.click('.lm-MenuBar-itemLabel:text-is("Settings")')
    page.locator(".lm-Menu-itemLabel", has_text="Theme").first.hover()
    page.click(f'.lm-Menu [data-command="apputils:change-theme"] >> text="{theme}"')
    page.wait_for_function(f"document.body.dataset.jpThemeName === '{theme}'")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    folder = Path(os.environ.get("MTL_COURSE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.set_viewport_size({"width": 1200, "height": 900})
    for number, viewer in enumerate(page.locator(f"{PANEL} .mtl-viewer").all()):
        viewer.scroll_into_view_if_needed()
        viewer.screenshot(path=folder / f"viewer_{list(VIEWERS)[number]}_{theme.split()[1].lower()}.png")
    assert axe(page) == []
    page.wait_for_timeout(500)
