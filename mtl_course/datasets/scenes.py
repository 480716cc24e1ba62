"""Scenes: pictures made on demand, with every label exact.

Item i depends on (seed, i), the size and the knobs alone: never on the number of scenes, the order or the process.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from torch.utils.data import Dataset

from mtl_course import tasks as task_makers
from mtl_course.datasets import targets
from mtl_course.datasets.layout import draw
from mtl_course.datasets.raycast import render
from mtl_course.datasets.solids import SHAPES
from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.losses import IGNORE_INDEX

CLASSES = ("wall", "floor", *SHAPES)


class Scenes(Dataset):
    """Pictures of 2 to 5 solids on a floor before a wall, with labels for five tasks.

    A sample is a dict: `image` float32 (3, H, W) in [0, 1]; `semantic`, `foreground`, `boundary` int64 (H, W);
    `depth` float32 (1, H, W), metres along the camera's axis (z-depth); `normals` float32 (3, H, W), unit vectors
    (right, up, towards the camera).

    Args:
        n: how many scenes.
        size: height and width in pixels, >= 16.
        seed: another seed, other scenes.
        difficulty: in [0, 1]: more noise, more and smaller objects, and more of them in the colours of the room.
        label_noise: the share of objects whose semantic label is replaced by another object class.
        labelled: how many scenes carry a task's label, by task: a count (the first ones) or a share in [0, 1] (some,
            decided by index). The others get 255 or NaN everywhere.
        unrelated: add the task "unrelated": a faint weave laid over parts of the picture, whatever stands there.
        tasks: the tasks wanted, None = all.
        cache: keep made scenes in memory (66 kB each at size 64). Loader workers each have their own memory: call
            `stack()` once before, and they share it.

    Raises:
        CourseError: on a value that is out of range, or an unknown task.

    >>> Scenes(3)[0]["normals"].shape
    torch.Size([3, 64, 64])
    """

    def __init__(self, n: int, size: int = 64, seed: int = 0, *, difficulty: float = 0.3, label_noise: float = 0.0,
                 labelled: Mapping[str, int | float] | None = None, unrelated: bool = False,
                 tasks: Iterable[str] | None = None, cache: bool = True) -> None:  # fmt: skip
        self.n, self.size, self.seed = _whole("n", n, 1), _whole("size", size, 16), _whole("seed", seed, 0)
        self.difficulty, self.label_noise = _share("difficulty", difficulty), _share("label_noise", label_noise)
        self.unrelated = unrelated
        every = task_makers.make(("semantic", "foreground", "depth", "normals", "boundary"), CLASSES)
        if unrelated:
            every["unrelated"] = replace(task_makers.foreground("unrelated"), classes=("plain", "weave"))
        self.tasks = every if tasks is None else task_makers.pick(every, tasks)
        refuse_unknown("task in labelled", labelled or (), every)
        self.labelled = {name: _amount(f"labelled[{name!r}]", value) for name, value in (labelled or {}).items()}
        self._cache: dict[int, dict[str, np.ndarray]] | None = {} if cache else None

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: values[0] for key, values in self.stack([index]).items()}

    def stack(self, indices: Iterable[int] | None = None) -> dict[str, torch.Tensor]:
        """Some scenes as one batch, None = all: equal to what a loader makes of them, in fewer steps."""
        indices = [self._place(i) for i in (range(self.n) if indices is None else indices)]
        kept = [self._kept(i) for i in indices]
        batch = {name: _decoded(name, np.stack([scene[name] for scene in kept])) for name in ("image", *self.tasks)}
        for name in self.tasks:
            missing = [not self._is_labelled(name, i) for i in indices]
            batch[name][missing] = torch.nan if batch[name].is_floating_point() else IGNORE_INDEX
        return batch

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_cache": None if self._cache is None else {}}

    def _place(self, index: int) -> int:
        if not -self.n <= index < self.n:
            raise IndexError(f"scene {index} of {self.n}: the last one is {self.n - 1}")
        return int(index) % self.n

    def _kept(self, index: int) -> dict[str, np.ndarray]:
        scene = (self._cache or {}).get(index) or self._make(index)
        if self._cache is not None:
            self._cache[index] = scene
        return scene

    def _make(self, index: int) -> dict[str, np.ndarray]:
        """One scene as it is kept in memory, 16 bytes a pixel, or 17 with "unrelated".

        Returns:
            `image` uint8 and `normals` float16 (3, H, W), `depth` float32 and all masks uint8 (H, W).
        """
        rng = np.random.default_rng([self.seed, index])
        scene = draw(rng, self.difficulty)
        shown = render(scene, self.size)
        classes = np.array([0, 1, *(CLASSES.index(solid.shape) for solid in scene.solids)], np.uint8)
        semantic, foreground = self._mislabel(classes, index)[shown.regions], (shown.regions >= 2).view(np.uint8)
        masks = {"semantic": semantic, "foreground": foreground, "boundary": targets.boundary(shown.regions)}
        image = shown.image
        if self.unrelated:
            # Another stream of random numbers: the scene below stays the same.
            masks["unrelated"] = _weave(image, np.random.default_rng([self.seed, index, 1]))
        image += np.float32(0.005 + 0.045 * self.difficulty) * rng.standard_normal(image.shape, np.float32)
        image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
        return {"image": image, **masks, "depth": shown.depth, "normals": shown.normals.astype(np.float16)}

    def _mislabel(self, classes: np.ndarray, index: int) -> np.ndarray:
        """The class of every region, with some objects' replaced by another object class."""
        if self.label_noise:
            rng = np.random.default_rng([self.seed, index, 2])
            objects = classes[2:] - 2
            wrong = rng.random(len(objects)) < self.label_noise
            shift = rng.integers(1, len(SHAPES), len(objects))
            classes[2:] = 2 + (objects + wrong * shift) % len(SHAPES)
        return classes

    def _is_labelled(self, task: str, index: int) -> bool:
        amount = self.labelled.get(task, self.n)
        if isinstance(amount, int):
            return index < amount
        digest = hashlib.blake2b(f"{self.seed} {task} {index}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64 < amount


def _decoded(name: str, kept: np.ndarray) -> torch.Tensor:
    """The images, or a task's targets, (B, H, W) or (B, C, H, W), of what `_make` gave."""
    if name == "normals":
        kept = kept.astype(np.float32)
        kept /= np.sqrt(np.square(kept).sum(1, keepdims=True))
    values = torch.from_numpy(kept)
    if name in ("depth", "normals"):
        return values[:, None] if name == "depth" else values
    return values.float() / 255 if name == "image" else values.long()


def _weave(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay a weave over discs and a half plane of `image` (3, H, W), in place; returns where, uint8 (H, W)."""
    size = image.shape[-1]
    rows, columns = np.ogrid[:size, :size]
    where = np.zeros((size, size), bool)
    for _ in range(rng.integers(1, 4)):
        (y, x), radius = rng.random(2) * size, size * rng.uniform(0.15, 0.3)
        where |= (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    if rng.random() < 0.3:
        angle = rng.uniform(0, 2 * np.pi)
        where |= np.cos(angle) * (columns - size / 2) + np.sin(angle) * (rows - size / 2) > size * rng.uniform(0, 0.4)
    threads = np.float32(1) - 2 * ((rows + columns) % 2)
    image += np.float32(0.06) * threads * where
    return where.view(np.uint8)


def _whole(name: str, value: int, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise CourseError(f"Scenes needs a whole number {name} >= {least}, and got {value!r}")
    return int(value)


def _share(name: str, value: float) -> float:
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise CourseError(f"Scenes needs {name} in [0, 1], and got {value!r}")
    return float(value)


def _amount(name: str, value: int | float) -> int | float:
    return _whole(name, value, 0) if isinstance(value, Integral) else _share(name, value)
