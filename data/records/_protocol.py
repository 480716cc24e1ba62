"""What the experiments on Scenes share: data, steps, training and scores; README.md says why.

Its text is part of the fingerprint of every experiment that imports it: a change here makes them other experiments.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl_course import models, training
from mtl_course.datasets import Scenes
from mtl_course.tasks import Tasks

SIZE, CHANNELS, STEPS, BATCH = 48, (8, 16, 32, 48), 300, 8
POOL = 256  # pictures that carry cheap labels
VALIDATION, TEST = (100, 1), (200, 2)  # (scenes, seed): choices are made on the first, reported is the second
METRICS = {
    "semantic": ["miou", "accuracy"],
    "foreground": ["miou"],
    "depth": ["abs_error", "rel_error"],
    "normals": ["mean_angle", "within_11", "within_22", "within_30"],
    "boundary": ["f1"],
}
_made: dict[tuple, dict[str, Tensor]] = {}  # the held-out scenes, made once


class Batches:
    """Batches of a pool of pictures, each picture once before any comes again; each pass goes on where the last ended.

    Args:
        pool: image and targets, (N, ...).
        seed: of the order.
        steps: batches a pass.
        masked: so many first pictures carry the scarce labels: they are one half of each batch. None: all alike.
    """

    def __init__(self, pool: Mapping[str, Tensor], seed: int, steps: int, masked: int | None = None):
        self.pool, self.steps, n = pool, steps, len(pool["image"])
        generator = torch.Generator().manual_seed(seed)
        parts = [(0, n)] if masked is None or masked >= n else [(0, masked), (masked, n)]
        self.decks = [self._deck(start, end, generator) for start, end in parts]

    @staticmethod
    def _deck(start: int, end: int, generator: torch.Generator) -> Iterator[int]:
        while True:
            yield from (start + torch.randperm(end - start, generator=generator)).tolist()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for _ in range(self.steps):
            chosen = [next(deck) for deck in self.decks for _ in range(BATCH // len(self.decks))]
            yield {name: values[chosen] for name, values in self.pool.items()}


def build(model: str, tasks: Tasks, seed: int) -> nn.Module:
    """A fresh model on the small U-Net; the trunk starts alike for all sets of tasks."""
    torch.manual_seed(seed)
    return models.build(model, "unet", tasks, channels=CHANNELS).to(memory_format=torch.channels_last)


def train(model: nn.Module, data: Scenes, seed: int, steps: int = STEPS, masked: int | None = None, **fit) -> dict:
    """Train on `data`; what it cost, and the curves of the losses and of α over ten parts of the run.

    Args:
        model: changed in place.
        data: its tasks are trained.
        seed: of the order.
        steps: of `BATCH` pictures.
        masked: see `Batches`.
        fit: lr and other arguments of `training.fit`.
    """
    pool = data.stack()
    flops = models.cost({"": model}, pool["image"][:BATCH], repeats=0)[""]["step_flops"]
    loader = Batches(pool, seed, steps // 10, masked)
    history = training.fit(model, data.tasks, loader, epochs=10, device="cpu", progress=False, **fit)
    curves = {what: {t: [row[f"{what}/{t}"] for row in history] for t in data.tasks} for what in ("loss", "alpha")}
    return curves | {"flops": flops * steps, "skipped": sum(row["skipped"] for row in history)}


def score(model: nn.Module, tasks: Tasks, held_out: tuple[int, int] = TEST) -> dict:
    """{task: {metric: value}} on held-out scenes, of the tasks that `METRICS` knows."""
    tasks = {name: task for name, task in tasks.items() if name in METRICS}
    scores = training.evaluate(model, tasks, batches(held_out, tasks), "cpu", progress=False)
    return {name: {metric: scores[name][metric] for metric in METRICS[name]} for name in tasks}


def batches(held_out: tuple[int, int], tasks: Sequence[str]) -> list[dict[str, Tensor]]:
    """Held-out scenes in batches of 50."""
    n, seed = held_out
    key = (held_out, *tasks)
    if key not in _made:
        _made[key] = Scenes(n, SIZE, seed, tasks=list(tasks)).stack()
    return [{name: values[i : i + 50] for name, values in _made[key].items()} for i in range(0, n, 50)]
