"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

from mtl_course.errors import CourseError


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file beside `path`, reach the disk, and take its name in one step.

    Raises:
        CourseError: if the disk is full or the folder cannot be made or written; an older file stays as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise CourseError(f"could not write {path}: {_reason(error)}; nothing was changed there") from error
    finally:
        part.unlink(missing_ok=True) if part.parent.is_dir() else None
    return path


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full, make room"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write, choose another folder"
    return f"{error.strerror or error}"
