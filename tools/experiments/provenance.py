"""Whether a record is one that its program made: the program's fingerprint, and what must fit in the record."""

import ast
import hashlib
import json
import math
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import torch

import mtl_course
from experiments import programs
from mtl_course.errors import CourseError
from mtl_course.records import store

FIELDS = ("name", "claim", "question", "protocol", "lesson", "arms", "seeds", "command", "versions", "device",
          "threads", "program", "complete", "seconds", "results", "summary")  # fmt: skip
# What may change in an experiment without making its results those of another one.
FREE = {"claim", "question", "protocol", "lesson", "seeds", "summarise", "verify", "tolerance"}


def as_json(value: Any, indent: int | None = None) -> str:
    """The text that keeps `value`: tensors and arrays become lists or numbers; NaN stays, in Python's spelling."""
    return json.dumps(value, indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of torch and NumPy
        return value.tolist()
    raise CourseError(f"numbers in dicts and lists are expected, and not a {type(value).__name__}")


def frame(name: str, experiment: store.Experiment) -> dict[str, Any]:
    """The head of a record, as it reads once stored."""
    gpu = torch.cuda.is_available() and experiment.device.startswith("cuda")
    versions = {"mtl_course": mtl_course.__version__, "python": platform.python_version(), "torch": torch.__version__}
    head = {
        "name": name,
        **{field: getattr(experiment, field) for field in ("claim", "question", "protocol", "lesson")},
        "arms": dict(experiment.arms) if isinstance(experiment.arms, Mapping) else list(experiment.arms),
        "seeds": list(experiment.seeds),
        "command": f"python -m mtl_course records run {name}",
        "versions": versions | {package: version(package) for package in ("torchvision", "torchmetrics")},
        "device": experiment.device + (f" ({torch.cuda.get_device_name()})" if gpu else ""),
        "threads": experiment.threads,
        "program": fingerprint(name),
        "complete": False,
    }
    return json.loads(as_json(head))


def summary_of(name: str, experiment: store.Experiment, results: list[dict]) -> dict[str, Any]:
    """The summary that follows from the results, as it reads once stored."""
    with programs.told(store.place(name, ".py"), "summarise"):
        return json.loads(as_json(experiment.summarise(json.loads(as_json(results)))))


def problems(name: str) -> list[str]:
    """Whether a record is one that its program made: sentences on what is wrong, none if all is well."""
    record, experiment = store.load(name), programs.program(name)
    if missing := [field for field in FIELDS if field not in record]:
        return [f"it lacks {', '.join(missing)}"]
    found, now = [] if record["complete"] else ["it is not complete"], frame(name, experiment)
    if record["program"] != now["program"]:
        found.append(f"{name}.py has changed since")
    if [(result["arm"], result["seed"]) for result in record["results"]] != experiment.pairs():
        found.append("its runs are not those of the arms and seeds")
    fields = ("claim", "question", "protocol", "lesson", "threads", "arms", "seeds")
    found += [f"its {field} is not that of {name}.py" for field in fields if record[field] != now[field]]
    if abs(record["seconds"] - sum(result["seconds"] for result in record["results"])) > 0.01:
        found.append("its seconds are not the sum of its runs'")
    try:
        rows = compare(record["summary"], summary_of(name, experiment, record["results"]), 1e-9)
    except CourseError as error:  # of a record with a hole
        return [*found, str(error)]
    wrong = [dotted(path) for path, *_, ok in rows if not ok]
    return found + [f"{part} of its summary does not follow from its results" for part in wrong]


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every (path, value) in nested dicts and lists: names in dicts, positions in lists."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield path, value
    for key, part in pairs or ():
        yield from leaves(part, (*path, key))


def dotted(path: tuple) -> str:
    """A path as one name: ("depth", "abs_error") is depth.abs_error."""
    return ".".join(map(str, path))


def compare(stored: Any, fresh: Any, tolerance: float | Mapping[str, float]) -> list[tuple[tuple, Any, Any, bool]]:
    """(path, stored, fresh, whether they agree) for every number in either."""
    old, new = dict(leaves(stored)), dict(leaves(fresh))
    rows = [(path, old.get(path, "missing"), new.get(path, "missing")) for path in {**old, **new}]
    return [(*row, _close(*row, tolerance)) for row in rows]


def _close(path: tuple, a: Any, b: Any, tolerance: float | Mapping[str, float]) -> bool:
    if not (isinstance(a, int | float) and isinstance(b, int | float)):
        return a == b
    if isinstance(tolerance, Mapping):
        words = [part for part in path if isinstance(part, str)]
        tolerance = tolerance.get(dotted(words), tolerance.get(words[-1] if words else "", 1e-6))
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(a) and math.isnan(b))


def fingerprint(name: str) -> str:
    """SHA-256 of NAME.py, without what does not change results, and of the _NAME.py files that it imports."""
    source = programs.source_of(path := store.place(name, ".py"))
    with programs.told(path, "it"):
        parts = [essence(source), *map(programs.source_of, _shared(path))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _shared(path: Path) -> list[Path]:
    """The files beside an experiment that it imports, and those that they import."""
    finder = ModuleFinder([str(store.folder())])
    finder.run_script(str(path))  # it only reads
    return [Path(module.__file__) for name, module in finder.modules.items() if module.__file__ and name != "__main__"]


def essence(source: str) -> str:
    """The text of an experiment without what is FREE, `summarise`, and the functions after it that only it uses.

    Raises:
        SyntaxError: if it is no Python.
    """
    tree, rest = ast.parse(source), source
    for part, before, after in [*_free_fields(tree), *_free_functions(tree)]:
        text = re.escape(ast.get_source_segment(source, part))
        rest = re.sub(before + text + after, "", rest, count=1)
    return rest


def _free_fields(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """What is FREE, with patterns of what goes along: records older than `lesson` lack its whole line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Experiment"):
            for keyword in node.keywords:
                if keyword.arg in FREE:
                    yield keyword, *((r"\s*", ",?") if keyword.arg == "lesson" else ("", ""))


def _free_functions(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """`summarise`, and the functions after it that nothing else uses, with the blank lines after these."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    first = next((i for i, function in enumerate(functions) if function.name == "summarise"), len(functions))
    kept = [node for node in tree.body if node not in functions[first:]]
    for node in kept:  # it grows
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - {"summarise"}
        kept += [function for function in functions[first:] if function.name in used and function not in kept]
    for function in functions[first:]:
        if function not in kept:
            yield function, "", "" if function.name == "summarise" else r"\s*"
