"""Figures: pictures with masks, task panels, curves, confusion matrices. Every figure is shown with an alt sentence."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor
from torch import Tensor, as_tensor

from mtl_course.errors import CourseError
from mtl_course.losses import IGNORE_INDEX
from mtl_course.tasks import IGNORE_COLOR, Batch, Task, Tasks

if TYPE_CHECKING:  # machines that train have no matplotlib, and predict needs none
    from matplotlib.pyplot import Axes, Figure

DASHES = ("-", "--", "-.", ":")  # with the colour, so that lines differ in grey too
MARKERS = "os^Dv*PX"


def show(fig: "Figure", alt: str, caption: str | None = None, dpi: int = 80) -> None:
    """Show a figure in a notebook as a PNG, or JPEG with photographs, that carries its alt sentence, and close it.

    Args:
        fig: drawn by matplotlib.
        alt: one sentence that says what the figure shows, for those who do not see it.
        caption: a sentence under the figure; Markdown, in which HTML is shown as text.
        dpi: dots an inch.
    """
    from IPython.display import Markdown, display
    from matplotlib import pyplot as plt

    if not alt.strip():
        raise CourseError("show needs alt: one sentence that says what the figure shows")
    drawn, kept = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(fig)
    image = Image.open(drawn).convert("RGB")
    kind = "png" if image.getcolors(16_000) else "jpeg"  # lines, masks and text; or photographs, where PNG is large
    image = image.quantize(256, dither=Image.Dither.NONE) if image.getcolors(4096) else image  # shows the same
    image.save(kept, kind, optimize=kind == "png", quality=90, subsampling=0)
    data = {f"image/{kind}": base64.b64encode(kept.getvalue()).decode(), "text/plain": alt}
    display(data, raw=True, metadata={f"image/{kind}": {"alt": alt}})
    if caption:
        display(Markdown(caption.replace("<", "&lt;")))


def as_rgb(image: Tensor | np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of an image, float (3, H, W) in [0, 1]."""
    return (np.clip(np.asarray(image), 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def color_table(task: Task) -> np.ndarray:
    """The colour of each value of a mask, uint8 (256, 3); 255 (ignore) is white."""
    table = np.zeros((256, 3), np.uint8)
    for value, color in [*enumerate(task.colors), (IGNORE_INDEX, IGNORE_COLOR)]:
        table[value] = ImageColor.getrgb(color)
    return table


def colorize(target: Tensor | np.ndarray, task: Task, like: Tensor | np.ndarray | None = None) -> np.ndarray:
    """A decoded prediction or a target as colours.

    Args:
        target: of one picture: class ids (H, W), depth (1, H, W) or directions (3, H, W).
        task: says how to draw it. Near is bright; a direction's x, y, z are red, green, blue; unknown is white.
        like: a depth whose range of colours is used, so that two depths can be compared; default `target` itself.

    Returns:
        uint8 (H, W, 3).
    """
    target = np.asarray(target)
    if task.classes:
        return color_table(task)[target]
    if task.kind == "depth":
        from matplotlib import colormaps

        scale = target if like is None else np.asarray(like)
        low, high = np.nanpercentile(scale, [1, 99]) if not np.isnan(scale).all() else (0, 1)
        shade = np.nan_to_num(1 - (target[0] - low) / max(high - low, 1e-6))
        rgb = (colormaps["viridis"](np.clip(shade, 0, 1))[..., :3] * 255).astype(np.uint8)
    else:
        rgb = as_rgb(np.nan_to_num(target) / 2 + 0.5)
    rgb[np.isnan(target).any(0)] = 255  # unknown
    return rgb


def overlay(image: Tensor, mask: Tensor, task: Task, opacity: float = 0.5) -> np.ndarray:
    """A mask laid over its picture; class 0 stays clear where it is the background, ignored pixels turn white.

    Args:
        image: float (3, H, W) in [0, 1].
        mask: class ids, int64 (H, W).
        task: gives the colours.
        opacity: of the mask, in [0, 1].

    Returns:
        uint8 (H, W, 3).
    """
    picture, mask = as_rgb(image), np.asarray(mask)
    share = np.where((mask == 0) & (task.classes[0] in ("background", "inside")), 0, opacity)[..., None]
    return (picture * (1 - share) + colorize(mask, task) * share).round().astype(np.uint8)


def legend(fig: "Figure", task: Task, ignore: bool = False) -> None:
    """The colour key of a task under a figure."""
    from matplotlib.patches import Patch

    names = [*zip(task.classes, task.colors), *([("ignore", IGNORE_COLOR)] if ignore else [])]
    handles = [Patch(facecolor=color, edgecolor="0.3", label=name) for name, color in names]
    fig.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncol=min(len(handles), 7), frameon=False)


def picture(ax: "Axes", rgb: np.ndarray, title: str = "") -> None:
    """A picture without axes; pixels stay square and sharp."""
    ax.imshow(rgb, interpolation="nearest")
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])


def panel(samples: Sequence[Batch], tasks: Tasks, predictions: Batch | None = None, size: float = 1.7) -> "Figure":
    """A row a sample: the picture, then for every task the truth and, where given, the prediction.

    Args:
        samples: as a data set gives them.
        tasks: which to draw.
        predictions: decoded, by task, the samples along the first axis.
        size: of one picture, in inches.
    """
    from matplotlib import pyplot as plt

    columns = [("image", None, None)]
    for name, task in tasks.items():
        columns += [(name, task, None)]
        if predictions is not None:
            columns += [(f"{name},\npredicted", task, predictions[name])]
    shape = (len(samples), len(columns))
    fig, axes = plt.subplots(*shape, figsize=(size * shape[1], size * shape[0] + 0.3), squeeze=False, layout="tight")
    for row, sample in enumerate(samples):
        for ax, (title, task, predicted) in zip(axes[row], columns):
            truth = sample[task.name if task else "image"]
            value = truth if predicted is None else predicted[row].cpu()
            picture(ax, colorize(value, task, truth) if task else as_rgb(value), title if row == 0 else "")
    for task in [task for task in tasks.values() if task.kind in ("classes", "binary")][:1]:
        legend(fig, task)
    return fig


def curves(series: Mapping[str, Sequence[float]], xlabel: str, ylabel: str,
           x: Sequence[float] | None = None) -> "Figure":  # fmt: skip
    """Lines against their index (from 1) or against `x`, each with its own colour, dash and marker."""
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(figsize=(5.5, 3), layout="tight")
    colors = ("#0072b2", "#d55e00", "#009e73", "#8c00ff", "#1a1a1a", "#cc79a7")  # dark enough for lines on white
    for index, (name, values) in enumerate(series.items()):
        places = range(1, len(values) + 1) if x is None else x
        style = {"color": colors[index % 6], "linestyle": DASHES[index % 4], "marker": MARKERS[index % 8]}
        ax.plot(places, values, label=name, markersize=4, markevery=max(1, len(values) // 12), **style)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    if len(series) > 1:
        ax.legend()
    return fig


def confusion_matrix(confusion: Tensor, classes: Sequence[str]) -> "Figure":
    """Pixel counts as shares of each true class, written into the cells.

    Args:
        confusion: (K, K), rows = truth, columns = prediction.
        classes: K names.
    """
    from matplotlib import pyplot as plt

    counts = as_tensor(confusion).double()
    shares = (counts / counts.sum(1, keepdim=True)).numpy()  # NaN for a class that is not there
    edge = 1.5 + 0.5 * len(classes)
    fig, ax = plt.subplots(figsize=(edge + 0.6, edge), layout="tight")
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(shares):
        text = "–" if np.isnan(value) else f"{value:.2f}"
        ax.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if value > 0.5 else "black")
    ax.set(xlabel="predicted", ylabel="true")
    ax.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    ax.set_yticks(range(len(classes)), classes)
    return fig
