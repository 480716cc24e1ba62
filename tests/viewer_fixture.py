"""A viewer as a page without Jupyter; what a browser test asks of any viewer: no error, request or finding of axe."""

import numpy as np

from mtl_course.widgets import render

PIXELS = """(selector) => {
    const canvas = document.querySelector(selector);
    const {width, height} = canvas;
    return [height, width, [...canvas.getContext('2d').getImageData(0, 0, width, height).data]];
}"""


def open_viewer(page, viewer, folder, title="Viewer"):
    """Open the viewer's own page; `page.trouble` gathers errors and requests that leave it."""
    watch(page, ("file:", "data:", "blob:"))
    page.goto(viewer.save_html(folder / "viewer.html", title).as_uri())
    page.wait_for_selector("body[data-ready=true]")
    return page.locator(".mtl-viewer")


def watch(page, allowed) -> None:
    """Gather console errors, exceptions and requests to other places in `page.trouble`."""
    page.trouble = []
    page.on("pageerror", lambda error: page.trouble.append(f"exception: {error}"))
    page.on("console", lambda text: text.type == "error" and page.trouble.append(f"console: {text.text}"))
    page.on("request", lambda r: r.url.startswith(allowed) or page.trouble.append(f"request: {r.url}"))


def settings(page) -> dict:
    return page.evaluate("model.get('settings')")


def canvas_pixels(page, selector=".mtl-canvas") -> np.ndarray:
    """RGBA, uint8 (H, W, 4)."""
    height, width, values = page.evaluate(PIXELS, selector)
    return np.array(values, np.uint8).reshape(height, width, 4)


def scores(kinds) -> dict[str, float]:
    """IoU, precision and recall of an error map; NaN where nothing is to be counted. The page counts by itself."""
    hit, alarm, miss = (int((kinds == kind).sum()) for kind in (render.HIT, render.FALSE_ALARM, render.MISS))
    wholes = {"iou": hit + alarm + miss, "precision": hit + alarm, "recall": hit + miss}
    return {name: hit / whole if whole else float("nan") for name, whole in wholes.items()}


def axe(page, selector=".mtl-viewer") -> list[str]:
    """Serious and critical findings of axe inside the viewer."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context={"include": [[selector]]}).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}: {one['nodes'][0].get('failureSummary', '')}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
