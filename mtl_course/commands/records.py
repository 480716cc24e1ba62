"""python -m mtl_course records: run, verify, show and list what is in data/records."""

import argparse
import math
from collections.abc import Sequence
from textwrap import shorten
from typing import Any

from mtl_course.commands.claims import claims
from mtl_course.commands.options import split_names
from mtl_course.commands.provenance import compare, dotted, fingerprint, leaves, problems
from mtl_course.commands.run_records import frame, run, run_one
from mtl_course.errors import CourseError, MissingFile
from mtl_course.records import store
from mtl_course.records.intervals import mean_interval


def records(arguments: argparse.Namespace) -> int:
    """Do one action with the records.

    Returns:
        The exit code.
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
    record, experiment, wrong = store.load(name), store.program(name), problems(name)
    if not isinstance(record.get("results"), list):
        record["results"] = []
    now = frame(name, experiment)
    for field in ("versions", "device", "threads"):
        if record.get(field) != now[field]:
            print(f"note: {field} were {record.get(field)}, and are {now[field]} now")
    stored = {(result["arm"], result["seed"]): result["numbers"] for result in record["results"]}
    for arm, seed in experiment.verify or experiment.pairs()[:1]:
        fresh = run_one(name, experiment, arm, seed)["numbers"]
        rows = compare(stored.get((arm, seed), {}), fresh, experiment.tolerance)
        wrong += [f"{dotted(path)} of {arm}, seed {seed}" for path, *_, ok in rows if not ok]
        # A curve is many numbers: only those that differ are shown.
        shown = [row for row in rows if not row[3] or not any(isinstance(part, int) for part in row[0])]
        _table(("number", "stored", "now", ""), [(dotted(p), a, b, "" if ok else "differs") for p, a, b, ok in shown])
    print(f"{name}: " + ("verified" if not wrong else "NOT verified: " + "; ".join(wrong)))
    return int(bool(wrong))


def show(name: str) -> int:
    """Print a record: its claim, its summary, and each number of each arm.

    Returns:
        0, the exit code.
    """
    record = store.load(name)
    for field in ("claim", "question", "protocol", "source", "note", "command", "device", "seconds"):
        if field in record:
            print(f"{field}: {record[field]}")
    if "summary" in record:
        _table(("summary", ""), [(dotted(path), value) for path, value in leaves(record["summary"])])
    values: dict[tuple[str, str], list[float]] = {}
    for arm, numbers in _arms(record.get("results", ())):
        for path, value in leaves(numbers):
            if isinstance(value, int | float) and not any(isinstance(part, int) for part in path):
                values.setdefault((dotted(path), arm), []).append(value)
    numbers = list(dict.fromkeys(number for number, _ in values))  # each number's arms stand together
    rows = sorted(values.items(), key=lambda item: numbers.index(item[0][0]))
    _table(("number", "arm", "mean", "± (95 %)", "n"), [(*key, *_interval(found)) for key, found in rows])
    return 0


def _arms(record_results: Any) -> list[tuple[str, dict]]:
    """(arm, numbers) of every run; records without a program here hold runs by arm."""
    if not isinstance(record_results, dict):
        return [(result["arm"], result["numbers"]) for result in record_results]
    lists = {arm: runs if isinstance(runs, list) else [runs] for arm, runs in record_results.items()}
    return [(arm, one) for arm, runs in lists.items() for one in runs]


def _interval(values: list[float]) -> tuple[float, float, int]:
    finite = [value for value in values if math.isfinite(value)]
    return tuple(mean_interval(finite).values()) if finite else (math.nan, math.nan, 0)


def print_list() -> int:
    """Print each record's name, state and claim.

    Returns:
        0, the exit code.
    """
    rows = [(name, *_state(name)) for name in store.names()]
    _table(("name", "state", "claim"), [(name, state, shorten(claim, 110)) for name, state, claim in rows])
    return 0


def _state(name: str) -> tuple[str, str]:
    json_file, part, code = (store.place(name, suffix) for suffix in (".json", ".part", ".py"))
    try:
        record = store.read(json_file) if json_file.exists() else {}
        claim = record.get("claim") or store.program(name).claim
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


def _text(cell: Any) -> str:
    return ("-" if math.isnan(cell) else f"{cell:.5g}") if isinstance(cell, float) else str(cell)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    print(*("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells), sep="\n")
