"""The files of a record: data/records/NAME.py makes NAME.json; .NAME.part is a run that has not ended."""

import ast
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mtl_course.errors import CourseError, MissingFile, refuse_unknown
from mtl_course.records.essence import essence
from mtl_course.records.intervals import compare, dotted

FIELDS = ("name", "claim", "question", "protocol", "lesson", "arms", "seeds", "command", "versions", "device",
          "threads", "program", "complete", "seconds", "results", "summary")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, and the runs that answer it; data/records/NAME.py defines one as EXPERIMENT.

    Args:
        claim: the sentence that is tested.
        question: what the numbers decide.
        protocol: data, budget, what a seed changes, what is chosen on what; enough to judge the answer.
        arms: what is compared: names, or names with their options, which the record keeps.
        seeds: repeats of every arm; Python, NumPy and torch start from the seed.
        run: (arm, seed) -> numbers; dicts, and lists for curves, may hold numbers. Each call must stand alone.
        summarise: results -> summary, from the results alone; a result has `arm`, `seed`, `seconds`, `numbers`.
        lesson: the number of the lesson that shows it, such as "07".
        verify: the (arm, seed) pairs that `records verify` runs again; default the first.
        tolerance: how far these may lie from the stored numbers, as a share or absolutely; or such a number by the
            name of the number (`depth.abs_error` or `abs_error`; math.inf for a time), 1e-6 for what is not named.
        device: where it runs.
        threads: threads of torch; more give other last digits.
    """

    claim: str
    question: str
    protocol: str
    arms: Sequence[str] | Mapping[str, Any]
    seeds: Sequence[int]
    run: Callable[[str, int], dict[str, Any]]
    summarise: Callable[[list[dict[str, Any]]], dict[str, Any]]
    lesson: str = ""
    verify: Sequence[tuple[str, int]] = ()
    tolerance: float | Mapping[str, float] = 1e-6
    device: str = "cpu"
    threads: int = 2

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise CourseError(f"a seed that comes twice makes intervals too narrow: {list(self.seeds)}")

    def pairs(self) -> list[tuple[str, int]]:
        """Every (arm, seed); all arms of a seed before the next seed, so that a part is a fair one."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms]


def folder() -> Path:
    """The folder of the records: MTL_COURSE_RECORDS, or data/records of the checkout or of a folder above this one.

    Raises:
        MissingFile: if there is none.
    """
    here, named = Path.cwd(), os.environ.get("MTL_COURSE_RECORDS")
    ups = (Path(__file__).resolve().parents[2], here, *here.parents)
    tried = [Path(named)] if named else [up / "data" / "records" for up in ups]
    if found := next(filter(Path.is_dir, tried), None):
        return found
    raise MissingFile(f"no folder {tried[0]}: set MTL_COURSE_RECORDS to the folder of the records")


def names() -> list[str]:
    """Names of all records and experiments."""
    return sorted({p.stem for p in folder().iterdir() if p.suffix in (".json", ".py") and p.stem[0] not in "._"})


def place(name: str, suffix: str) -> Path:
    """The file of a record: its .py, its .json or its .part.

    Raises:
        CourseError: if no record or experiment has this name; it says the nearest one.
    """
    refuse_unknown("record", [name], names())
    return folder() / (f".{name}.part" if suffix == ".part" else name + suffix)


def load(name: str) -> dict[str, Any]:
    """A finished record, as data/records/README.md describes it.

    Raises:
        MissingFile: if it has not been made yet.
        CourseError: if its name is unknown or its file damaged.
    """
    path = place(name, ".json")
    if not path.exists():
        raise MissingFile(f"{path} has not been made: python -m mtl_course records run {name} makes it")
    return read(path)


def read(path: Path) -> dict[str, Any]:
    """A record, or what there is of one, from its file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and "claim" in record:
            return record
        error = "it holds no record"
    except ValueError as damage:
        error = damage
    raise CourseError(f"{path} is damaged ({error}): restore it, or make it anew with records run --fresh")


def as_json(value: Any, indent: int | None = None) -> str:
    """The text that keeps `value`: tensors and arrays become lists or numbers; NaN stays, in Python's spelling."""
    return json.dumps(value, indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of torch and NumPy
        return value.tolist()
    raise CourseError(f"numbers in dicts and lists are expected, and not a {type(value).__name__}")


def program(name: str) -> Experiment:
    """The experiment that data/records/NAME.py defines.

    Raises:
        MissingFile: if the record has no program here.
        CourseError: if the name is unknown, the program fails, or it defines no EXPERIMENT.
    """
    path, module = place(name, ".py"), ModuleType(f"mtl_course_record_{name}")
    source = _source(path)
    module.__file__, sys.modules[module.__name__] = str(path), module
    with told(path, "it"), _siblings():
        exec(compile(source, str(path), "exec"), module.__dict__)
    if not isinstance(getattr(module, "EXPERIMENT", None), Experiment):
        raise CourseError(f"{path} must define EXPERIMENT = records.Experiment(...)")
    return module.EXPERIMENT


@contextmanager
def _siblings() -> Iterator[None]:
    """In this block an experiment may import the _NAME.py files beside it, always those of its own folder."""
    sys.path.insert(0, str(folder()))
    try:
        yield
    finally:
        sys.path.remove(str(folder()))
        for shared in folder().glob("_*.py"):
            sys.modules.pop(shared.stem, None)


def _source(path: Path) -> str:
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


def fingerprint(name: str) -> str:
    """SHA-256 of NAME.py, without what does not change results, and of the _NAME.py files that it imports."""
    source = _source(path := place(name, ".py"))
    with told(path, "it"):
        parts = [essence(source), *map(_source, _shared(path))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _shared(path: Path) -> list[Path]:
    """The files beside an experiment that it imports, and those that they import."""
    files = [path]
    for file in files:  # it grows
        for node in ast.walk(ast.parse(_source(file), str(file))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            beside = [folder() / f"{module}.py" for module in modules]
            files += [other for other in beside if other.exists() and other not in files]
    return files[1:]


def summary_of(name: str, experiment: Experiment, results: list[dict]) -> dict[str, Any]:
    """The summary that follows from the results, as it reads once stored."""
    with told(place(name, ".py"), "summarise"):
        return json.loads(as_json(experiment.summarise(json.loads(as_json(results)))))


def problems(name: str) -> list[str]:
    """Whether a record is one that its program made: sentences on what is wrong, none if all is well."""
    record, experiment = load(name), program(name)
    if missing := [field for field in FIELDS if field not in record]:
        return [f"it lacks {', '.join(missing)}"]
    found = [] if record["complete"] else ["it is not complete"]
    if record["program"] != fingerprint(name):
        found.append(f"{name}.py has changed since")
    pairs = [(result["arm"], result["seed"]) for result in record["results"]]
    if pairs != experiment.pairs() or record["seeds"] != list(experiment.seeds):
        found.append("its runs are not those of the arms and seeds")
    known = {field: getattr(experiment, field) for field in ("claim", "question", "protocol", "lesson", "threads")}
    known["arms"] = json.loads(as_json(dict(a) if isinstance(a := experiment.arms, Mapping) else list(a)))
    found += [f"its {field} is not that of {name}.py" for field, value in known.items() if record[field] != value]
    if abs(record["seconds"] - sum(result["seconds"] for result in record["results"])) > 0.01:
        found.append("its seconds are not the sum of its runs'")
    try:
        rows = compare(record["summary"], summary_of(name, experiment, record["results"]), 1e-9)
    except CourseError as error:  # of a record with a hole
        return [*found, str(error)]
    return found + [
        f"{dotted(path)} of its summary does not follow from its results" for path, *_, ok in rows if not ok
    ]
