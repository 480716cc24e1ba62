"""The sliders of lesson 01 move the picture and the IoU in a real JupyterLab."""

import pytest
from lab_fixture import open_lesson, run_all

pytestmark = pytest.mark.browser

HAS_CHANGED = """([picture, text, src, iou]) =>
    picture.src !== src && text.querySelector('b').innerText !== iou"""


def test_arrow_key_on_a_slider_changes_picture_and_iou(page, lab):
    open_lesson(page, lab, "01_one_formula.ipynb")
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
