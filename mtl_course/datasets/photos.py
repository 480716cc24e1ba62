"""Photographs with masks of class ids: what VOC and Folder have in common."""

import math
import mmap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mtl_course import tasks as task_makers
from mtl_course.datasets import targets
from mtl_course.datasets.reading import pair_size, read_mask, read_picture
from mtl_course.datasets.transforms import fitted_size, joint_transform, resize
from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.losses import IGNORE_INDEX

TASKS = ("semantic", "foreground", "boundary")
PARTS = ("fit", "select")


def split(n: int, seed: int = 0, share: float = 0.8) -> tuple[list[int], list[int]]:
    """Two parts of n items, drawn by `seed`: to fit on, and to select by.

    Args:
        n: how many items.
        seed: of the draw.
        share: of the first part.

    Returns:
        Indices of the two parts, each in ascending order.

    >>> split(5)
    ([0, 1, 3, 4], [2])
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    cut = round(share * n)
    return sorted(order[:cut]), sorted(order[cut:])


def part(items: Sequence, which: str) -> list:
    """The items to "fit" on or to "select" by, 80 % and 20 % of them, drawn by seed 0."""
    return [items[i] for i in split(len(items))[PARTS.index(which)]]


class Kept:
    """Memory for resized pictures that forked loader workers share: what one has read, all have.

    It is taken from the system page by page as it is filled. A copy for a process that is not forked starts empty.

    Args:
        shapes: (planes, H, W) of each item.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        self.shapes, sizes = shapes, [math.prod(shape) for shape in shapes]
        memory = torch.frombuffer(mmap.mmap(-1, sum(sizes) + len(shapes)), dtype=torch.uint8)
        *items, self._ready = memory.split([*sizes, len(shapes)])
        self._items = [item.view(shape) for item, shape in zip(items, shapes)]

    def __reduce__(self) -> tuple:
        return type(self), (self.shapes,)

    def get(self, index: int, make: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """The item, uint8 (planes, H, W), made now if it is not there yet."""
        if not self._ready[index]:
            self._items[index][:] = make(index)
            self._ready[index] = 1
        return self._items[index]


class MaskedPhotos(Dataset):
    """Samples of pictures and masks: `image` float32 (3, H, W) in [0, 1], each task int64 (H, W), 255 = ignored.

    A picture is turned upright as its EXIF orientation says, and the mask must fit the upright picture. All headers are
    read at the start; ids are checked when a mask is read. 1-bit masks serve where foreground is the only task and no
    classes are chosen. Resized pictures are kept in memory as bytes, so that later epochs have only to crop and flip:
    about 6 · size² bytes for a square picture in training.

    Args:
        pairs: (picture, mask) files.
        known: all class names by id, the background first.
        tasks: of "semantic", "foreground" (any class but the background), "boundary".
        classes: some of `known`, by their new ids after the background; all others are ignored in every task.
        size: (size, size) pixels, see `joint_transform`; None leaves the pictures as they are.
        augment: random crops and mirroring, for training.
        cache: keep resized pictures in memory; without `size` nothing is kept.

    Raises:
        CourseError: on an unknown task or class, or a pair that cannot be read or does not fit.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], known: Sequence[str], tasks: Iterable[str] = ("semantic",),
                 classes: Iterable[str] | None = None, size: int | None = None, augment: bool = False,
                 cache: bool = True) -> None:  # fmt: skip
        if not pairs:
            raise CourseError("no picture in this part of the data: 3 or more are needed for the parts fit and select")
        self.names = [picture.stem for picture, _ in pairs]
        self.pairs, self.known, self.size, self.augment = list(pairs), tuple(known), size, augment
        self.classes = choose_classes(self.known, classes)
        self.tasks = task_makers.pick(task_makers.make(TASKS, self.classes), tasks)
        # What comes after the resize.
        self._random = v2.Compose(joint_transform(size, augment).transforms[0 if size is None else 1 :])
        self.binary = list(self.tasks) == ["foreground"] and classes is None
        self.new_ids = np.full(256, IGNORE_INDEX, np.uint8)
        self.new_ids[[self.known.index(name) for name in self.classes]] = range(len(self.classes))
        shapes = [pair_size(*pair, self.binary) for pair in self.pairs]
        self.shapes = shapes if size is None else [fitted_size(*shape, size, augment) for shape in shapes]
        planes = 4 + ("boundary" in self.tasks)
        self._kept = Kept([(planes, *shape) for shape in self.shapes]) if cache and size else None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        index = range(len(self))[index]
        planes = self._kept.get(index, self._read) if self._kept else self._read(index)
        image, masks = self._random(tv_tensors.Image(planes[:3]), tv_tensors.Mask(planes[3:]))
        semantic, boundary = masks.as_subclass(torch.Tensor)[0], masks.as_subclass(torch.Tensor)[-1]
        foreground = semantic.clamp(max=1).where(semantic != IGNORE_INDEX, IGNORE_INDEX)
        every = {"semantic": semantic, "foreground": foreground, "boundary": boundary}
        return {"image": image.as_subclass(torch.Tensor)} | {name: every[name] for name in self.tasks}

    def _read(self, index: int) -> torch.Tensor:
        """Colours, class ids and, if asked for, borders: uint8 (4 or 5, H, W), resized."""
        (picture, mask), shape = self.pairs[index], self.shapes[index]
        ids = read_mask(mask, len(self.known), self.binary)
        borders = [self.borders(ids, max(ids.shape) / max(shape))] if "boundary" in self.tasks else []
        colors = torch.from_numpy(read_picture(picture, None if self.size is None else min(shape))).permute(2, 0, 1)
        small = resize(tv_tensors.Mask(torch.from_numpy(np.stack([ids, *borders]))), shape).numpy()
        small[0] = self.new_ids[small[0]]
        return torch.cat([resize(colors, shape), torch.from_numpy(small)])

    def borders(self, ids: np.ndarray, scale: float) -> np.ndarray:
        """The boundary target of one picture before it is resized.

        Args:
            ids: as stored, (H, W); `new_ids[ids]` are those of the chosen classes.
            scale: how many of these pixels make one of the resized picture.

        Returns:
            uint8 (H, W) of 0, 1 and 255: both sides of every border between two classes.
        """
        return targets.boundary(ids, self.new_ids[ids] == IGNORE_INDEX, max(1, round(scale)))


def choose_classes(known: Sequence[str], chosen: Iterable[str] | None) -> tuple[str, ...]:
    """The background and the chosen classes; all of `known` if `chosen` is None.

    Raises:
        CourseError: on an unknown class, with the nearest right one, a class named twice, or none.
    """
    if chosen is None:
        return tuple(known)
    names = [name for name in ([chosen] if isinstance(chosen, str) else chosen) if name != known[0]]
    refuse_unknown("class", names, known)
    if not names or len(set(names)) < len(names):
        raise CourseError(f"classes must name one or more classes, each once, and not {names}")
    return known[0], *names
