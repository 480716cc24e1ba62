"""Targets made from a mask: foreground and boundary."""

from collections.abc import Sequence

import numpy as np
import torch

from mtl_course.losses import IGNORE_INDEX


def foreground(mask: np.ndarray, background: Sequence[int] = (0,)) -> np.ndarray:
    """1 where a pixel is part of an object, 0 where it is background; ignored pixels stay ignored.

    Args:
        mask: class ids (H, W), 255 = ignored.
        background: the ids that are no object.

    Returns:
        (H, W) of 0, 1 and 255, in the dtype of `mask`.

    >>> foreground(np.array([[0, 3, 255]], np.uint8))
    array([[  0,   1, 255]], dtype=uint8)
    """
    return np.where(mask == IGNORE_INDEX, mask, ~np.isin(mask, background))


def boundary(regions: np.ndarray, ignore: np.ndarray | None = None, width: int = 1) -> np.ndarray:
    """1 on both sides of every border between two regions.

    Args:
        regions: a different id for every region, such as every object (H, W).
        ignore: bool (H, W), True where the region is unknown; borders with it are ignored.
        width: pixels on each side of a border that count, >= 1.

    Returns:
        uint8 (H, W) of 0, 1 and 255 = ignored.

    >>> boundary(np.array([[7, 7, 8, 8]]))
    array([[0, 1, 1, 0]], dtype=uint8)
    """
    edges = _grow((_neighbours(regions) != regions).any(0), width - 1)
    if ignore is None:
        return edges.view(np.uint8)
    return np.where(_grow(ignore, width), np.uint8(IGNORE_INDEX), edges)


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Values above, below, left and right of every pixel, (4, H, W); past the picture's edge, the pixel's own."""
    padded = np.pad(values, 1, mode="edge")
    return np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])


def _grow(mask: np.ndarray, steps: int) -> np.ndarray:
    """`mask` and its 4-neighbours, `steps` times."""
    for _ in range(steps):
        mask = mask | _neighbours(mask).any(0)
    return mask


def void_ring(mask: np.ndarray, others: np.ndarray | None = None, width: int = 8) -> np.ndarray:
    """The boundary of objects, where a mask draws it as a ring of ignored pixels, as Pascal VOC does.

    Ignored pixels that hold a square wider than `width` are no ring but an unlabelled region; the ring beside such a
    region, or beside an object of another class, says nothing either.

    Args:
        mask: class ids (H, W), 255 = ignored.
        others: bool (H, W), objects of classes that are not asked for.
        width: the widest ring, in pixels. VOC draws 5; where rings meet they are wider.

    Returns:
        uint8 (H, W): 1 on the ring, 255 = unknown, 0 elsewhere.
    """
    void, half = mask == IGNORE_INDEX, width // 2
    unknown = void & _spread(_shrink(void, half), half + width)  # near a square of 2 · half + 1 ignored pixels
    if others is not None:
        unknown |= others | (void & _spread(others, width))
    return np.where(unknown, np.uint8(IGNORE_INDEX), void)


def _spread(mask: np.ndarray, reach: int) -> np.ndarray:
    """True where any pixel within `reach` is, corners of the square included; (H, W)."""
    grown = torch.from_numpy(mask)[None].float()
    for down, across in ((reach, 0), (0, reach)):
        grown = torch.nn.functional.max_pool2d(grown, (2 * down + 1, 2 * across + 1), stride=1, padding=(down, across))
    return grown[0].numpy() > 0


def _shrink(mask: np.ndarray, reach: int) -> np.ndarray:
    """True where all pixels within `reach` are, and none of them lies outside; (H, W)."""
    return ~_spread(np.pad(~mask, reach, constant_values=True), reach)[reach:-reach, reach:-reach]
