"""Pascal VOC segmentation: photographs of 20 kinds of objects, in the VOCdevkit layout."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mtl_course.datasets import targets
from mtl_course.datasets.photos import PARTS, MaskedPhotos, part
from mtl_course.datasets.reading import matched_files, read_classes, read_lines
from mtl_course.errors import CourseError, MissingFile, refuse_unknown
from mtl_course.losses import IGNORE_INDEX

VOC_CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
               "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
               "tvmonitor")  # fmt: skip
FOLDERS = ("JPEGImages", "SegmentationClass")
COURSE = Path(__file__).parents[2]
DATA = COURSE / "data" if (COURSE / "constraints.txt").is_file() else Path("data")  # the package may stand alone
MEND = "get it with `python -m mtl_course data voc`, or name the folder of a VOCdevkit (root, --root, MTL_COURSE_DATA)"


def voc_folder(root: str | Path | None = None, year: str = "2012") -> Path:
    """The folder VOC{year}, with all links resolved.

    Args:
        root: that folder, or VOCdevkit, or the folder that holds VOCdevkit; None: the environment's MTL_COURSE_DATA,
            else the course's own data folder.
        year: of the challenge.

    Raises:
        MissingFile: if there is none, or MTL_COURSE_DATA is "none": then there is no VOC, whatever lies on the disk.
    """
    root = Path(os.path.expanduser(root or os.environ.get("MTL_COURSE_DATA") or DATA))
    if str(root) == "none":
        raise MissingFile(f"MTL_COURSE_DATA is 'none', so no VOC is used: unset it, or {MEND}")
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
        options: `tasks`, `classes`, `size`, `augment` and `cache` of `MaskedPhotos`.

    Raises:
        MissingFile: if there is no VOC, or pictures or masks of the split are missing (how many, the first ten).
        CourseError: on an unknown split, task or class, a name that leaves the folder, or a pair that does not fit.
    """

    def __init__(self, root: str | Path | None = None, year: str = "2012", split: str = "train", **options: Any):
        self.root, self.split = voc_folder(root, year), split
        super().__init__(voc_pairs(self.root, split), voc_classes(self.root), **options)

    def borders(self, ids: np.ndarray, scale: float) -> np.ndarray:
        """The void ring, see `targets.void_ring`."""
        return targets.void_ring(ids, (self.new_ids[ids] == IGNORE_INDEX) & (ids != IGNORE_INDEX))


def voc_classes(folder: Path) -> tuple[str, ...]:
    """The names in classes.txt, or those of Pascal VOC where there is no such file."""
    file = folder / "classes.txt"
    return read_classes(file) if os.path.lexists(file) else VOC_CLASSES


def voc_pairs(folder: Path, split: str | None = None) -> list[tuple[Path, Path]]:
    """The (picture, mask) files of a split, or of all; that all are there is checked by name.

    Args:
        folder: VOC{year}, resolved.
        split: see `VOC`; None: every one but "test".

    Raises:
        MissingFile: if pictures or masks are missing (how many, the first ten).
        CourseError: on an unknown split, or a name or link that leaves the folder.
    """
    files = {f.stem: f for f in sorted(folder.glob("ImageSets/Segmentation/*.txt")) if not f.name.startswith(".")}
    if split is None:
        every = [file for name, file in files.items() if name != "test"]  # whose masks VOC has never shown
        return matched_files(folder, *FOLDERS, [name for file in every for name in _names_in(file, folder)])
    if "train" in files:
        files = dict.fromkeys(PARTS, files["train"]) | files
    refuse_unknown("split", [split], sorted(files))
    names = _names_in(files[split], folder)
    return matched_files(folder, *FOLDERS, names if files[split].stem == split else part(names, split))


def _names_in(file: Path, folder: Path) -> list[str]:
    """The names in the file of a split; one that comes again is the same picture."""
    names = list(dict.fromkeys(read_lines(file, folder)))
    if not names:
        raise CourseError(f"{file}: the split is empty: write a name of a picture on each line")
    if bad := [name for name in names if name in (".", "..") or "/" in name or "\\" in name]:
        raise CourseError(f"{file}: names of pictures are expected, and {bad[0]!r} leaves the folder: correct the line")
    return names
