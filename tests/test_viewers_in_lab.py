"""The viewers in a real JupyterLab: keys, kernel restart, reload, themes; no error, no request that leaves the machine.

Their controls one by one are worked in test_explorer.py and its neighbours, on the page that save_html writes.
"""

import os
from pathlib import Path

import nbformat
import pytest
import torch
from lab_fixture import KERNEL_IS_READY, open_lesson, run_all, write_notebook
from nbconvert import HTMLExporter
from viewer_fixture import axe, canvas_pixels, watch

from mtl_course.widgets import MaskExplorer

pytestmark = pytest.mark.browser

MADE = """import torch
from mtl_course import widgets
draw = torch.Generator().manual_seed(0)
truth = torch.randint(0, 3, (4, 6, 6), generator=draw).repeat_interleave(8, 1).repeat_interleave(8, 2)
images = torch.rand(4, 3, 48, 48, generator=draw)
logits = 2.0 * torch.nn.functional.one_hot(truth, 3).movedim(-1, 1) + torch.randn(4, 3, 48, 48, generator=draw)
"""
VIEWERS = {
    "explorer": "widgets.MaskExplorer.at_first = 30_000  # two of the pictures; the others are asked for\n"
    "explorer = widgets.MaskExplorer(images, truth, probabilities=logits.softmax(1),\n"
    "    classes=('background', 'cat', 'dog'), title='Random squares')\nexplorer",
    "mixer": "widgets.AlphaMixer(logits.movedim(1, 0)[:, :2], (truth == 1)[:2], labels=('a', 'b', 'c'), title='Mixer')",
    "playground": "widgets.GradientPlayground([[1, 0], [-0.5, 1], [0, -1]], title='Playground')",
    "front": "points = [{'label': f'w = {w}', 'x': w, 'y': 1 - w, 'weights': {'a': w}} for w in (0.2, 0.5, 0.8)]\n"
    "widgets.FrontExplorer(points, x='one (no unit)', y='two (no unit)', title='Front')",
    "scrubber": "masks = torch.stack([truth[0].roll(k, 1) for k in range(3)])\n"
    "widgets.EpochScrubber(images[:1], truth[:1], [masks], title='Epochs', classes=('background', 'cat', 'dog'))",
}
TITLES = dict(zip(VIEWERS, ("Random squares", "Mixer", "Playground", "Front", "Epochs")))
PICTURE = """root => [...root.querySelectorAll('canvas')].map(canvas => canvas.toDataURL()).join()
    + (root.querySelector('svg')?.innerHTML ?? '')"""
ASK = "print('drawn', sorted(set(explorer.drawing(0).ravel().tolist())), explorer.settings['opacity'])"
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"


@pytest.fixture
def notebook(page, lab):
    """A notebook with every viewer, run in JupyterLab."""
    write_notebook(lab, "viewers.ipynb", MADE, *VIEWERS.values(), ASK)
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


def viewer(page, name: str):
    return page.locator(f'{PANEL} [aria-label="{TITLES[name]}"].mtl-viewer')


def work(page) -> None:
    """In every viewer a key on its first slider repaints it, and in the explorer the arrow keys move the cursor."""
    for name in VIEWERS:
        root = viewer(page, name)
        root.scroll_into_view_if_needed()
        slider = root.locator("input[type=range]").first if name != "explorer" else root.get_by_label("opacity")
        before, value = root.evaluate(PICTURE), slider.input_value()
        slider.focus()
        page.keyboard.press("ArrowLeft" if float(value) > float(slider.get_attribute("min")) else "ArrowRight")
        assert slider.input_value() != value and root.evaluate(PICTURE) != before, name
    viewer(page, "explorer").locator(".mtl-canvas").focus()
    said = viewer(page, "explorer").locator(".mtl-said").last
    place = said.inner_text()
    page.keyboard.press("ArrowDown")
    assert said.inner_text() != place


def test_keys_reach_the_viewer_and_not_jupyterlab(notebook):
    page = notebook
    work(page)
    for key in ("0", "0", "d", "d", "x", "m", "a", "ArrowUp"):  # as commands: restart, delete, cut, markdown, insert
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(f"{PANEL} .jp-CodeCell").count() == 2 + len(VIEWERS)


def test_pictures_that_did_not_come_at_first_are_asked_for(notebook):
    root = viewer(notebook, "explorer")
    root.get_by_label("order", exact=True).select_option(label="worst mIoU")
    scores = root.locator(".mtl-thumb small")
    notebook.wait_for_function(
        "root => [...root.querySelectorAll('.mtl-thumb small')].every(one => Number(one.textContent) > 0)",
        arg=root.element_handle(),
        timeout=20_000,
    )
    assert scores.all_inner_texts() == sorted(scores.all_inner_texts()) and scores.count() == 4
    root.locator(".mtl-thumb", has_text="3").last.click()
    assert (canvas_pixels(notebook)[..., 3] == 255).all()


def test_a_drawing_and_a_setting_come_back_to_python(notebook):
    page = notebook
    root = viewer(page, "explorer")
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
    work(page)  # without a kernel that knows it
    run_all(page)
    work(page)


def test_after_a_reload_the_viewer_is_there(notebook, lab):
    page = notebook
    command(page, "File", "docmanager:save")
    page.wait_for_timeout(1000)
    assert "widgets" not in nbformat.read(lab.root / "notebooks" / "viewers.ipynb", as_version=4).metadata
    page.goto(page.url.replace("reset", "").replace("?&", "?"))
    page.reload()
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.wait_for_selector(f"{PANEL} .mtl-canvas", timeout=60_000)
    work(page)


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
    for name in VIEWERS:
        viewer(page, name).scroll_into_view_if_needed()
        viewer(page, name).screenshot(path=folder / f"viewer_{name}_{theme.split()[1].lower()}.png")
    assert axe(page) == []
    page.wait_for_timeout(500)


def saved_notebook(lab) -> nbformat.NotebookNode:
    """A notebook as it is committed: run elsewhere, its widget views removed, the pictures kept."""
    shown, _ = MaskExplorer(
        torch.rand(2, 3, 40, 40), torch.ones(2, 40, 40, dtype=torch.int64), classes=("a", "b")
    )._repr_mimebundle_()
    data = {kind: value for kind, value in shown.items() if kind.startswith("text/")}
    cell = nbformat.v4.new_code_cell("viewer", outputs=[nbformat.v4.new_output("display_data", data)])
    return nbformat.v4.new_notebook(cells=[cell])


def test_without_trust_the_pictures_are_shown(page, lab):
    nbformat.write(saved_notebook(lab), lab.root / "notebooks" / "untrusted.ipynb")
    page.goto(f"{lab.url}/lab/tree/notebooks/untrusted.ipynb?reset&token={lab.token}")
    pictures = page.locator(f"{PANEL} .jp-OutputArea-output img")
    pictures.first.wait_for(timeout=60_000)
    assert pictures.count() == 2 and all(one.evaluate("i => i.naturalWidth > 0") for one in pictures.all())
    assert "Pictures and their masks. 0" in pictures.first.get_attribute("alt")


def test_an_exported_page_shows_pictures_and_a_native_slider(page, lab, tmp_path):
    text, _ = HTMLExporter().from_notebook_node(saved_notebook(lab))
    (tmp_path / "page.html").write_text(text)
    page.route("http*://**", lambda route: route.abort())  # no network
    page.goto((tmp_path / "page.html").as_uri())
    pictures, slider = page.locator(".mtl-fallback img"), page.locator(".mtl-fallback input")
    assert all(one.evaluate("i => i.naturalWidth > 0") for one in pictures.all())
    page.set_viewport_size({"width": 400, "height": 600})
    before = pictures.first.bounding_box()["x"]
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "1" and pictures.first.bounding_box()["x"] < before
