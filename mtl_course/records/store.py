"""The files of a record: data/records/NAME.py makes NAME.json; .NAME.part is a run that has not ended."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

from mtl_course.errors import CourseError, MissingFile, refuse_unknown


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
    arms: Sequence[str] | Mapping
    seeds: Sequence[int]
    run: Callable[[str, int], dict]
    summarise: Callable[[list[dict]], dict]
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


def load(name: str) -> dict:
    """A finished record, as data/records/README.md describes it.

    Raises:
        MissingFile: if it has not been made yet.
        CourseError: if its name is unknown or its file damaged.
    """
    path = place(name, ".json")
    if not path.exists():
        raise MissingFile(f"{path} has not been made: python -m mtl_course records run {name} makes it")
    return read(path)


def read(path: Path) -> dict:
    """A record, or what there is of one, from its file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and "claim" in record:
            return record
        error = "it holds no record"
    except (ValueError, RecursionError) as damage:
        error = damage
    raise CourseError(f"{path} is damaged ({error}): restore it, or make it anew with records run --fresh")


def program(name: str) -> Experiment:
    """The experiment that data/records/NAME.py defines; it runs that file, so it needs a checkout of the course.

    Raises:
        MissingFile: if the record has no program here.
        CourseError: if the name is unknown, the program fails, it defines no EXPERIMENT, or this is no checkout.
    """
    return tool("programs:program")(name)


def tool(name: str) -> Callable:
    """A function "MODULE:NAME" of tools/experiments, which lies beside the package.

    Raises:
        CourseError: if the package was installed without the folder of the course.
    """
    tools = Path(__file__).resolve().parents[2] / "tools"
    if not (tools / "experiments").is_dir():
        raise CourseError(f"no {tools / 'experiments'}: records need the whole course, so clone it and run this there")
    sys.path += [] if str(tools) in sys.path else [str(tools)]
    return resolve_name(f"experiments.{name}")
