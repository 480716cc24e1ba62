"""What `fit` costs beside a bare loop of the same model, data and optimizer.

Both take turns on one thread. Time is that of the process, since others may use the machine.

Run: python benchmarks/fit_overhead.py  (--write puts the table into benchmarks/RESULTS.md)
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import report

from mtl_course import models, training
from mtl_course.datasets import Scenes
from mtl_course.losses import losses


def make(scenes: Scenes) -> torch.nn.Module:
    """The same model each time."""
    torch.manual_seed(0)
    return models.build("hard", "unet", scenes.tasks)


def ours(scenes: Scenes, loader: DataLoader) -> float:
    """Seconds of an epoch of `fit`."""
    model = make(scenes)
    start = time.process_time()
    training.fit(model, scenes.tasks, loader, epochs=1, device="cpu", progress=False)
    return time.process_time() - start


def bare(scenes: Scenes, loader: DataLoader) -> float:
    """Seconds of the same epoch, written out with nothing else in it."""
    model = make(scenes)
    start = time.process_time()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=len(loader))
    for batch in loader:
        total = sum(losses(model(batch["image"]), batch, scenes.tasks).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
    return time.process_time() - start


def main() -> None:
    """Interleave both, in turns the one and the other first, and compare the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for names in (["foreground"], ["semantic", "foreground", "depth", "normals", "boundary"]):
        scenes = Scenes(256, tasks=names)
        loader = DataLoader(scenes, 16)
        bare(scenes, loader)  # fills the cache
        pairs = []
        for turn in range(arguments.repeats):
            took = {call: call(scenes, loader) for call in ((ours, bare) if turn % 2 else (bare, ours))}
            pairs.append((took[ours], took[bare]))
        ratios = [a / b for a, b in pairs]
        rows.append(
            {
                "tasks": len(names),
                "fit, CPU ms a step": f"{1000 * statistics.median(a for a, _ in pairs) / len(loader):.1f}",
                "bare loop, CPU ms a step": f"{1000 * statistics.median(b for _, b in pairs) / len(loader):.1f}",
                "ratio, median of pairs": f"{statistics.median(ratios):.3f}",
                "ratios": f"{min(ratios):.3f} to {max(ratios):.3f}",
            }
        )
    if arguments.write:
        report("fit beside a bare loop", "python benchmarks/fit_overhead.py --write", rows)
    else:
        print(*rows, sep="\n")


if __name__ == "__main__":
    main()
