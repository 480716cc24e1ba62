"""What the canvas of a viewer draws, in NumPy; js/common.js draws the same, pixel for pixel (a test compares)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from PIL.ImageColor import getrgb as rgb

from mtl_course.datasets.targets import boundary
from mtl_course.losses import IGNORE_INDEX
from mtl_course.tasks import IGNORE_COLOR, PALETTE

HIT, FALSE_ALARM, MISS = 1, 2, 3  # true positive, false positive, false negative
ERROR_COLORS = {HIT: "#009e73", FALSE_ALARM: "#e69f00", MISS: "#8c00ff"}
ORDERS = ("given", "worst mIoU", "worst IoU of the class", "most of the class")
Masks = Mapping[str, Array]  # class ids uint8 (H, W), by the views that show them


@dataclass(frozen=True)
class Settings:
    """Where the controls of a MaskExplorer stand.

    Args:
        sample: which picture, from 0.
        left, right: what is shown left and right of the divider: "picture", "truth", "prediction", "second", "drawing",
            "chosen" (that class alone), or "errors"; `right` may be None.
        split: columns left of the divider, in percent.
        opacity: of the mask, in percent.
        visible: a switch for each class, then one for ignored pixels; at first all but a background.
        outline: draw only pixels beside another class.
        patterns: hatch the classes, so that they differ without colour.
        chosen: the class of errors, threshold and scores.
        scored: the mask that is scored: "prediction", "second" or "drawing".
        threshold: of the prediction; the chosen class is where its probability in 255ths is at least this. None: where
            the mask says so.
        tool: what dragging does: "look", "brush" or "eraser".
        brush: width in pixels.
        order: of the thumbnails, of ORDERS.
        true, predicted: only pictures where this true class is taken for that one; None: any.
    """

    sample: int = 0
    left: str = "prediction"
    right: str | None = None
    split: int = 50
    opacity: int = 60
    visible: tuple[bool, ...] = ()
    outline: bool = False
    patterns: bool = False
    chosen: int = 1
    scored: str = "prediction"
    threshold: int | None = None
    tool: str = "look"
    brush: int = 5
    order: str = "given"
    true: int | None = None
    predicted: int | None = None


def usual(classes: Sequence[str]) -> Settings:
    """Settings at first: the first class after the background is chosen, and a background stays clear."""
    clear = str(classes[0]) in ("background", "inside")
    return Settings(chosen=min(1, len(classes) - 1), visible=(not clear, *[True] * len(classes)))


def hatch(pattern: Array) -> Array:
    """Where a pattern is strong: 0 everywhere, 1 rows, 2 columns, 3 and 4 the two diagonals, 5 a chessboard.

    Args:
        pattern: numbers from 0 to 5, (H, W).
    """
    y, x = np.indices(pattern.shape)
    bands = [y % 4 < 2, x % 4 < 2, (x + y) % 4 < 2, (x - y) % 4 < 2, (x // 2 + y // 2) % 2 == 0]
    return np.select([pattern == k for k in range(1, 6)], bands, True)


def outline(mask: Array) -> Array:
    """Pixels whose left, right, upper or lower neighbour has another value, bool (H, W)."""
    return boundary(mask) == 1


def answer(masks: Masks, settings: Settings, probabilities: Array | None = None) -> Array:
    """Where the scored mask, or the thresholded probability, says the chosen class; bool (H, W)."""
    if settings.threshold is None or settings.scored != "prediction":
        return masks[settings.scored] == settings.chosen
    height, width = next(iter(masks.values())).shape
    half = probabilities[settings.chosen] >= settings.threshold  # of 2×2 pixels
    return half.repeat(2, 0).repeat(2, 1)[:height, :width]


def errors(truth: Array, found: Array, chosen: int) -> Array:
    """HIT, FALSE_ALARM, MISS, or 0 for neither and for ignored pixels; uint8 (H, W).

    Args:
        truth: class ids, (H, W).
        found: where the answer says the chosen class, bool (H, W).
        chosen: a class id.
    """
    there = truth == chosen
    kinds = np.select([found & there, found & ~there, ~found & there], [HIT, FALSE_ALARM, MISS], 0)
    return np.where(truth == IGNORE_INDEX, 0, kinds).astype(np.uint8)


def paint(image: Array, masks: Masks, settings: Settings, probabilities: Array | None = None,
          colors: Sequence[str] = PALETTE) -> Array:  # fmt: skip
    """The picture with what the settings lay over it.

    Args:
        image: uint8 (H, W, 3).
        masks: class ids uint8 (H, W), by the names of the views; in "drawing" 255 is not drawn.
        settings: with `visible` filled.
        probabilities: uint8 (K, H/2, W/2), rounded up.
        colors: one a class.

    Returns:
        uint8 (H, W, 3).
    """
    left = _layer(image, settings.left, masks, settings, probabilities, colors)
    if settings.right is None:
        return left
    right = _layer(image, settings.right, masks, settings, probabilities, colors)
    columns = (image.shape[1] * settings.split + 50) // 100
    return np.concatenate([left[:, :columns], right[:, columns:]], axis=1)


def _layer(image: Array, view: str, masks: Masks, settings: Settings, probabilities: Array | None,
           colors: Sequence[str]) -> Array:  # fmt: skip
    if view == "picture":
        return image
    found = answer(masks, settings, probabilities) if view in ("errors", "chosen") else None
    table = np.zeros((256, 3), np.int64)
    if view == "errors":
        values = errors(masks["truth"], found, settings.chosen)
        drawn, pattern = values > 0, values.astype(int) - 1
        table[list(ERROR_COLORS)] = [rgb(color) for color in ERROR_COLORS.values()]
    else:
        values = masks[view] if found is None else np.where(found, settings.chosen, IGNORE_INDEX).astype(np.uint8)
        shown = np.zeros(256, bool)
        shown[: len(settings.visible) - 1], shown[IGNORE_INDEX] = settings.visible[:-1], settings.visible[-1]
        drawn, pattern = shown[values], values.astype(int) % 6
        if view in ("drawing", "chosen"):
            drawn &= values != IGNORE_INDEX
        table[: len(colors)], table[IGNORE_INDEX] = [rgb(color) for color in colors], rgb(IGNORE_COLOR)
        if settings.outline:
            drawn &= outline(values)
    strength = (settings.opacity * 255 + 50) // 100
    weak = strength // 4 if settings.patterns else strength
    share = np.where(drawn, np.where(hatch(pattern), strength, weak), 0)[..., None]
    return ((image.astype(np.int64) * (255 - share) + table[values] * share + 127) // 255).astype(np.uint8)
