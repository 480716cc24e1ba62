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
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from mtl_course.errors import CourseError, MissingFile
from mtl_course.files import write_whole


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM, `signal`; the text says what is kept and how to go on."""

    def __init__(self, text: str, signal: int):
        super().__init__(text)
        self.signal = signal


def write_state(path: str | Path, state: Mapping[str, Any]) -> Path:
    """Write tensors and plain values, whole or not at all."""
    body = io.BytesIO()
    torch.save(dict(state), body)
    return write_whole(path, hashlib.sha256(body.getbuffer()).hexdigest().encode() + b"\n" + body.getbuffer())


def read_state(path: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """What `write_state` wrote, on the CPU.

    Args:
        path: of the file.
        run: what this run is, name by name; the file's own "run" must be the same.

    Raises:
        CourseError: if the file is missing, damaged, or of another run (with the first thing that differs).
    """
    if not path.is_file():
        raise MissingFile(f"there is no {path} to go on from: start without resume")
    digest, _, body = path.read_bytes().partition(b"\n")
    if digest.decode("latin1") != hashlib.sha256(body).hexdigest():
        raise CourseError(f"{path} is damaged (its SHA-256 does not fit): move the folder away and start anew")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        before = state["run"]
    except (UnpicklingError, RuntimeError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is no state of a run of mtl_course: start without resume") from error
    for name in run:
        if before.get(name) != run[name]:
            was, now = before.get(name), run[name]
            raise CourseError(
                f"{path} is of another run: its {name} is {was!s:.90}, and here it is {now!s:.90}: use another folder"
            )
    return state


def random_states(loader: Iterable) -> dict[str, Any]:
    """Where all random draws of this process stand; those of a loader too, if it has a generator of its own."""
    kind, keys, *rest = np.random.get_state()
    own = _generator(loader)
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loader": None if own is None else own.get_state(),
    }


def _generator(loader: Iterable) -> torch.Generator | None:
    return getattr(loader, "generator", None) or getattr(getattr(loader, "sampler", None), "generator", None)


def set_random_states(states: Mapping[str, Any], loader: Iterable) -> None:
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
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, _: object) -> None:
        noted.append(number)
        signal.signal(number, usual[number])

    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, action in usual.items():
            signal.signal(number, action)
