"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtl_course.errors import CourseError
from mtl_course.files import _reason as reason


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors of the file system in this block, about `path`, become a CourseError."""
    try:
        yield
    except CourseError:
        raise
    except OSError as error:
        raise CourseError(f"could not write {path}: {reason(error)}; nothing was changed there") from error


@contextmanager
def staged(target: Path, inside: str = ".") -> Iterator[Path]:
    """A new folder beside `target` that takes its name once the block has ended well.

    Args:
        target: must not be there yet.
        inside: the part of the new folder that takes the name.

    Raises:
        CourseError: if `target` is there, the disk is full, or the folder may not be written.
    """
    part = target.with_name(f".{target.name}.part")
    with told(target):
        if target.exists():
            raise CourseError(f"{target} is there already: move it away, or choose another root")
        try:
            shutil.rmtree(part, ignore_errors=True)  # left by a run that was killed
            part.mkdir(parents=True)
            yield part
            os.replace(part / inside, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
