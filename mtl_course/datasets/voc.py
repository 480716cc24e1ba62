"""Pascal VOC segmentation: photographs of 20 kinds of objects, in the VOCdevkit layout."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mtl_course.datasets import targets
from mtl_course.datasets.photos import MaskedPhotos
from mtl_course.datasets.photos import split as divide
from mtl_course.datasets.reading import check_partners, files_in, read_classes
from mtl_course.errors import CourseError, MissingFile, unknown
from mtl_course.losses import IGNORE_INDEX

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
DATA = Path(__file__).parents[2] / "data"
MEND = "get it with `python -m mtl_course data voc`, or name the folder of a VOCdevkit (root, --root, MTL_COURSE_DATA)"


def data_root(root: str | Path | None = None) -> Path:
    """Where data is looked for: `root`, else the environment's MTL_COURSE_DATA, else the course's own data folder.

    Raises:
        MissingFile: if MTL_COURSE_DATA is "none": then there is no VOC, whatever lies on the disk.
    """
    root = root or os.environ.get("MTL_COURSE_DATA") or DATA
    if str(root) == "none":
        raise MissingFile(f"MTL_COURSE_DATA is 'none', so no VOC is used: unset it, or {MEND}")
    return Path(root).expanduser()


def voc_folder(root: str | Path | None = None, year: str = "2012") -> Path:
    """The folder VOC{year}, with all links resolved.

    Args:
        root: that folder, or VOCdevkit, or the folder that holds VOCdevkit; None as in `data_root`.
        year: of the challenge.

    Raises:
        MissingFile: if there is none.
    """
    root = data_root(root)
    for folder in (root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}", root):
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder.resolve()
    raise MissingFile(f"no Pascal VOC in {root} (VOCdevkit/VOC{year}/ImageSets/Segmentation is expected): {MEND}")


class VOC(MaskedPhotos):
    """Pascal VOC segmentation, see `MaskedPhotos` for samples and the other arguments.

    `boundary` is VOC's void ring: 1 on the thin ring around objects, 255 in unlabelled regions and beside objects of
    classes that were not chosen. A file classes.txt beside ImageSets (a name a line, by id, the background first)
    replaces VOC's classes.

    Args:
        root: VOC{year}, VOCdevkit, or the folder that holds it; None: MTL_COURSE_DATA, else the course's data folder.
        year: of the challenge.
        split: "train", "val", "trainval" or another file of ImageSets/Segmentation; or "fit" and "select", 80 % and
            20 % of train, drawn by seed 0.

    Raises:
        MissingFile: if there is no VOC, or pictures or masks of the split are missing (how many, the first ten).
        CourseError: on an unknown split, task or class, a name that leaves the folder, or a pair that does not fit.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        year: str = "2012",
        split: str = "train",
        tasks: Iterable[str] = ("semantic",),
        classes: Iterable[str] | None = None,
        size: int | None = None,
        augment: bool = False,
        cache: bool = True,
    ) -> None:
        self.root, self.split = voc_folder(root, year), split
        pairs = voc_pairs(self.root, split)
        self.names = [picture.stem for picture, _ in pairs]
        super().__init__(pairs, _known_classes(self.root), tasks, classes, size, augment, cache)

    def borders(self, ids: np.ndarray, scale: float) -> np.ndarray:
        """The void ring, see `targets.void_ring`."""
        return targets.void_ring(ids, (self.new_ids[ids] == IGNORE_INDEX) & (ids != IGNORE_INDEX))


def _known_classes(root: Path) -> tuple[str, ...]:
    return read_classes(root / "classes.txt") if (root / "classes.txt").exists() else VOC_CLASSES


def _split_names(root: Path, split: str) -> list[str]:
    files = {file.stem: file for file in (root / "ImageSets" / "Segmentation").glob("*.txt")}
    part = {"fit": 0, "select": 1}.get(split) if "train" in files else None
    if split not in files and part is None:
        raise unknown("split", split, [*sorted(files), *(("fit", "select") if "train" in files else ())])
    file = files["train" if part is not None else split]
    names = file.read_text("utf-8", errors="replace").split()
    if not names:
        raise CourseError(f"{file}: the split is empty: {MEND}")
    if bad := [name for name in names if name in (".", "..") or "/" in name or "\\" in name]:
        raise CourseError(f"{file}: names of pictures are expected, and {bad[0]!r} leaves the folder: correct the line")
    return names if part is None else [names[i] for i in divide(len(names))[part]]


def voc_pairs(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """The (picture, mask) files of a split; that all are there is checked by name.

    Args:
        folder: VOC{year}, resolved.
        split: see `VOC`.

    Raises:
        MissingFile: if pictures or masks are missing (how many, the first ten).
        CourseError: on an unknown split, or a name or link that leaves the folder.
    """
    names = _split_names(folder, split)
    pictures = files_in(folder, folder / "JPEGImages", (".jpg",))
    masks = files_in(folder, folder / "SegmentationClass", (".png",))
    check_partners(names, pictures, folder / "JPEGImages", "picture")
    check_partners(names, masks, folder / "SegmentationClass", "mask")
    check_partners(sorted(masks), pictures, folder / "JPEGImages", "picture")
    return [(pictures[name], masks[name]) for name in names]
