"""Your own pictures: a folder of images, a folder of masks, a list of class names."""

import os
from collections.abc import Iterable
from pathlib import Path

from mtl_course.datasets.photos import PARTS, MaskedPhotos, part
from mtl_course.datasets.reading import matched_files, read_classes
from mtl_course.errors import CourseError, MissingFile, refuse_unknown

FOLDERS = ("images", "masks")
LAYOUT = "expected are images/*.jpg (or jpeg, png), masks/*.png with the same names, and classes.txt"


class Folder(MaskedPhotos):
    """Pictures in root/images, masks of class ids in root/masks under the same names, class names in root/classes.txt.

    See `MaskedPhotos` for samples and the other arguments. `boundary` is both sides of every border of two classes.

    Args:
        root: the folder.
        classes: some of the classes of classes.txt, see `MaskedPhotos`; without that file all names by id, background
            first.
        split: None for all pictures, or "fit" and "select", 80 % and 20 % of them, drawn by seed 0.
        options: `tasks`, `size`, `augment` and `cache` of `MaskedPhotos`.

    Raises:
        MissingFile: if a folder is not there, or a picture has no mask or a mask no picture (how many, the first ten).
        CourseError: on an unknown split, task or class, or a pair that does not fit.
    """

    def __init__(self, root: str | Path, classes: Iterable[str] | None = None, split: str | None = None,
                 **options: object):  # fmt: skip
        self.root, self.split = Path(os.path.realpath(os.path.expanduser(root))), split
        refuse_unknown("split", [split or PARTS[0]], PARTS)
        if not any((self.root / name).is_dir() for name in FOLDERS):
            raise MissingFile(f"no pictures in {self.root}: {LAYOUT}")
        known, chosen = folder_classes(self.root, classes)
        pairs = matched_files(self.root, *FOLDERS)
        super().__init__(part(pairs, split) if split else pairs, known, classes=chosen, **options)


def folder_classes(root: Path, classes: Iterable[str] | None) -> tuple[tuple[str, ...], Iterable[str] | None]:
    """All class names, and those chosen of them (None: all)."""
    file = root / "classes.txt"
    if os.path.lexists(file):
        return read_classes(file), classes
    if classes is None:
        raise MissingFile(f"no {file}: write one class name a line, by id, the background first, or give classes")
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise CourseError(f"classes are all names by id, each once, the background first, and not {names}")
    return names, None
