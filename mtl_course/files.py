"""Files and folders are written whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtl_course.errors import CourseError

_REASONS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full, make room") | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "no permission to write, choose another folder"
)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors of the file system in this block, about `path`, become a CourseError."""
    try:
        yield
    except CourseError:
        raise
    except OSError as error:
        raise CourseError(f"could not write {path}: {reason(error)}; nothing was changed there") from error


def reason(error: OSError) -> str:
    """Why the file system refused, and the mend where there is one."""
    return _REASONS.get(error.errno) or error.strerror or str(error)


def is_disk_fault(error: Exception) -> bool:
    """Whether the disk is full or closed to us, so that trying again does not help."""
    return getattr(error, "errno", None) in _REASONS


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file beside `path`, reach the disk, and take its name in one step.

    Raises:
        CourseError: if the disk is full or the folder cannot be made or written; an older file stays as it was.
    """
    path = Path(path)
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path


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
