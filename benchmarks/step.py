"""A training step in other precisions and memory formats, beside the speed of a matrix product; and waiting for data.

Run: python benchmarks/step.py  (--write puts the tables into benchmarks/RESULTS.md; --compile, on a CPU: compiled too)

The step is that of `fit` with a batch that lies on the device, on the model of data/records/_voc_model.py. All kinds of
step alternate, and ratios are taken within a repeat. Steps are timed on the GPU if there is one, by the wall; else on
one thread of the CPU, by the time of the process, since others may use the machine. On a GPU, convolutions in fp32 use
TF32, which is torch's default. Waiting is by the wall in any case. Needs the extra `weights`.
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "records"))
from _report import RESULTS, report
from _voc_model import CLASSES, OPTIONS, RATES, TRIO, TRUNK, WEIGHTS, build

from mtl_course import models, tasks, training
from mtl_course.commands.scenes_voc import write_scenes_voc
from mtl_course.datasets import VOC
from mtl_course.datasets.loading import loader
from mtl_course.tasks import Batch, Tasks
from mtl_course.training.descent import Descent
from mtl_course.training.device import placed

SIZE = 224
KINDS = ("fp32", "bf16", "fp32, channels last", "bf16, channels last", "bf16, channels last, compiled")
COMMAND = "python benchmarks/step.py --write"
CUDA = torch.cuda.is_available()
MISSING = {} if CUDA else {"on a GPU": "not measured"}


def stepper(
    model: nn.Module, names: Tasks, batch: Batch, precision: str = "fp32", rates: Mapping[str, float] = RATES
) -> Callable[[], None]:
    """What `fit` does with a batch that lies on the device, without its checks of the targets."""
    weights = {name: weight for name, weight in WEIGHTS.items() if name in names}
    objective = training.Objective(names, weights=weights, precision=precision)
    objective.prepare(model, batch["image"].device)
    decay, clip, mean = OPTIONS.values()
    # So many steps that the learning rate stays at the low start of its cycle: the pictures are noise.
    descent = Descent(model.train(), objective.rule, rates, decay, 1_000_000, clip, mean)

    def step() -> None:
        terms = objective.losses(model, batch)
        objective.refuse_not_finite(terms, "here")
        descent.optimizer.zero_grad()
        objective.backward(model, terms)
        assert descent.step(objective.scaler)

    return step


def noise(names: Tasks, pictures: int, size: int, device: str) -> dict[str, Tensor]:
    """Random pictures and class ids."""
    generator, shape = torch.Generator().manual_seed(0), (pictures, size, size)
    batch = {name: torch.randint(len(task.classes), shape, generator=generator) for name, task in names.items()}
    batch["image"] = torch.rand(pictures, 3, size, size, generator=generator)
    return {name: value.to(device) for name, value in batch.items()}


def in_turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, all of them in turn, each repeat from another one on; a first repeat is not counted."""
    names, took = list(calls), {name: [] for name in calls}
    for turn in range(repeats + 1):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            seconds = timed(calls[name])
            took[name] += [seconds] if turn else []
    return took


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call: of the GPU's work by the wall, or of this process."""
    if not CUDA:
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the lowest and the highest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def flops(call: Callable[[], object]) -> int:
    """Two a multiplication, of convolutions and matrix products, forward and backward."""
    backward = {torch.ops.aten.convolution_backward: backward_flops}
    with FlopCounterMode(display=False, custom_mapping=backward) as counter:
        call()
    return counter.get_total_flops()


def backward_flops(gradient, images, weight, *rest, out_shape=None, **_) -> int:
    """The gradient of the input and that of the weights cost a forward pass each; torch counts groups as if full."""
    transposed, wanted = rest[4], rest[7]
    return conv_flop_count(images, weight, gradient, transposed) * (wanted[0] + wanted[1])


def steps(device: str, pictures: int, compiled: bool) -> tuple[dict[str, Callable[[], None]], int]:
    """Each kind of step, all from the same weights; and the FLOPs of one."""
    names = tasks.make(TRIO, CLASSES)
    start = build(TRIO, 0).to(device, memory_format=torch.contiguous_format)
    batch, made = noise(names, pictures, SIZE, device), {}
    for kind in KINDS if compiled else KINDS[:-1]:
        model, held = copy.deepcopy(start), dict(batch)
        if "channels" in kind:
            model = model.to(memory_format=torch.channels_last)
            held["image"] = held["image"].contiguous(memory_format=torch.channels_last)
        made[kind] = stepper(model, names, held, kind[:4])
        if "compiled" in kind:
            placed(model, model.trunk.mean.device, compile=True)
    return made, flops(made["fp32"])


def several(call: Callable[[], object], times: int) -> None:
    """So many calls, one after the other."""
    for _ in range(times):
        call()


def step_table(device: str, pictures: int, repeats: int, compiled: bool) -> list[dict[str, str]]:
    """Pictures a second of each kind of step, and what part of a matrix product's speed that is."""
    times, side, kind = (20, 8192, torch.bfloat16) if CUDA else (1, 1536, torch.float32)
    made, cost = steps(device, pictures, compiled)
    calls = {name: partial(several, step, times) for name, step in made.items()}
    product = f"matrix product of {side} × {side}, {'bf16' if CUDA else 'fp32'}"
    matrix = torch.randn(side, side, device=device, dtype=kind)
    took = in_turns(calls | {product: partial(several, partial(torch.mm, matrix, matrix), times)}, repeats)
    rate = times * 2 * side**3 / statistics.median(took[product])
    rows = []
    for name in calls:
        speed = times / statistics.median(took[name])
        rows.append(
            {
                "what": name,
                "images/s": f"{pictures * speed:.1f}",
                "ratio to fp32 (lowest to highest)": spread([a / b for a, b in zip(took["fp32"], took[name])]),
                "GFLOP/s": f"{cost * speed / 1e9:.1f}",
                "share of the matrix product's": f"{cost * speed / rate:.3f}",
            }
        )
    rows.append({"what": product, "GFLOP/s": f"{rate / 1e9:.1f}", "share of the matrix product's": "1"})
    return rows + [{"what": name, "images/s": text} for name, text in MISSING.items()]


def waiting_table(device: str, pictures: int, repeats: int) -> list[dict[str, str]]:
    """The share of `fit`'s training time spent on waiting for data: made photographs in VOC's layout."""
    found: dict[int, list[tuple[float, float]]] = {0: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        write_scenes_voc(folder, (20 if CUDA else 6) * pictures, 1, size=400)
        for _ in range(repeats):
            for workers, shares in found.items():
                data = VOC(folder, tasks=TRIO, size=SIZE, augment=True)  # a fresh one has nothing cached
                model = models.build("hard", "efficientnet_lite0", data.tasks, **TRUNK)
                batches = loader(data, pictures, train=True, workers=workers)
                precision = "bf16" if CUDA else "fp32"
                history = training.fit(
                    model, data.tasks, batches, epochs=2, lr=1e-4, device=device, precision=precision, progress=False
                )
                shares.append(tuple(row["waiting"] for row in history))
    rows = []
    for workers, shares in found.items():
        first, later = zip(*shares)
        rows.append({"workers": workers, "first epoch": spread(first, 3), "second epoch, cached": spread(later, 3)})
    return rows + [{"workers": name, "first epoch": text} for name, text in MISSING.items()]


def main() -> None:
    """Measure, print, and write the tables if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16 if CUDA else 8, help="of a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which a GPU always has")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, path = "cuda" if CUDA else "cpu", RESULTS if arguments.write else Path(os.devnull)
    chip = torch.cuda.get_device_name() if CUDA else "CPU, 1 thread"
    where = f"{arguments.pictures} pictures of {SIZE}×{SIZE}, {chip}"
    rows = step_table(device, arguments.pictures, arguments.repeats, arguments.compile or CUDA)
    report(f"A training step, {where}", COMMAND, rows, path)
    rows = waiting_table(device, arguments.pictures, 3)
    report(f"Share of an epoch spent on waiting for data, {where}", COMMAND, rows, path)


if __name__ == "__main__":
    main()
