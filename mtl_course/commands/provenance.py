"""Whether a record is one that its program made: the program's fingerprint, and what must fit in the record."""

import ast
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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


def summary_of(name: str, experiment: store.Experiment, results: list[dict]) -> dict[str, Any]:
    """The summary that follows from the results, as it reads once stored."""
    with store.told(store.place(name, ".py"), "summarise"):
        return json.loads(as_json(experiment.summarise(json.loads(as_json(results)))))


def problems(name: str) -> list[str]:
    """Whether a record is one that its program made: sentences on what is wrong, none if all is well."""
    record, experiment = store.load(name), store.program(name)
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
    return [(p, old.get(p), new.get(p), _close(p, old, new, tolerance)) for p in {**old, **new}]


def _close(path: tuple, old: dict, new: dict, tolerance: float | Mapping[str, float]) -> bool:
    if path not in old or path not in new:
        return False
    a, b = old[path], new[path]
    if not (isinstance(a, int | float) and isinstance(b, int | float)):
        return a == b
    if isinstance(tolerance, Mapping):
        words = [part for part in path if isinstance(part, str)]
        tolerance = tolerance.get(dotted(words), tolerance.get(words[-1] if words else "", 1e-6))
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(a) and math.isnan(b))


def fingerprint(name: str) -> str:
    """SHA-256 of NAME.py, without what does not change results, and of the _NAME.py files that it imports."""
    source = store.source_of(path := store.place(name, ".py"))
    with store.told(path, "it"):
        parts = [essence(source), *map(store.source_of, _shared(path))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _shared(path: Path) -> list[Path]:
    """The files beside an experiment that it imports, and those that they import."""
    files = [path]
    for file in files:  # it grows
        for node in ast.walk(ast.parse(store.source_of(file), str(file))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            beside = [store.folder() / f"{module}.py" for module in modules]
            files += [other for other in beside if other.exists() and other not in files]
    return files[1:]


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
    free = functions[first:]
    while True:
        others = [node for node in tree.body if node not in free]
        used = {part.id for node in others for part in ast.walk(node) if isinstance(part, ast.Name)} - {"summarise"}
        if not any(function.name in used for function in free):
            break
        free = [function for function in free if function.name not in used]
    for function in free:
        yield function, "", "" if function.name == "summarise" else r"\s*"
