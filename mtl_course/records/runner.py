"""Records from the command line: run or resume an experiment, verify, show and list what is there."""

import json
import math
import platform
import random
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch

import mtl_course
from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.files import write_whole
from mtl_course.records import store
from mtl_course.records.intervals import dotted, leaves, mean_interval
from mtl_course.records.store import Experiment


def run(name: str, arms: Sequence[str] | None = None, fresh: bool = False) -> int:
    """Run what an experiment still lacks; after each run the part is kept, and at the end the record is written.

    Args:
        name: data/records/NAME.py.
        arms: only these for now; the record is written once every arm is there.
        fresh: throw away what there is.

    Returns:
        0, the exit code.

    Raises:
        CourseError: if what there is was made by another program or other versions, or the experiment fails.
    """
    experiment = store.program(name)
    refuse_unknown("arm", arms or (), list(experiment.arms))
    record, part = _frame(name, experiment), store.place(name, ".part")
    record["results"] = [] if fresh else _so_far(name, record, experiment)
    if fresh:
        _write(part, record)  # so that the same command without --fresh goes on with this, not with what was there
    done = {(result["arm"], result["seed"]) for result in record["results"]}
    missing = [pair for pair in experiment.pairs() if pair not in done]
    if done:
        print(f"{name}: {len(done)} of {len(done) + len(missing)} runs are there, going on")
    for arm, seed in missing:
        if arms and arm not in arms:
            continue
        record["results"].append(_one(name, experiment, arm, seed))
        _write(part, record)
    if left := len(experiment.pairs()) - len(record["results"]):
        print(f"{name}: {left} runs are left; the record is written when all are there")
        return 0
    _finish(name, experiment, record)
    part.unlink(missing_ok=True)
    return 0


def _frame(name: str, experiment: Experiment) -> dict[str, Any]:
    """A record without results."""
    gpu = torch.cuda.is_available() and experiment.device.startswith("cuda")
    versions = {"mtl_course": mtl_course.__version__, "python": platform.python_version(), "torch": torch.__version__}
    return {
        "name": name,
        **{field: getattr(experiment, field) for field in ("claim", "question", "protocol")},
        "arms": dict(experiment.arms) if isinstance(experiment.arms, Mapping) else list(experiment.arms),
        "seeds": list(experiment.seeds),
        "command": f"python -m mtl_course records run {name}",
        "versions": versions | {package: version(package) for package in ("torchvision", "torchmetrics")},
        "device": experiment.device + (f" ({torch.cuda.get_device_name()})" if gpu else ""),
        "threads": experiment.threads,
        "program": store.fingerprint(name),
        "complete": False,
    }


def _so_far(name: str, record: dict[str, Any], experiment: Experiment) -> list[dict]:
    """Results of an earlier run of the same program, if there are any."""
    path = next((p for suffix in (".part", ".json") if (p := store.place(name, suffix)).exists()), None)
    if path is None:
        return []
    earlier = store.read(path)
    fields, results = ("program", "versions", "device", "threads"), []
    changed = [field for field in fields if earlier.get(field) != record[field]]
    if "program" not in changed:
        results = [r for r in earlier["results"] if (r["arm"], r["seed"]) in experiment.pairs()]
    # Of a finished record the summary may be renewed on any machine.
    if changed and len(results) < len(experiment.pairs()):
        raise CourseError(f"{path}: the {changed[0]} has changed since; records run {name} --fresh starts anew")
    record.update({field: earlier[field] for field in fields})
    return results


def _one(name: str, experiment: Experiment, arm: str, seed: int) -> dict[str, Any]:
    """One run of one arm, from its seed."""
    torch.set_num_threads(experiment.threads)
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(seed)
    began = time.perf_counter()
    with store.told(store.place(name, ".py"), f"arm {arm!r} with seed {seed}"):
        numbers = json.loads(store.as_json(experiment.run(arm, seed)))
        if not isinstance(numbers, dict):
            raise CourseError("run must give a dict of numbers")
    seconds = time.perf_counter() - began
    print(f"{arm}, seed {seed}: {seconds:.1f} s", flush=True)
    return {"arm": arm, "seed": seed, "seconds": round(seconds, 3), "numbers": numbers}


def _write(path: Path, record: dict[str, Any]) -> None:
    """One line a run, so that a change is seen in a diff."""
    results = ",\n  ".join(store.as_json(result) for result in record["results"])
    text = store.as_json(record | {"results": None}, indent=1)
    text = text.replace('\n "results": null', f'\n "results": [\n  {results}\n ]', 1)
    write_whole(path, f"{text}\n".encode())


def _finish(name: str, experiment: Experiment, record: dict[str, Any]) -> None:
    order, path = experiment.pairs(), store.place(name, ".json")
    results = sorted(record.pop("results"), key=lambda result: order.index((result["arm"], result["seed"])))
    seconds = round(sum(result["seconds"] for result in results), 3)
    summary = store.summary_of(name, experiment, results)
    _write(path, record | {"complete": True, "seconds": seconds, "results": results, "summary": summary})
    print(f"{name}: all {len(order)} runs are in {path}")


def verify(name: str) -> int:
    """Run the small part of an experiment again and compare it, and the summary, with the record.

    Returns:
        0 if all agrees, else 1, the exit code.
    """
    record, experiment, wrong = store.load(name), store.program(name), store.problems(name)
    if not isinstance(record.get("results"), list):
        record["results"] = []
    now = _frame(name, experiment)
    for field in ("versions", "device", "threads"):
        if record.get(field) != now[field]:
            print(f"note: {field} were {record.get(field)}, and are {now[field]} now")
    stored = {(result["arm"], result["seed"]): result["numbers"] for result in record["results"]}
    for arm, seed in experiment.verify or experiment.pairs()[:1]:
        fresh = _one(name, experiment, arm, seed)["numbers"]
        rows = store.compare(stored.get((arm, seed), {}), fresh, experiment.tolerance)
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
        same = record.get("program") == store.fingerprint(name)
        return "complete" if same else "complete, but its program has changed", claim
    except (CourseError, KeyError) as error:
        return "damaged", str(error)


def _text(cell: Any) -> str:
    return ("-" if math.isnan(cell) else f"{cell:.5g}") if isinstance(cell, float) else str(cell)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    print(*("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells), sep="\n")
