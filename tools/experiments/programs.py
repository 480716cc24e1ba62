"""The programs in data/records: their text, and the experiments that they define. They are code of the checkout."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mtl_course.errors import CourseError, MissingFile
from mtl_course.records import store


def program(name: str) -> store.Experiment:
    """The experiment that data/records/NAME.py defines.

    Raises:
        MissingFile: if the record has no program here.
        CourseError: if the name is unknown, the program fails, or it defines no EXPERIMENT.
    """
    path, module = store.place(name, ".py"), ModuleType(f"mtl_course_record_{name}")
    source = source_of(path)
    module.__file__, sys.modules[module.__name__] = str(path), module
    with told(path, "it"), siblings():
        exec(compile(source, str(path), "exec"), module.__dict__)
    if not isinstance(getattr(module, "EXPERIMENT", None), store.Experiment):
        raise CourseError(f"{path} must define EXPERIMENT = records.Experiment(...)")
    return module.EXPERIMENT


@contextmanager
def siblings() -> Iterator[None]:
    """In this block an experiment may import the _NAME.py files beside it, always those of its own folder."""
    sys.path.insert(0, str(store.folder()))
    try:
        yield
    finally:
        sys.path.remove(str(store.folder()))
        for shared in store.folder().glob("_*.py"):
            sys.modules.pop(shared.stem, None)


def source_of(path: Path) -> str:
    """The text of an experiment, or of a file beside it."""
    if not path.exists():
        raise MissingFile(f"no {path}: the program that made the record {path.stem} is not here")
    return path.read_text(encoding="utf-8")


@contextmanager
def told(path: Path, what: str) -> Iterator[None]:
    """An error of an experiment's own code becomes a CourseError that names its line."""
    try:
        yield
    except MissingFile:  # it names the file and the mend
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        kind = "" if isinstance(error, CourseError) else f" with {type(error).__name__}"
        raise CourseError(f"{where}: {what} failed{kind}: {error}") from error
