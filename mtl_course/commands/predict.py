"""python -m mtl_course predict."""

import argparse
import io
import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, from_numpy

from mtl_course import plotting, training
from mtl_course.commands.options import recall
from mtl_course.datasets.reading import read_picture
from mtl_course.errors import CourseError, MissingFile, printable
from mtl_course.files import is_disk_fault, write_whole
from mtl_course.tasks import Task, Tasks

SUFFIXES = (".jpg", ".jpeg", ".png")
SIZE = 224


def predict(arguments: argparse.Namespace) -> int:
    """Segment photographs one by one; one that cannot be done is named, and the others are done.

    Returns:
        The exit code, 2 if one could not be done.
    """
    model, tasks = training.load(arguments.checkpoint)
    photos, bad = _photos(arguments.photos), 0
    for start in (arguments.out / photo.stem for photo in photos):
        for end in (".json", "_overlay.png", *_names(tasks).values()):
            if (path := Path(f"{start}{end}")).exists():
                raise CourseError(f"{path} is there already: choose another --out, or move it away")
    size = arguments.size or recall(arguments.checkpoint).get("size") or SIZE
    model.to(training.choose_device(arguments.device))
    for photo in photos:
        try:
            image = from_numpy(read_picture(photo)).permute(2, 0, 1)  # (3, H, W)
            answers = training.predict(model, tasks, image, size)
            about = {"photo": photo.name, "checkpoint": str(arguments.checkpoint), "size": size}
            _write(arguments.out / photo.stem, image, answers, tasks, about)
        except CourseError as error:
            if is_disk_fault(error.__cause__):
                raise
            print(f"mtl_course: {printable(error)}", file=sys.stderr)
            bad += 1
    print(f"{len(photos) - bad} of {len(photos)} photographs done; the results are in {printable(arguments.out)}")
    return 2 if bad else 0


def _photos(paths: list[Path]) -> list[Path]:
    """The files named, and those in the folders named; hidden ones and subfolders are left out."""
    photos: dict[str, Path] = {}
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
        if not found:
            raise MissingFile(f"no photograph in the folder {path}: expected are jpg, jpeg or png files")
        for photo in found:
            first = photos.setdefault(photo.stem.casefold(), photo)  # some disks take A for a
            if first.resolve() != photo.resolve():
                raise CourseError(f"{first} and {photo} would write the same files: rename one of them")
    return list(photos.values())


def _names(tasks: Tasks) -> dict[str, str]:
    """How each task's file ends; the first task of several classes, or else of two, gives the mask."""
    with_classes = [task for task in tasks.values() if task.classes]
    first = max(with_classes, key=lambda task: task.kind == "classes", default=None)
    return {name: "_mask.png" if task is first else f"_{name}.png" for name, task in tasks.items()}


def _write(start: Path, image: Tensor, answers: dict[str, Tensor], tasks: Tasks, about: dict[str, str | int]) -> None:
    """The files of a photograph, whose names begin with `start`, all or none."""
    files, areas = {}, {}
    for name, end in _names(tasks).items():
        task, answer = tasks[name], answers[name]
        files[end] = _drawn(answer.numpy(), task)
        if end == "_mask.png":
            files["_overlay.png"] = Image.fromarray(plotting.overlay(image.float() / 255, answer, task))
        if task.classes:
            pixels = answer.flatten().bincount(minlength=len(task.classes)).tolist()
            areas[name] = {c: {"pixels": n, "share": n / answer.numel()} for c, n in zip(task.classes, pixels)}
    about = about | {"height": image.shape[1], "width": image.shape[2], "areas": areas}
    try:
        for end, picture in files.items():
            picture.save(content := io.BytesIO(), "PNG")
            write_whole(f"{start}{end}", content.getvalue())
        write_whole(f"{start}.json", (json.dumps(about, indent=1) + "\n").encode())
    except BaseException:  # a photograph is done or not: what is left of it would stand in the way of the next run
        for end in files:
            with suppress(OSError):
                Path(f"{start}{end}").unlink()
        raise


def _drawn(answer: np.ndarray, task: Task) -> Image.Image:
    """An answer as a picture: class ids with a palette, millimetres in 16 bits, or directions as colours."""
    if task.kind == "depth":
        return Image.fromarray((answer[0] * 1000).round().clip(0, 65535).astype(np.uint16))
    if not task.classes:
        return Image.fromarray(plotting.colorize(answer, task))
    mask = Image.fromarray(answer.astype(np.uint8), "P")
    mask.putpalette(plotting.color_table(task).tobytes())
    return mask
