"""How the course's Pascal VOC model is trained and scored; voc_model compares, benchmarks/voc_model.py trains it for long."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader

from mtl_course import models, training
from mtl_course import tasks as task_makers
from mtl_course.datasets import VOC
from mtl_course.datasets.transforms import Jitter

CLASSES = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
TRIO = ("semantic", "foreground", "boundary")
TRUNK = {"frozen": 2, "up_widths": [128, 96, 64]}
# Found with five trainings of `semantic` and one of all three on "fit", scored on "select".
RATES = {"": 2e-3, "trunk.down": 2e-4}
WEIGHTS = {"foreground": 0.3, "boundary": 0.3}
OPTIONS = {"weight_decay": 1e-2, "clip": 5.0, "mean_weights": 0.99}
BATCH, SCORED = 16, 320  # pictures a step; pixels a side when scored


def build(names: tuple[str, ...], seed: int) -> nn.Module:
    """EfficientNet-Lite0 from ImageNet, its first two stages kept, and a way up to a quarter of the size."""
    torch.manual_seed(seed)
    chosen = task_makers.make(names, CLASSES)
    model = models.build("hard", "efficientnet_lite0", chosen, pretrained=True, **TRUNK)
    return model.to(memory_format=torch.channels_last)


def train(
    names: tuple[str, ...], split: str, size: int, epochs: int, seed: int, build: Callable = build, **options
) -> tuple[nn.Module, list[dict]]:
    """A model and its history; `options` are further ones of `fit`."""
    model, data = build(names, seed), VOC(split=split, tasks=names, classes=CLASSES, size=size, augment=True)
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, generator=order)
    weights = {name: weight for name, weight in WEIGHTS.items() if name in names}
    options = {"lr": RATES, "weights": weights, "augment": Jitter(), "progress": False} | OPTIONS | options
    return model, training.fit(model, data.tasks, loader, epochs=epochs, device="cpu", **options)


def score(model: nn.Module, names: tuple[str, ...], split: str, size: int = SCORED) -> dict[str, dict[str, float]]:
    """{task: {metric: value}} of whole pictures, fitted into size × size."""
    data = VOC(split=split, tasks=names, classes=CLASSES, size=size, cache=False)
    return training.evaluate(model, data.tasks, DataLoader(data, BATCH), "cpu", progress=False)
