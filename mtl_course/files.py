"""Files and folders are written whole or not at all."""

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from errno import EACCES, EDQUOT, EEXIST, EFBIG, ENOLCK, ENOSPC, ENOTDIR, ENOTSUP, EPERM, EROFS
from pathlib import Path

from filelock import FileLock, Timeout

from mtl_course.errors import CourseError

_REASONS = dict.fromkeys((ENOSPC, EDQUOT), "the disk is full, make room")
_REASONS |= dict.fromkeys((EACCES, EPERM, EROFS), "no permission to write, choose another folder")
_REASONS[EFBIG] = "the file is larger than may be written here, raise the limit (ulimit -f) or choose another folder"
_REASONS |= dict.fromkeys((EEXIST, ENOTDIR), "a file is in the place of a folder, choose another name")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors of the file system in this block, about `path`, become a CourseError."""
    try:
        yield
    except OSError as error:
        raise CourseError(f"could not write {path}: {reason(error)}; nothing was changed there") from error


def reason(error: OSError) -> str:
    """Why the file system refused, and the mend where there is one."""
    return _REASONS.get(error.errno) or error.strerror or str(error)


def is_disk_fault(error: Exception) -> bool:
    """Whether the disk is full or closed to us, so that trying again does not help."""
    return getattr(error, "errno", None) in _REASONS


def write_whole(path: str | Path, content: bytes, before: Path | None = None) -> Path:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file beside `path`, reach the disk, and take its name in one step.

    Args:
        path: of the file.
        content: all of it.
        before: the name that an older file gets, once the new bytes are on the disk; default, it is gone.

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
            if before is not None and path.is_file():
                os.replace(path, before)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path


@contextmanager
def owned(folder: Path | None) -> Iterator[None]:
    """In this block no other process may have the folder; this one may enter again. A kill leaves no lock that blocks.

    Raises:
        CourseError: if another run has it (which one, and since when), or it cannot be made or written.
    """
    if folder is None:
        yield
        return
    lock, owner = FileLock(folder.resolve() / ".lock", is_singleton=True), folder / ".owner"
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
            for part in folder.glob(".*.[0-9]*.part"):  # of a run that was killed
                part.unlink()
            write_whole(owner, f"process {os.getpid()} on {platform.node()} since {datetime.now():%F %T}".encode())
        except Timeout:
            who = owner.read_text("utf-8", "replace") if owner.is_file() else "another process"
            raise CourseError(f"{folder} is in use by {who}: stop that, or choose another folder") from None
        except OSError as error:
            if error.errno not in (ENOLCK, ENOTSUP):
                raise
            print(f"{folder} is on a disk without locks: see that no other run writes there")
    try:
        yield
    finally:
        with suppress(OSError):
            if lock.lock_counter == 1:
                owner.unlink(missing_ok=True)
                (folder / ".lock").unlink(missing_ok=True)
            lock.release()


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
