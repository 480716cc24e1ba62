"""Lesson 04's live runs with five seeds each: python benchmarks/lesson04_seeds.py

Writes data/records/lesson04_seeds.json, which the lesson reads. 17 minutes on two busy cores.
"""

import copy
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchmetrics
import torchvision
from torch.utils.data import DataLoader

import mtl_course
from mtl_course import models, training
from mtl_course.datasets import Scenes
from mtl_course.files import write_whole

RECORD = Path(__file__).resolve().parents[1] / "data" / "records" / "lesson04_seeds.json"
SEEDS = range(5)
T_95 = 2.776  # two-sided 95 % quantile of Student's t with 4 degrees of freedom
LR, BATCH, SIZE = 5e-3, 16, 64
N_TRAIN, N_SELECT, N_HELD_OUT = 400, 100, 200
RECIPES = {
    "foreground": {"channels": (12, 24, 48, 64), "epochs": 8},
    "semantic": {"channels": (8, 16, 32, 64), "epochs": 6},
}


def scenes(n: int, seed: int, task: str) -> Scenes:
    """Scenes with one task, already made."""
    data = Scenes(n, SIZE, seed, tasks=[task])
    data.stack()
    return data


def one_run(task: str, seed: int, train: Callable) -> dict[str, float]:
    """Train one model; the seed decides its first weights, its training scenes and their order."""
    start = time.perf_counter()
    data, select, held_out = (scenes(n, s, task) for n, s in ((N_TRAIN, 100 + seed), (N_SELECT, 1), (N_HELD_OUT, 2)))
    torch.manual_seed(seed)
    model = models.build("single", "unet", data.tasks, channels=RECIPES[task]["channels"])
    made = time.perf_counter()
    loaders = DataLoader(data, BATCH, shuffle=True), DataLoader(select, N_SELECT)
    train(model, data.tasks, *loaders, RECIPES[task]["epochs"])
    trained = time.perf_counter()
    scores = training.evaluate(model, data.tasks, DataLoader(held_out, 50), "cpu", progress=False)[task]
    return {"seed": seed, "seconds_data": made - start, "seconds_training": trained - made} | scores


def one_cycle(model, tasks, train_loader, select_loader, epochs) -> None:
    """`training.fit`: the learning rate climbs to LR, then falls to nearly 0."""
    training.fit(model, tasks, train_loader, select_loader, epochs=epochs, lr=LR, device="cpu", progress=False)


def fixed(lr: float) -> Callable:
    """The same training with one learning rate from the first step to the last; the best epoch is kept too."""

    def train(model, tasks, train_loader, select_loader, epochs) -> None:
        (name, task), *_ = tasks.items()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
        best, kept = -math.inf, {}
        for _ in range(epochs):
            model.train()
            for batch in train_loader:
                loss = task.loss(model(batch["image"])[name], batch[name])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            score = training.evaluate(model, tasks, select_loader, "cpu", progress=False)[name]["miou"]
            if score >= best:
                best, kept = score, copy.deepcopy(model.state_dict())
        model.load_state_dict(kept)

    return train


def summary(values: list[float]) -> dict[str, float]:
    """Mean and half width of the 95 % t-interval of the mean."""
    deviation = statistics.stdev(values)
    return {
        "mean": statistics.mean(values),
        "half_width_95": T_95 * deviation / math.sqrt(len(values)),
        "standard_deviation": deviation,
        "n": len(values),
    }


def main() -> None:
    """Run everything, and write the record."""
    torch.set_num_threads(2)
    experiments = {
        "foreground": ("foreground", one_cycle),
        "semantic": ("semantic", one_cycle),
        "foreground, fixed lr 0.001": ("foreground", fixed(1e-3)),
        "foreground, fixed lr 0.005": ("foreground", fixed(5e-3)),
    }
    start = time.perf_counter()
    results = {}
    for name, (task, train) in experiments.items():
        results[name] = []
        for seed in SEEDS:
            results[name].append(one_run(task, seed, train))
            print(name, {key: round(value, 3) for key, value in results[name][-1].items()}, flush=True)
    metric = {name: "miou" if name == "semantic" else "iou_foreground" for name in results}
    cycle = [run["iou_foreground"] for run in results["foreground"]]
    gains = {
        name: summary([a - run["iou_foreground"] for a, run in zip(cycle, runs)])
        for name, runs in results.items()
        if "fixed" in name
    }
    record = {
        "claim": "Lesson 04's small U-Nets reach, on 200 held-out scenes, the foreground IoU and the semantic mIoU in "
        "`summary`; and a one-cycle learning rate is compared with a fixed one at the same number of steps.",
        "command": "python benchmarks/lesson04_seeds.py",
        "versions": {
            "mtl_course": mtl_course.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "torchmetrics": torchmetrics.__version__,
        },
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "seconds": time.perf_counter() - start,
        "seconds_note": "wall time, on a machine that did other work at the same time",
        "seeds": list(SEEDS),
        "what_a_seed_changes": "the first weights, the training scenes and their order; the 200 held-out scenes stay",
        "recipe": RECIPES
        | {"lr": LR, "batch": BATCH, "size": SIZE, "train": N_TRAIN, "select": N_SELECT, "held_out": N_HELD_OUT},
        "lr_note": "5e-3 lies between the 3e-3 and 1e-2 that gave the same selection IoU with one seed",
        "metric": metric,
        "results": results,
        "summary": {name: summary([run[metric[name]] for run in runs]) for name, runs in results.items()},
        "one_cycle_minus_fixed": gains,
    }
    RECORD.parent.mkdir(exist_ok=True)
    write_whole(RECORD, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(record["summary"], indent=1), json.dumps(gains, indent=1))


if __name__ == "__main__":
    main()
