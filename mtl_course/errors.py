"""Mistakes of a user, told in one sentence: what was expected, what came, in which file, what to do."""

import traceback
from collections.abc import Collection, Iterable
from difflib import get_close_matches


def printable(text: object) -> str:
    """The text in one line: what is no character to show, such as a line feed in the name of a file, is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def in_short(error: BaseException) -> str:
    """What an error of a library says, in a line of at most 160 characters, or its kind where it says nothing."""
    return " ".join(str(error).split())[:160] or type(error).__name__


class CourseError(ValueError):
    """A mistake that the user can mend; its text, one line, is the whole message."""

    def __init__(self, text: str = ""):
        # From a loader's worker process torch hands on the whole traceback as text; its last line is ours.
        text = text.strip().splitlines()[-1].partition(": ")[2] if "Original Traceback" in text else text
        super().__init__(printable(text))

    def _render_traceback_(self) -> list[str]:
        # What a notebook shows: the lines of its own cells and the sentence. `%debug` leads to where it was raised.
        cells = [f for f in traceback.extract_tb(self.__traceback__) if "ipykernel_" in f.filename]
        return [*(f"line {frame.lineno}: {frame.line}" for frame in cells), f"{type(self).__name__}: {self}"]


class Damaged(CourseError):
    """A file whose bytes are not those that were written."""


class MissingFile(CourseError, FileNotFoundError):
    """A file or folder that should be there and is not."""

    __str__ = Exception.__str__


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, `signal`, stopped the work; the text says what is kept and how to go on."""

    def __init__(self, text: str, signal: int):
        super().__init__(text)
        self.signal = signal

    _render_traceback_ = CourseError._render_traceback_


def unknown(what: str, name: object, known: Iterable[str]) -> CourseError:
    """The error for a name that is not known, with the nearest right one.

    >>> unknown("task", "semntic", ["semantic", "depth"])
    CourseError("unknown task 'semntic': did you mean 'semantic'? Known: semantic, depth.")
    """
    known = list(known)
    near = get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return CourseError(f"unknown {what} {name!r}: {hint}Known: {', '.join(known)}.")


def refuse_unknown(what: str, names: Iterable[object], known: Collection[str]) -> None:
    """Raise `unknown` for the first of `names` that is not known."""
    for name in names:
        if name not in known:
            raise unknown(what, name, known)
