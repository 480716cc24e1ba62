"""What the experiments on Pascal VOC share: pictures, tasks, training and scores; README.md says why."""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from _protocol import Batches
from PIL import Image
from torch import Tensor, nn

from mtl_course import losses, models, training
from mtl_course import tasks as task_makers
from mtl_course.datasets import VOC
from mtl_course.datasets.voc import voc_folder
from mtl_course.tasks import Tasks

CLASSES = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
SIZE = 96
DECODER_STEPS, WHOLE_STEPS = 400, 240  # of training the way up alone, and of the whole network
SPREAD = 2.0  # of a keypoint, in pixels
TRIO = ["semantic", "foreground", "boundary"]
# Four trials a kind at the middle budget of pictures, for voc_tuning and voc_scratch_tuning.
MIDDLE, WEIGHTS = 87, [{"foreground": w, "boundary": w} for w in (0.2, 1)]
TRIALS = {"alone": [{"lr": lr} for lr in (2e-3, 4e-3, 8e-3, 1.6e-2)]}
TRIALS["together"] = [{"lr": lr, "weights": weights} for lr in (4e-3, 8e-3) for weights in WEIGHTS]
METRICS = {"semantic": ["miou", "accuracy"], "foreground": ["miou"], "boundary": ["f1"]}
TASKS = {"alone": ["semantic"], "together": TRIO, "with keypoints": [*TRIO, "keypoints"]}


@functools.cache
def pictures(split: str) -> dict[str, Tensor]:
    """All pictures of a split with all targets, (N, ...)."""
    data = VOC(split=split, tasks=TRIO, classes=CLASSES, size=SIZE)
    samples = [data[i] for i in range(len(data))]
    pool = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    animals = zip(data.names, data.pairs)
    return pool | {
        "keypoints": torch.stack([heatmap(name, Image.open(file).size[::-1]) for name, (file, _) in animals])
    }


@functools.cache
def keypoints() -> dict[str, np.ndarray]:
    """Visible keypoints of the animals of each picture, (K, 2), x and y in pixels of the photograph.

    The file is that of the Animal Pose data set for these pictures, beside the folder VOCdevkit.
    """
    file = voc_folder().parents[1] / "animal_pose_keypoints.json"
    found: dict[str, list] = {}
    for animal in json.loads(file.read_text())["annotations"]:
        found.setdefault(animal["image"], []).extend(point[:2] for point in animal["keypoints"] if point[2] > 0)
    return {name: np.array(points, np.float32).reshape(-1, 2) for name, points in found.items()}


def heatmap(name: str, shape: tuple[int, int]) -> Tensor:
    """1 at every keypoint of a picture of this height and width, falling off around it; (1, SIZE, SIZE)."""
    inside = torch.from_numpy(keypoints()[name]) * (SIZE / max(shape))  # pictures are padded right and below
    grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy"), -1)  # (H, W, 2)
    squares = (grid[None] - inside[:, None, None]).square().sum(-1)  # (K, H, W)
    return torch.exp(-squares / (2 * SPREAD**2)).amax(0, keepdim=True) if len(inside) else torch.zeros(1, SIZE, SIZE)


def heatmap_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, in which a keypoint counts as much as 20 empty pixels."""
    return ((prediction - target).square() * (1 + 20 * target)).mean()


def tasks(names: list[str]) -> Tasks:
    """The tasks of an arm; keypoints lend their gradient and are not scored."""
    every = task_makers.make(TRIO, CLASSES)
    every["keypoints"] = replace(task_makers.depth("keypoints"), loss=heatmap_loss, unit="")
    return task_makers.pick(every, names)


def drawn(n: int, seed: int) -> Tensor:
    """The `n` pictures of the part "fit" that a seed draws; fewer are the first of more."""
    return torch.randperm(len(pictures("fit")["image"]), generator=torch.Generator().manual_seed(seed))[:n]


def build(what: str, pretrained: bool, seed: int) -> nn.Module:
    """Hard sharing on EfficientNet-Lite0; what is fresh starts alike for all sets of tasks."""
    torch.manual_seed(seed)
    return models.build("hard", "efficientnet_lite0", tasks(TASKS[what]), pretrained=pretrained)


@functools.cache
def features(split: str, mirrored: bool = False) -> list[Tensor]:
    """What the stages of the ImageNet network make of all pictures of a split, from fine to coarse."""
    trunk = build("alone", True, 0).trunk.eval()
    parts = pictures(split)["image"].split(50)
    with torch.no_grad():
        stages = [trunk.encode(part.flip(-1) if mirrored else part) for part in parts]
    return [torch.cat(level).contiguous(memory_format=torch.channels_last) for level in zip(*stages)]


def answer(model: nn.Module, stages: list[Tensor]) -> dict[str, Tensor]:
    """The predictions from what the stages made."""
    shared = model.trunk.decode(stages, (SIZE, SIZE))[-1]
    return {name: head(shared) for name, head in model.heads.items()}


def train_decoder(
    what: str, n: int, seed: int, lr: float, weights: Mapping[str, float] | None = None
) -> tuple[nn.Module, dict]:
    """The way up and the heads, trained on `n` pictures; the stages of the ImageNet network stay as they are.

    What they make of a picture never changes, so it is made once. The rest is the loop of lesson 06: Σ αᵢ Lᵢ, AdamW, a
    one-cycle learning rate.

    Args:
        what: a name of TASKS.
        n: pictures.
        seed: of what is fresh, the pictures and their order.
        lr: highest learning rate.
        weights: αᵢ by task, 1 for what is not named.
    """
    chosen, rows = tasks(TASKS[what]), drawn(n, seed)
    model = build(what, True, seed).to(memory_format=torch.channels_last).train()
    learned = [*model.trunk.up.parameters(), *model.heads.parameters()]
    optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=DECODER_STEPS)
    both, targets, curve = (features("fit"), features("fit", True)), pictures("fit"), []
    coin = torch.Generator().manual_seed(seed)
    for batch in Batches({"image": rows}, seed, DECODER_STEPS):
        index, turned = batch["image"], bool(torch.rand(1, generator=coin) < 0.5)
        truth = {name: targets[name][index].flip(-1) if turned else targets[name][index] for name in chosen}
        terms = losses.losses(answer(model, [level[index] for level in both[turned]]), truth, chosen)
        optimizer.zero_grad()
        sum((weights or {}).get(name, 1) * loss for name, loss in terms.items()).backward()
        optimizer.step()
        schedule.step()
        curve.append(terms["semantic"].item())
    return model.eval(), {"loss": [sum(part) / len(part) for part in zip(*[iter(curve)] * (DECODER_STEPS // 10))]}


class Mirrored(Batches):
    """Batches in which each picture is mirrored or not."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in super().__iter__():
            turn = torch.rand(len(batch["image"])) < 0.5
            for values in batch.values():
                values[turn] = values[turn].flip(-1)
            yield batch


def train_whole(what: str, n: int, seed: int, **fit) -> tuple[nn.Module, dict]:
    """The whole network from random weights, trained on `n` pictures; `fit` is for `training.fit`."""
    everything, chosen, rows = pictures("fit"), tasks(TASKS[what]), drawn(n, seed)
    pool = {name: everything[name][rows] for name in ("image", *chosen)}
    model = build(what, False, seed).to(memory_format=torch.channels_last)
    loader = Mirrored(pool, seed, WHOLE_STEPS // 10)
    history = training.fit(model, chosen, loader, epochs=10, device="cpu", progress=False, **fit)
    return model.eval(), {"loss": [row["loss/semantic"] for row in history]}


def score(model: nn.Module, split: str, decoder: bool) -> dict:
    """{task: {metric: value}} on "select" or "val"; of a decoder from the stages that were made once."""
    everything, scores = pictures(split), {}
    rows = torch.arange(len(everything["image"])).split(50)
    with torch.inference_mode():
        parts = [
            answer(model, [level[part] for level in features(split)]) if decoder else model(everything["image"][part])
            for part in rows
        ]
    for name, task in tasks([name for name in model.heads if name in METRICS]).items():
        metric = task.metric()
        for part, predictions in zip(rows, parts):
            metric.update(task.decode(predictions[name]), everything[name][part])
        found = metric.compute()
        scores[name] = {key: found[key] for key in METRICS[name]}
    return scores
