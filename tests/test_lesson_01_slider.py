"""The sliders of lesson 01 move the picture and the IoU in a real JupyterLab."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_browser import BROWSERS, FLAGS, Lab, lab, open_lesson, run_all  # noqa: F401  (lab is a fixture)

pytestmark = pytest.mark.browser

LESSON = "01_one_formula.ipynb"
HAS_CHANGED = """([picture, text, src, iou]) =>
    picture.src !== src && text.querySelector('b').innerText !== iou"""


@pytest.fixture
def program() -> str:
    """The browser's program."""
    found = os.environ.get("MTL_COURSE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        reason = "Chromium was not found: `apt-get install chromium`, or name one in MTL_COURSE_CHROMIUM"
        if os.environ.get("MTL_COURSE_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def press_arrow_on_the_first_slider(program: str, lab: Lab) -> None:  # noqa: F811
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        open_lesson(page, lab, LESSON)
        run_all(page)
        notebook = page.locator(".jp-NotebookPanel:visible")
        handles = notebook.locator(".widget-slider .noUi-handle")
        assert handles.count() == 3, "a slider for each α"
        picture = notebook.locator("img.widget-image")
        text = notebook.locator(".widget-html-content", has_text="IoU on 100 scenes")
        iou, readout = text.locator("b"), notebook.locator(".widget-readout").first
        src, old_iou, old_value = picture.get_attribute("src"), iou.inner_text(), float(readout.inner_text())

        handles.first.scroll_into_view_if_needed()
        handles.first.focus()
        page.keyboard.press("ArrowRight")

        arguments = [picture.element_handle(), text.element_handle(), src, old_iou]
        page.wait_for_function(HAS_CHANGED, arg=arguments, timeout=10_000)
        assert float(readout.inner_text()) == pytest.approx(old_value + 0.05)
        assert 0 < float(old_iou) < float(iou.inner_text()) < 1, "more of colour is better than equal weights"
        assert picture.evaluate("i => i.complete && i.naturalWidth === 576 && i.naturalHeight === 192")
        browser.close()


def test_arrow_key_on_a_slider_changes_picture_and_iou(program, lab):  # noqa: F811
    # A thread of its own: the fixtures of test_browser keep Playwright busy in this one until the session ends.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(press_arrow_on_the_first_slider, program, lab).result()
