"""Targets made from a mask: foreground, boundary, the labels and objects of a picture."""

from collections.abc import Sequence

import numpy as np

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
    objects = np.ones_like(mask)
    for label in background:
        objects[mask == label] = 0
    objects[mask == IGNORE_INDEX] = IGNORE_INDEX
    return objects


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
    edges = _grow(_either_side(regions), width - 1)
    if ignore is None:
        return edges.view(np.uint8)
    unknown = _grow(ignore, width)
    return np.where(unknown, np.uint8(IGNORE_INDEX), edges)


def _either_side(regions: np.ndarray) -> np.ndarray:
    edges = np.zeros(regions.shape, bool)
    across, down = regions[:, 1:] != regions[:, :-1], regions[1:] != regions[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _grow(mask: np.ndarray, steps: int) -> np.ndarray:
    """`mask` and its 4-neighbours, `steps` times."""
    for _ in range(steps):
        grown = mask.copy()
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        mask = grown
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
    unknown = _spread(_shrink(void, half), half + width)  # near a square of 2 · half + 1 ignored pixels
    if others is not None:
        unknown |= _spread(others, width)
    ring = void.astype(np.uint8)
    ring[void & unknown] = IGNORE_INDEX
    if others is not None:
        ring[others] = IGNORE_INDEX
    return ring


def image_labels(mask: np.ndarray, classes: int) -> np.ndarray:
    """Which classes a picture shows: 1 if a pixel has the class id, else 0.

    Args:
        mask: class ids (H, W), 255 = ignored.
        classes: how many there are.

    Returns:
        int64 (classes,).

    >>> image_labels(np.array([[0, 2, 255]]), 4)
    array([1, 0, 1, 0])
    """
    return np.isin(np.arange(classes), mask).astype(np.int64)


def instance_centres(instances: np.ndarray) -> np.ndarray:
    """The mean position of each object's pixels.

    Args:
        instances: object ids (H, W), 0 = background, 255 = ignored, as in VOC's SegmentationObject.

    Returns:
        float32 (K, 2): x and y in pixels, (0, 0) the middle of the first pixel, in the order of the ids.

    >>> instance_centres(np.array([[3, 3, 0, 1]]))
    array([[3. , 0. ],
           [0.5, 0. ]], dtype=float32)
    """
    ids = [i for i in np.unique(instances) if i not in (0, IGNORE_INDEX)]
    centres = [np.argwhere(instances == i).mean(0)[::-1] for i in ids]
    return np.array(centres, np.float32).reshape(-1, 2)


def _shrink(mask: np.ndarray, reach: int, outside: bool = False) -> np.ndarray:
    """True where all pixels within `reach` are, corners of the square included; (H, W)."""
    mask = np.pad(mask, reach, constant_values=outside)
    size = 2 * reach + 1
    for _ in range(2):  # down, then across; what is covered doubles with every step
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            mask = mask[step:] & mask[:-step]
            covered += step
        mask = mask.T
    return mask


def _spread(mask: np.ndarray, reach: int) -> np.ndarray:
    """True where any pixel within `reach` is, corners of the square included; (H, W)."""
    return ~_shrink(~mask, reach, outside=True)
