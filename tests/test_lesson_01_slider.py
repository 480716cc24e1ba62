"""The sliders of lesson 01 move the picture and the IoU in a real JupyterLab."""

import pytest
from test_browser import browser, lab, open_lesson, page, run_all  # noqa: F401  (the first three are fixtures)

pytestmark = pytest.mark.browser

LESSON = "01_one_formula.ipynb"


def test_arrow_key_on_a_slider_changes_picture_and_iou(page, lab):  # noqa: F811
    open_lesson(page, lab, LESSON)
    run_all(page)
    handles = page.locator(".jp-NotebookPanel:visible .widget-slider .noUi-handle")
    assert handles.count() == 3, "a slider for each α"
    picture = page.locator(".jp-NotebookPanel:visible img.widget-image")
    text = page.locator(".jp-NotebookPanel:visible .widget-html-content", has_text="IoU on 100 scenes")
    iou = text.locator("b")
    readout = page.locator(".jp-NotebookPanel:visible .widget-readout").first
    handles.first.scroll_into_view_if_needed()  # cells out of sight are detached
    before = picture.get_attribute("src"), iou.inner_text(), readout.inner_text()
    assert 0 < float(before[1]) < 1

    handles.first.focus()
    page.keyboard.press("ArrowRight")

    # The text is asked for anew each time: the widget replaces its HTML.
    page.wait_for_function(
        "([picture, text, src, iou]) => picture.src !== src && text.querySelector('b').innerText !== iou",
        arg=[picture.element_handle(), text.element_handle(), *before[:2]],
        timeout=10_000,
    )
    assert float(readout.inner_text()) == pytest.approx(float(before[2]) + 0.05)
    assert float(iou.inner_text()) > float(before[1]), "more weight on colour is better than equal weights"
    assert picture.evaluate("i => i.complete && i.naturalWidth === 576 && i.naturalHeight === 192")
