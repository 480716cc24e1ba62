"""Run an experiment, or go on with it, and write its record."""

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from experiments import programs
from experiments.provenance import as_json, frame, summary_of
from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.files import write_whole
from mtl_course.records import Experiment, store

MACHINE = ("versions", "device", "threads")


def run(name: str, arms: Sequence[str] | None = None, fresh: bool = False) -> None:
    """Run what an experiment still lacks; after each run the part is kept, and at the end the record is written.

    Args:
        name: data/records/NAME.py.
        arms: only these for now; the record is written once every arm is there.
        fresh: throw away what there is.

    Raises:
        CourseError: if what there is was made by another program or other versions, or the experiment fails.
    """
    experiment = programs.program(name)
    refuse_unknown("arm", arms or (), list(experiment.arms))
    record, part = frame(name, experiment), store.place(name, ".part")
    record["results"] = [] if fresh else _so_far(name, record, experiment)
    if fresh:
        _write(part, record)  # so that the same command without --fresh goes on with this, not with what was there
    done = {(result["arm"], result["seed"]) for result in record["results"]}
    missing = [pair for pair in experiment.pairs() if pair not in done]
    if done:
        print(f"{name}: {len(done)} of {len(done) + len(missing)} runs are there, going on")
    for arm, seed in missing:
        if not arms or arm in arms:
            record["results"].append(run_one(name, experiment, arm, seed))
            _write(part, record)
    if left := len(experiment.pairs()) - len(record["results"]):
        print(f"{name}: {left} runs are left; the record is written when all are there")
    else:
        _finish(name, experiment, record)
        part.unlink(missing_ok=True)


def _so_far(name: str, record: dict, experiment: Experiment) -> list[dict]:
    """Results of an earlier run of the same program, if there are any."""
    path = next((p for suffix in (".part", ".json") if (p := store.place(name, suffix)).exists()), None)
    if path is None:
        return []
    earlier, pairs = store.read(path), experiment.pairs()
    changed = [field for field in ("program", "arms", *MACHINE) if earlier.get(field) != record[field]]
    results = [] if "program" in changed else [r for r in earlier["results"] if (r["arm"], r["seed"]) in pairs]
    # Of a finished record the summary may be renewed on any machine. The arms may be read from a tuning.
    if changed and (changed[0] not in MACHINE or len(results) < len(pairs)):
        verb = "have" if changed[0].endswith("s") else "has"
        raise CourseError(f"{path}: the {changed[0]} {verb} changed since; records run {name} --fresh starts anew")
    if len(results) < len(earlier["results"]):  # runs that are there are not chosen from
        raise CourseError(f"{path} holds seeds that {name}.py has no more: put them back, or run it with --fresh")
    record.update({field: earlier[field] for field in MACHINE})
    return results


def run_one(name: str, experiment: Experiment, arm: str, seed: int) -> dict:
    """One run of one arm, from its seed."""
    torch.set_num_threads(experiment.threads)
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(seed)
    began = time.perf_counter()
    with programs.told(store.place(name, ".py"), f"arm {arm!r} with seed {seed}"):
        numbers = json.loads(as_json(experiment.run(arm, seed)))
        if not isinstance(numbers, dict):
            raise CourseError("run must give a dict of numbers")
    seconds = time.perf_counter() - began
    print(f"{arm}, seed {seed}: {seconds:.1f} s", flush=True)
    return {"arm": arm, "seed": seed, "seconds": round(seconds, 3), "numbers": numbers}


def _write(path: Path, record: dict) -> None:
    """One line a run, so that a change is seen in a diff."""
    results = ",\n  ".join(as_json(result) for result in record["results"])
    text = as_json(record | {"results": None}, indent=1)
    text = text.replace('\n "results": null', f'\n "results": [\n  {results}\n ]', 1)
    write_whole(path, f"{text}\n".encode())


def _finish(name: str, experiment: Experiment, record: dict) -> None:
    order, path = experiment.pairs(), store.place(name, ".json")
    results = sorted(record.pop("results"), key=lambda result: order.index((result["arm"], result["seed"])))
    seconds = round(sum(result["seconds"] for result in results), 3)
    summary = summary_of(name, experiment, results)
    _write(path, record | {"complete": True, "seconds": seconds, "results": results, "summary": summary})
    print(f"{name}: all {len(order)} runs are in {path}")
