"""Everything that a run needs to go on where it stopped, in a file that is read without running code.

The file is the SHA-256 of what follows, a line feed, and what `torch.save` makes of tensors and plain values.
"""

import hashlib
import io
import random
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mtl_course.errors import CourseError, Damaged, MissingFile
from mtl_course.files import write_whole

STATE, BEFORE = "state.pt", "state.previous.pt"


def write_state(path: str | Path, state: Mapping, before: Path | None = None) -> Path:
    """Write tensors and plain values, whole or not at all; the older file gets the name `before`."""
    body = io.BytesIO()
    torch.save(dict(state), body)
    return write_whole(path, hashlib.sha256(body.getbuffer()).hexdigest().encode() + b"\n" + body.getbuffer(), before)


def newest_state(folder: Path, run: Mapping) -> tuple[dict, str]:
    """The newest state in a folder that is whole, and why it is not the newest of all ("" if it is).

    Raises:
        CourseError: if there is none, both are damaged, or it is of another run.
    """
    try:
        return read_state(folder / STATE, run), ""
    except (Damaged, MissingFile) as error:
        if not (folder / BEFORE).is_file():
            raise
        why = str(error).rpartition(": ")[0]
    try:
        return read_state(folder / BEFORE, run), f"{why}: going on from the state before it, {BEFORE}"
    except Damaged as error:
        mend = "move the folder away and start anew; its checkpoints may still be good"
        raise Damaged(f"{folder}: neither {STATE} nor {BEFORE} is whole: {mend}") from error


def read_state(path: Path, run: Mapping) -> dict:
    """What `write_state` wrote, on the CPU.

    Args:
        path: of the file.
        run: what this run is, name by name; the file's own "run" must be the same.

    Raises:
        CourseError: if the file is missing, damaged, or of another run (with the first thing that differs).
    """
    if not path.is_file():
        raise MissingFile(f"there is no {path} to go on from: start without resume")
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror}): move the folder away and start anew") from error
    if digest.decode("latin1") != hashlib.sha256(body).hexdigest():
        raise Damaged(f"{path} is damaged (its SHA-256 does not fit): move the folder away and start anew")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        before = dict(state["run"])
    except Exception as error:  # anything: the bytes are not ours
        raise CourseError(f"{path} is no state of a run of mtl_course: start without resume") from error
    for name, now in run.items():
        if (was := before.get(name)) != now:
            if isinstance(was, list) and isinstance(now, list):  # the first item that differs
                was, now = next((pair for pair in zip(was, now) if pair[0] != pair[1]), (len(was), len(now)))
            other = f"its {name} is {was!s:.90}, and here it is {now!s:.90}"
            raise CourseError(f"{path} is of another run: {other}: use another folder")
    return state


def random_states(loader: Iterable) -> dict:
    """Where all random draws of this process stand; those of a loader too, if it has a generator of its own."""
    kind, keys, *rest = np.random.get_state()
    own = _generator(loader)
    return {"python": random.getstate(), "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
            "torch": torch.get_rng_state(), "loader": None if own is None else own.get_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}  # fmt: skip


def _generator(loader: Iterable) -> torch.Generator | None:
    return getattr(loader, "generator", None) or getattr(getattr(loader, "sampler", None), "generator", None)


def set_random_states(states: Mapping, loader: Iterable) -> None:
    """Go on drawing from there."""
    kind, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    if states["loader"] is not None:
        _generator(loader).set_state(states["loader"])


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """In this block Ctrl-C and SIGTERM are only noted in the list that it gives; a second one acts as it always does.

    Outside the main thread, where Python tells no signals, nothing changes.
    """
    noted: list[int] = []

    def note(number: int, _: object) -> None:
        noted.append(number)
        signal.signal(number, usual[number])

    is_main = threading.current_thread() is threading.main_thread()
    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    try:
        yield noted
    finally:
        for number, action in usual.items():
            signal.signal(number, action)
