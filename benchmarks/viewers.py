"""MaskExplorer in a real JupyterLab in Chromium: from a key to the repainted canvas, and how fifty pictures open.

Run: python benchmarks/viewers.py  (--write puts the tables into benchmarks/RESULTS.md). Needs Chromium.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from _report import report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from lab_fixture import find_chromium, open_lesson, run_all, running_browser, running_lab, write_notebook  # noqa: E402

PRESSES = 100
COMMAND = "python benchmarks/viewers.py --write"
MADE = """import torch
from mtl_course import widgets
draw = torch.Generator().manual_seed(0)
def made(n, size):
    truth = torch.randint(0, 7, (n, size // 16, size // 16), generator=draw)
    truth = truth.repeat_interleave(16, 1).repeat_interleave(16, 2)
    logits = torch.stack([torch.randn(7, size, size, generator=draw) for _ in range(n)])
    more = torch.full((n, 1, size, size), 2.0)
    probabilities = logits.scatter_add_(1, truth[:, None], more).softmax(1)
    return torch.randint(0, 256, (n, 3, size, size), generator=draw, dtype=torch.uint8), truth, probabilities
classes = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
"""
EXPLORER = """images, truth, probabilities = made(1, 256)
widgets.MaskExplorer(images, truth, probabilities=probabilities, classes=classes)"""
INTERACT = """%matplotlib inline
import ipywidgets, matplotlib.pyplot as plt
from mtl_course import plotting, tasks
task = tasks.semantic(classes)
@ipywidgets.interact(opacity=ipywidgets.IntSlider(60, 0, 100))
def show(opacity):
    plt.imshow(plotting.overlay(images[0] / 255, truth[0], task, opacity / 100))
    plt.show()"""
FIFTY = "fifty = made(50, 512)"
OPEN = "widgets.MaskExplorer(fifty[0], fifty[1], probabilities=fifty[2], classes=classes, title='fifty')"
# The time of the key itself (event.timeStamp) to the end of all that the key does in the page, the canvas repainted and
# its pixels readable (getImageData waits for them), and to the frame that shows it.
WATCH = """() => {
    window.times = [];
    let pressed = null, canvas = null;
    document.addEventListener('keydown', event => { pressed = event.timeStamp; canvas = null; }, true);
    const done = () => {
        if (pressed === null) return;
        const start = pressed, repainted = performance.now();
        pressed = null;
        requestAnimationFrame(() => { const channel = new MessageChannel();
            channel.port1.onmessage = () => window.times.push([repainted - start, performance.now() - start]);
            channel.port2.postMessage(0); });
    };
    const put = CanvasRenderingContext2D.prototype.putImageData;
    CanvasRenderingContext2D.prototype.putImageData = function (...all) { put.apply(this, all); canvas = this; };
    document.addEventListener('input', () => { if (canvas) { canvas.getImageData(0, 0, 1, 1); done(); } });
    new MutationObserver(changes => { for (const change of changes) for (const node of change.addedNodes)
        node.querySelectorAll?.('img').forEach(img => img.decode().then(done)); })
        .observe(document.body, { childList: true, subtree: true });
}"""


def press(page, control, pause: float) -> list[list[float]]:
    """Milliseconds of each key press: to the repaint, to the frame."""
    control.scroll_into_view_if_needed()
    control.focus()
    page.evaluate("window.times.length = 0")
    for number in range(PRESSES):
        page.keyboard.press("ArrowRight" if number % 40 < 20 else "ArrowLeft")
        page.wait_for_timeout(pause)
    page.wait_for_timeout(500)
    return page.evaluate("window.times")


def row(what: str, times: list[list[float]]) -> dict[str, object]:
    """Median and 95 % of the two times."""
    repaint, frame = zip(*times)
    late = statistics.quantiles(repaint, n=20)[-1]
    return {
        "control": what,
        "keys seen": len(times),
        "to the repainted canvas, median ms": f"{statistics.median(repaint):.1f}",
        "95 %": f"{late:.1f}",
        "to the next frame, median ms": f"{statistics.median(frame):.1f}",
    }


def latency(browser, lab) -> list[dict[str, object]]:
    """Keys on three controls of the explorer, and on matplotlib's interact beside it."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    write_notebook(lab, "latency.ipynb", MADE, EXPLORER, INTERACT)
    open_lesson(page, lab, "latency.ipynb")
    run_all(page)
    page.wait_for_selector(".mtl-canvas")
    page.wait_for_timeout(3000)
    page.evaluate(WATCH)
    root = page.locator(".mtl-viewer")
    rows = [row("MaskExplorer: opacity", press(page, root.get_by_label("opacity"), 30))]
    root.get_by_label("show", exact=True).select_option(label="errors of the class")
    rows.append(row("MaskExplorer: threshold, error map", press(page, root.get_by_label("threshold on P(class)"), 30)))
    root.get_by_label("show", exact=True).select_option(label="prediction")
    root.get_by_label("outlines only").check()
    root.get_by_label("patterns").check()
    rows.append(row("MaskExplorer: opacity, outlines, patterns", press(page, root.get_by_label("opacity"), 30)))
    rows.append(row("matplotlib interact: opacity", press(page, page.locator(".noUi-handle"), 400)))
    page.close()
    return rows


def memory(page) -> float:
    """Megabytes of the browser's page processes after the garbage is collected."""
    page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
    page.wait_for_timeout(1000)
    ours = psutil.Process().children(recursive=True)  # of all processes of this browser, as others may run
    return sum(one.memory_info().rss for one in ours if "--type=renderer" in one.cmdline()) / 1e6


def open_fifty(page, lab, listen: bool) -> tuple[float, float, int]:
    """Seconds to the canvas, further megabytes, and, if it listens, which takes time, the bytes that came."""
    name = f"fifty_{time.time_ns()}.ipynb"  # with a kernel of its own
    write_notebook(lab, name, MADE + FIFTY, OPEN)
    received = []
    if listen:
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    open_lesson(page, lab, name)
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_function("document.querySelector('.jp-InputPrompt').innerText.includes('[1]')", timeout=120_000)
    page.wait_for_timeout(1000)
    before = memory(page)
    received.clear()
    start = time.perf_counter()
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".mtl-canvas", timeout=60_000)
    page.evaluate("new Promise(requestAnimationFrame)")
    seconds = time.perf_counter() - start
    page.wait_for_timeout(3000)
    return seconds, memory(page) - before, sum(received)


def opening(browser, lab) -> list[dict[str, object]]:
    """Fifty pictures of 512² with probabilities: seconds (Python and browser), bytes and memory."""
    runs = []
    for listen in (False, False, False, True):
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        runs.append(open_fifty(page, lab, listen))
        page.close()
    payload = 50 * (512 * 512 * 5 + 7 * 256 * 256)
    seconds = sorted(one[0] for one in runs[:3])
    return [
        {
            "pictures": "50 of 512×512, 7 classes",
            "from Shift+Enter to the canvas, s": f"{seconds[1]:.2f} ({seconds[0]:.2f} to {seconds[2]:.2f})",
            "bytes that came / bytes of the data": f"{runs[3][2] / payload:.4f}",
            "data, MB": f"{payload / 1e6:.1f}",
            "further memory of the page, MB": f"{max(one[1] for one in runs[:3]):.0f}",
        }
    ]


def main() -> None:
    """Measure, print, and write the tables if asked."""
    program = find_chromium()
    if program is None:
        raise SystemExit("Chromium was not found: apt-get install chromium, or name one in MTL_COURSE_CHROMIUM")
    with tempfile.TemporaryDirectory() as folder, running_lab(Path(folder)) as lab, running_browser(program) as browser:
        tables = {"Viewers: from a key to the repainted canvas, 256×256, 7 classes, JupyterLab": latency(browser, lab)}
        tables["Viewers: fifty pictures open in JupyterLab"] = opening(browser, lab)
    for name, rows in tables.items():
        if "--write" in sys.argv:
            report(name, COMMAND, rows)
        else:
            print(name, *rows, sep="\n")


if __name__ == "__main__":
    main()
