"""python -m mtl_course records: run, verify, show and list what is in data/records."""

import argparse
import math
from textwrap import shorten

from experiments import programs
from experiments.claims import claims
from experiments.provenance import compare, dotted, fingerprint, frame, leaves, problems
from experiments.run import MACHINE, run, run_one
from mtl_course.commands.options import split_names
from mtl_course.errors import CourseError, MissingFile
from mtl_course.records import mean_interval, store


def records(arguments: argparse.Namespace) -> int | None:
    """Do one action with the records.

    Returns:
        The exit code of verify.
    """
    if (arguments.name is None) != (arguments.action in ("list", "claims")):
        raise CourseError("records list and claims take no name, and records run, verify and show take one")
    if arguments.action == "list":
        return print_list()
    if arguments.action == "claims":
        return claims(arguments.write)
    if arguments.action == "run":
        return run(arguments.name, split_names(arguments.arms), arguments.fresh)
    return {"verify": verify, "show": show}[arguments.action](arguments.name)


def verify(name: str) -> int:
    """Run the small part of an experiment again and compare it, and the summary, with the record.

    Returns:
        0 if all agrees, else 1, the exit code.
    """
    record, experiment, wrong = store.load(name), programs.program(name), problems(name)
    results = record["results"] if isinstance(record.get("results"), list) else []
    now = frame(name, experiment)
    for field in MACHINE:
        if record.get(field) != now[field]:
            print(f"note: {field} were {record.get(field)}, and are {now[field]} now")
    stored = {(result["arm"], result["seed"]): result["numbers"] for result in results}
    for arm, seed in experiment.verify or experiment.pairs()[:1]:
        fresh = run_one(name, experiment, arm, seed)["numbers"]
        rows = compare(stored.get((arm, seed), {}), fresh, experiment.tolerance)
        wrong += [f"{dotted(path)} of {arm}, seed {seed}" for path, *_, ok in rows if not ok]
        # A curve is many numbers: only those that differ are shown.
        shown = [row for row in rows if not row[3] or not any(isinstance(part, int) for part in row[0])]
        _table(("number", "stored", "now", ""), [(dotted(p), a, b, "" if ok else "differs") for p, a, b, ok in shown])
    print(f"{name}: " + ("verified" if not wrong else "NOT verified: " + "; ".join(wrong)))
    return int(bool(wrong))


def show(name: str) -> None:
    """Print a record: its claim, its summary, and each number of each arm."""
    record = store.load(name)
    for field in ("claim", "question", "protocol", "source", "note", "command", "device", "seconds"):
        if field in record:
            print(f"{field}: {record[field]}")
    if "summary" in record:
        _table(("summary", ""), [(dotted(path), value) for path, value in leaves(record["summary"])])
    values: dict[str, dict[str, list[float]]] = {}  # by number and arm
    for arm, numbers in _arms(record.get("results", [])):
        for path, value in leaves(numbers):
            if isinstance(value, int | float) and not any(isinstance(part, int) for part in path):
                values.setdefault(dotted(path), {}).setdefault(arm, []).append(value)
    rows = [(name, arm, *_interval(found)) for name, arms in values.items() for arm, found in arms.items()]
    _table(("number", "arm", "mean", "± (95 %)", "n"), rows)


def _arms(results: list | dict) -> list[tuple[str, dict]]:
    """(arm, numbers) of every run; records without a program here hold runs by arm."""
    if isinstance(results, dict):
        return [(arm, run) for arm, runs in results.items() for run in (runs if isinstance(runs, list) else [runs])]
    return [(result["arm"], result["numbers"]) for result in results]


def _interval(values: list[float]) -> tuple[float, float, int]:
    finite = [value for value in values if math.isfinite(value)]
    return tuple(mean_interval(finite).values()) if finite else (math.nan, math.nan, 0)


def print_list() -> None:
    """Print each record's name, state and claim."""
    rows = [(name, *_state(name)) for name in store.names()]
    _table(("name", "state", "claim"), [(name, state, shorten(claim, 110)) for name, state, claim in rows])


def _state(name: str) -> tuple[str, str]:
    json_file, part, code = (store.place(name, suffix) for suffix in (".json", ".part", ".py"))
    try:
        record = store.read(json_file) if json_file.exists() else {}
        claim = record.get("claim") or programs.program(name).claim
        if not code.exists():
            return "no program here", claim
        if part.exists():
            unfinished = store.read(part)
            wanted = len(unfinished["arms"]) * len(unfinished["seeds"])
            return f"partial ({len(unfinished['results'])} of {wanted} runs)", claim
        if not record:
            return "not run", claim
        same = record.get("program") == fingerprint(name)
        return "complete" if same else "complete, but its program has changed", claim
    except MissingFile as error:  # such as the record of the tuning that it reads
        return "waits", str(error)
    except (CourseError, KeyError) as error:
        return "damaged", str(error)


def _text(cell: object) -> str:
    return ("-" if math.isnan(cell) else f"{cell:.5g}") if isinstance(cell, float) else str(cell)


def _table(head: tuple[str, ...], rows: list[tuple]) -> None:
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    print(*("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells), sep="\n")
