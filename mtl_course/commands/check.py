"""Every pair of a set of photographs looked at before it is trained on: python -m mtl_course data check."""

import argparse
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from mtl_course import distributed
from mtl_course.commands.options import split_names
from mtl_course.datasets import folder, photos, reading, voc
from mtl_course.errors import CourseError, MissingFile, printable, refuse_unknown
from mtl_course.files import write_whole

CACHE = ".mtl_course_check.json"


def check(arguments: argparse.Namespace) -> None:
    """Print what must be mended in a set, and its classes.

    Raises:
        CourseError: if something must be mended.
    """
    tasks, classes = split_names(arguments.tasks) or ["semantic"], split_names(arguments.classes)
    refuse_unknown("task", tasks, photos.TASKS)
    root, known, chosen, pairs = _listed(arguments.root, classes)
    names = photos.choose_classes(known, chosen)
    good, faults = scan(root, pairs, known, names, tasks == ["foreground"] and chosen is None)
    print(*(["To mend:", *faults] if faults else []), *map(printable, _table(good, known, names)), sep="\n")
    if faults:
        raise CourseError(f"{root}: {len(good)} of {len(pairs)} pairs are good; mend what is listed, and check again")
    print(f"All {len(pairs)} pairs in {printable(root)} are good to train on.")


def refuse_damaged(*parts: Dataset) -> None:
    """Refuse photographs with a damaged pair before they are trained on; of several processes the first one looks.

    Raises:
        CourseError: with the first fault.
    """
    data = parts[0]
    if isinstance(data, photos.MaskedPhotos) and distributed.is_main():
        pairs = list(dict.fromkeys(pair for part in parts for pair in part.pairs))
        good, faults = scan(data.root, pairs, data.known, data.classes, data.binary)
        if faults:
            command = f"python -m mtl_course data check {shlex.quote(str(data.root))}"
            raise CourseError(f"{faults[0]} ({len(good)} of {len(pairs)} pairs are good; `{command}` lists all faults)")
        print(f"{len(pairs)} pairs checked")
    distributed.gather(None)


def _listed(place: Path | None, classes: Sequence[str] | None) -> tuple:
    """The root of a set, all its classes, those chosen of them (None: all), and its pairs."""
    root = Path(os.path.realpath(os.path.expanduser(place or ".")))
    if place and any((root / name).is_dir() for name in folder.FOLDERS):
        return root, *folder.folder_classes(root, classes), reading.matched_files(root, *folder.FOLDERS)
    try:
        root = voc.voc_folder(place and root)
    except MissingFile as error:
        raise MissingFile(f"{error}; of your own pictures {folder.LAYOUT}") from error
    return root, voc.voc_classes(root), classes, voc.voc_pairs(root)


def scan(root: Path, pairs: Sequence, known: Sequence[str], names: Sequence[str],
         binary: bool) -> tuple[dict[Path, list[int]], list[CourseError]]:  # fmt: skip
    """Decode each picture and mask that is not known to be good by the sizes and times of the files.

    What is good is kept in a file in root, also after Ctrl-C; where that cannot be written, this is said.

    Args:
        root: of the set.
        pairs: (picture, mask) files.
        known, names: all classes, and those chosen.
        binary: whether 1-bit masks are welcome.

    Returns:
        Of each good pair, by its picture, the pixels of each id, 256; and what must be mended: one fault of each
        other pair, or that there is nothing to learn.
    """
    kept, now, good, faults = _kept(root / CACHE), {}, {}, []
    try:
        for pair in tqdm(pairs, "check", leave=False, disable=None, unit="pair"):
            stats = [path.stat() for path in pair if path.exists()]  # the last time moves even when a file is put back
            state = [(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]
            key = f"{os.path.relpath(pair[0], root)} {state} {len(known)} {binary}"
            try:
                now[key] = good[pair[0]] = kept.get(key) or _counted(*pair, len(known), binary)
            except CourseError as error:
                faults.append(error)
    finally:
        try:
            if now.keys() - kept.keys():
                write_whole(root / CACHE, json.dumps(kept | now).encode())
        except CourseError as error:
            print(f"The next check starts anew: {error}")
    held = np.any([*good.values()] or [[0] * 256], 0)
    if not faults and np.count_nonzero(held[[known.index(name) for name in names]]) < 2:
        said = f"{root}: {len(pairs)} masks of pictures hold fewer than two classes, so there is nothing to learn"
        mend = "give each class its id (255 = ignored, so objects saved as 255 are lost)" if pairs else folder.LAYOUT
        faults.append(CourseError(f"{said}: {mend}"))
    return good, faults


def _kept(file: Path) -> dict[str, list[int]]:
    """What earlier checks left; nothing, if the file is damaged or not ours."""
    try:
        kept = json.loads(file.read_bytes()) if file.is_file() else {}
        rows = np.array([*kept.values()])  # of one length
        return kept if rows.dtype == np.int64 and rows.shape == (len(kept), 256) and rows.min() >= 0 else {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _counted(picture: Path, mask: Path, classes: int, binary: bool) -> list[int]:
    """A pair's row of counts, once both files are decoded."""
    reading.pair_size(picture, mask, binary)
    for path in (mask, picture):
        with reading.opened(path) as image:
            image.verify()  # the checksums of a PNG, which decoding alone does not look at
    reading.read_picture(picture)
    return np.bincount(reading.read_mask(mask, classes, binary).ravel(), minlength=256).tolist()


def _table(good: dict[Path, list[int]], known: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The classes, and in how many pictures and pixels they are."""
    counts = np.array([*good.values()], np.int64).reshape(-1, 256)
    chosen = counts[:, [known.index(name) for name in names]]
    every = np.column_stack([chosen, counts.sum(1) - chosen.sum(1)])
    width = max(map(len, (*names, "ignored")))
    yield f"{'class':{width}}  {'pictures':>8}  {'pixels':>14}  {'share':>7}"
    for name, column, share in zip((*names, "ignored"), every.T, every.sum(0) / max(every.sum(), 1)):
        yield f"{name:{width}}  {(column > 0).sum():8,}  {column.sum():14,}  {share:7.2%}"
