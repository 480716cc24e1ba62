"""Draw the pictures of the README: python tools/readme_pictures.py [start_here] [viewer] [claims] [lessons]

All come from the course: a model that it ships, a viewer in Chromium, its records, the stored outputs of its lessons.
None shows a photograph. They lie in notebooks/, where lessons and the site find them too.
"""

import base64
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from experiments import claims as table
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw, ImageFont

from mtl_course import plotting, records, training
from mtl_course.datasets import Scenes
from mtl_course.records import store

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# A figure of a lesson: its number, the first words of its alt sentence, what stands above it.
LESSONS = (
    ("01", "Pixels by colour and brightness", "01: α draws a line"),
    ("02", "Change of the test error", "02: Ω, sharing that helps and hurts"),
    ("06", "Ten paths from one start", "06: ten rules for α"),
    ("07", "In the mean depth gains at all budgets", "07: one network or three?"),
    ("08", "Target mIoU against what is kept", "08: what is kept, what is gained"),
    ("11", "Heatmaps of three pictures", "11: pixels and objects in one network"),
)
VIEW = {"sample": 10, "left": "errors", "right": "picture", "split": 72, "chosen": 4, "opacity": 75}
FAR = 4.4  # in the picture of claims, the place of an effect beyond four half widths


def start_here() -> None:
    """One held-out scene, its five truths, and what the model of lesson 00 answers."""
    model, tasks = training.load(ROOT / "data/checkpoints/scenes.safetensors")
    sample = Scenes(8, size=64, seed=2_000_003)[5]
    predictions = model(sample["image"][None])
    fig, axes = plt.subplots(2, 6, figsize=(9, 3.2), layout="tight")
    plotting.picture(axes[0, 0], plotting.as_rgb(sample["image"]), "image")
    axes[1, 0].axis("off")
    for (top, bottom), (name, task) in zip(axes.T[1:], tasks.items()):
        plotting.picture(top, plotting.colorize(sample[name], task), name)
        answer = task.decode(predictions[name])[0].detach()
        plotting.picture(bottom, plotting.colorize(answer, task, sample[name]))
    axes[0, 1].set_ylabel("truth")
    axes[1, 1].set_ylabel("model")
    fig.savefig(FOLDER / "start_here.png", dpi=90, metadata={"Software": None})


def viewer() -> None:
    """MaskExplorer's own page in Chromium: the errors of one class, beside the prediction."""
    from playwright.sync_api import sync_playwright

    from mtl_course.widgets import MaskExplorer

    model, tasks = training.load(ROOT / "data/checkpoints/scenes.safetensors")
    scenes = Scenes(36, size=64, seed=2_000_003)
    batch = {name: values[24:] for name, values in scenes.stack().items()}  # 12 of them
    with torch.inference_mode():
        probabilities = model(batch["image"])["semantic"].softmax(1)
    explorer = MaskExplorer(
        batch["image"],
        batch["semantic"],
        probabilities.argmax(1),
        probabilities,
        classes=tasks["semantic"].classes,
        title="12 new scenes with truth and answer",
        **VIEW,
    )
    program = os.environ.get("MTL_COURSE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 860, "height": 720})
        page.goto(explorer.save_html(Path(folder, "viewer.html")).as_uri())
        page.wait_for_selector("body[data-ready=true]")
        picture = page.locator(".mtl-viewer").screenshot()
        browser.close()
    Image.open(io.BytesIO(picture)).convert("RGB").save(FOLDER / "viewer.png", optimize=True)


def effects() -> dict[str, list[dict]]:
    """Of each claim the effects in its records, as README.md has them."""
    found: dict[str, list[dict]] = {claim: [] for claim in table.CLAIMS}
    for path in sorted(store.folder().glob("[!._]*.json")):
        for claim, judged in records.load(path.stem).get("summary", {}).get("claims", {}).items():
            found[claim] += [effect | {"verdict": judged["verdict"]} for effect in judged["effects"].values()]
    return found


def fingerprint() -> str:
    """Of all that the picture of the claims shows; it stands in the file, so that a test sees when it is old."""
    shown = {claim: [[one["mean"], one["half_width"]] for one in many] for claim, many in effects().items()}
    return hashlib.sha256(json.dumps([table.CLAIMS, shown]).encode()).hexdigest()


def claims() -> None:
    """Every effect of every claim with its interval, measured in half widths: beyond 1 the interval leaves 0 out."""
    fig, ax = plt.subplots(figsize=(8.6, 7.2), layout="constrained")
    ax.axvline(0, color="0.3", linewidth=0.8)
    y, places = 0.0, []
    for claim, many in effects().items():
        start = y
        for effect in sorted(many, key=lambda one: -_size(one)):
            y += 1
            _draw_effect(ax, y, effect)
        places.append(((start + y + 1) / 2, f"{claim}: {_two_lines(table.CLAIMS[claim])}"))
        y += 2.2
        ax.axhline(y - 0.6, color="0.85", linewidth=0.8)
    ax.set_yticks(*zip(*places))
    ax.set(xlim=(-4.8, 4.8), ylim=(y, -0.6), xlabel="effect / half the width of its 95 % interval")
    ax.set_xticks([-4, -2, 0, 2, 4])
    ax.tick_params(left=False)
    for x, text in ((-2.4, "← against the claim"), (2.4, "for the claim →")):
        ax.annotate(text, (x, 1.01), xycoords=("data", "axes fraction"), ha="center", color="0.2")
    fig.savefig(FOLDER / "claims.png", dpi=100, metadata={"Software": None, "Description": fingerprint()})


def _draw_effect(ax: plt.Axes, y: float, effect: dict) -> None:
    size = _size(effect)
    sure = abs(size) > 1
    color = "#0072b2" if size > 1 else "#d55e00" if size < -1 else "0.45"
    style = {"color": color, "markersize": 4.5, "fillstyle": "full" if sure else "none"}
    if abs(size) > 4:
        ax.plot(FAR if size > 0 else -FAR, y, marker=">" if size > 0 else "<", **style)
        return
    ax.plot([size - 1, size + 1], [y, y], color=color, linewidth=1.4 if sure else 0.9)
    ax.plot(size, y, marker="o" if sure else "s", **style)


def _size(effect: dict) -> float:
    """The mean in half widths of its interval; a width of 0 is a count, and infinitely sure."""
    return effect["mean"] / effect["half_width"] if effect["half_width"] else float("inf") * effect["mean"]


def _two_lines(sentence: str) -> str:
    words, middle = sentence.split(), len(sentence) / 2
    if len(sentence) < 34:
        return sentence
    cut = min(range(1, len(words)), key=lambda k: abs(len(" ".join(words[:k])) - middle))
    return " ".join(words[:cut]) + "\n" + " ".join(words[cut:])


def lessons() -> None:
    """Figures as the lessons have stored them, two rows of three."""
    width, height, head = 450, 280, 32
    sheet = Image.new("RGB", (3 * width, (height + head) * 2), "white")
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 19)
    for place, (number, alt, title) in enumerate(LESSONS):
        left, top = place % 3 * width, place // 3 * (height + head)
        figure = stored(number, alt)
        figure.thumbnail((width - 20, height - 10), Image.Resampling.LANCZOS)
        sheet.paste(figure, (left + (width - figure.width) // 2, top + head + (height - figure.height) // 2))
        ImageDraw.Draw(sheet).text((left + 12, top + 5), title, "black", font)
    sheet.save(FOLDER / "lessons.png", optimize=True)


def stored(number: str, alt: str) -> Image.Image:
    """The figure of a lesson whose alt sentence begins with `alt`."""
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    (data,) = [o["data"]["image/png"] for o in outputs if o["metadata"]["image/png"]["alt"].startswith(alt)]
    return Image.open(io.BytesIO(base64.b64decode("".join(data)))).convert("RGB")


DRAW = {draw.__name__: draw for draw in (start_here, viewer, claims, lessons)}


def main() -> None:
    """Draw the pictures named on the command line, or all."""
    for name in sys.argv[1:] or DRAW:
        DRAW[name]()
        print(f"notebooks/{name}.png: {(FOLDER / f'{name}.png').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
