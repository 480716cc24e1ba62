"""python -m mtl_course data."""

import argparse
from pathlib import Path

from mtl_course.commands.check import check
from mtl_course.commands.download import VOC_FOLDER, download_voc
from mtl_course.commands.scenes_voc import write_scenes_voc
from mtl_course.errors import CourseError


def data(arguments: argparse.Namespace) -> None:
    """Fetch Pascal VOC, make scenes in its layout, or check a set."""
    arguments.root = arguments.root or arguments.place  # a Path is never false
    if arguments.what == "check":
        return check(arguments)
    root = arguments.root or Path("data" if arguments.what == "voc" else "runs/scenes_voc")
    if arguments.what == "scenes":
        n_train, n_val = arguments.samples, max(arguments.samples // 4, 1)
        print(f"written: {write_scenes_voc(root, n_train, n_val, arguments.size, arguments.seed)}")
    elif (root / VOC_FOLDER / "classes.txt").exists():
        raise CourseError(f"{root} holds made scenes, not Pascal VOC: choose another --root")
    else:
        download_voc(root)
