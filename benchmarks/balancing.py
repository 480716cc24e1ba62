"""The rules for α beside torchjd's: a step's time and peak memory, a rule's time alone, and FLOPs beside equal weights.

Run: python benchmarks/balancing.py  (--write puts the tables into benchmarks/RESULTS.md)
Without the extra `peers` the rules for which torchjd needs a solver are left out.
"""

import argparse
import gc
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchjd import aggregation as peer
from torchjd.autojac import jac_to_grad, mtl_backward

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import report

from mtl_course import balancing, models
from mtl_course.datasets import Scenes
from mtl_course.losses import losses
from mtl_course.training.objective import batch_statistics_kept

PEERS = {
    "equal": lambda: peer.Sum(),
    "pcgrad": lambda: peer.PCGrad(),
    "mgda": lambda: peer.MGDA(),
    "cagrad": lambda: peer.CAGrad(0.5),
    "nash": lambda: peer.NashMTL(3),
    "imtl_g": lambda: peer.IMTLG(),
    "aligned": lambda: peer.AlignedMTL(),
    "upgrad": lambda: peer.UPGrad(),
    "dual_projection": lambda: peer.DualProj(),
    "fairgrad": lambda: peer.FairGrad(2.0),
}


class Case:
    """The test model, a U-Net with heads of a 3×3 block and a 1×1 convolution, and one batch of scenes."""

    def __init__(self, pictures: int, size: int):
        scenes = Scenes(pictures, size, tasks=["semantic", "depth", "normals"])
        self.tasks, self.batch = scenes.tasks, scenes.stack()
        torch.manual_seed(0)
        self.model = models.build("hard", "unet", self.tasks)

    def losses(self) -> dict[str, torch.Tensor]:
        """One forward pass."""
        return losses(self.model(self.batch["image"]), self.batch, self.tasks)

    def ours(self, rule: str, wrt: str = "parameters") -> Callable[[], None]:
        """A step with our backward."""
        made = balancing.make(rule, len(self.tasks))

        def step() -> None:
            self.model.zero_grad()
            balancing.multitask_backward(self.losses(), self.model, made, wrt)
            if rule == "famo":
                with torch.no_grad(), batch_statistics_kept(self.model):
                    made.after_step(torch.stack(list(self.losses().values())))

        return step

    def peers(self, rule: str, chunk: int | None = None) -> Callable[[], None]:
        """A step with torchjd's; chunk 1 sends one gradient after the other through the trunk, None all at once."""
        aggregator = PEERS[rule]()

        def step() -> None:
            self.model.zero_grad()
            terms = list(self.losses().values())
            mtl_backward(terms, self.model.representation(), parallel_chunk_size=chunk)
            jac_to_grad(self.model.shared_parameters(), aggregator)

        return step


def seconds(step: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_bytes(case: Case, step: Callable[[], None]) -> int:
    """The most that a step holds at once beyond the model and its batch, as the allocator of the CPU saw it."""
    case.model.zero_grad()  # what a step frees first would count against what it takes
    case.model._features = ()
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def flops(step: Callable[[], None]) -> int:
    """Multiplications and additions of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def median_ratio(ours: Callable, others: Callable, repeats: int) -> tuple[float, float, str]:
    """Median seconds of both, taken in turns, and the median of the pairs' ratios with its range."""
    ours(), others()
    pairs = []
    for turn in range(repeats):
        first, second = (ours, others) if turn % 2 else (others, ours)
        a, b = seconds(first), seconds(second)
        pairs.append((a, b) if turn % 2 else (b, a))
    ratios = sorted(a / b for a, b in pairs)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    medians = (statistics.median(side) for side in zip(*pairs))
    return *medians, f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


def steps_table(case: Case, repeats: int) -> list[dict]:
    """Each rule's whole step beside torchjd's, both ways of going through the trunk."""
    rows = []
    for rule in PEERS:
        step = case.ours(rule)
        memory = {chunk: peak_bytes(case, case.peers(rule, chunk)) for chunk in (1, None)}
        _, _, sequential = median_ratio(step, case.peers(rule, 1), repeats)
        mine, _, parallel = median_ratio(step, case.peers(rule, None), repeats)
        own = peak_bytes(case, step)
        rows.append(
            {
                "rule": rule,
                "ours, ms": f"{1000 * mine:.0f}",
                "time / torchjd in sequence": sequential,
                "time / torchjd at once": parallel,
                "peak, MB": f"{own / 1e6:.1f}",
                "peak / torchjd in sequence": f"{own / memory[1]:.2f}",
                "peak / torchjd at once": f"{own / memory[None]:.2f}",
            }
        )
        print(rows[-1], flush=True)
    return rows


def rules_table(repeats: int) -> list[dict]:
    """Each rule alone, from the Gramian of three gradients to α, beside torchjd's."""
    rows = []
    generator = torch.Generator().manual_seed(0)
    gramians = [j @ j.T for j in torch.randn(repeats, 3, 10, generator=generator)]
    jacobians = list(torch.randn(repeats, 3, 10, generator=generator))
    for rule, make in PEERS.items():
        aggregator, ours = make(), balancing.GRADIENT_RULES[rule]
        # NashMTL has no form that takes a Gramian; 3 × 10 numbers are no burden.
        theirs, inputs = getattr(aggregator, "gramian_weighting", aggregator), gramians
        if theirs is aggregator:
            inputs = jacobians
        ours(gramians[0]), theirs(inputs[0])
        pairs = [(seconds(partial(ours, g)), seconds(partial(theirs, x))) for g, x in zip(gramians, inputs)]
        mine, other = (statistics.median(side) for side in zip(*pairs))
        rows.append({"rule": rule, "ours, µs": f"{1e6 * mine:.0f}", "torchjd, µs": f"{1e6 * other:.0f}",
                     "ours / torchjd": f"{mine / other:.2f}"})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def costs_table(case: Case, repeats: int) -> list[dict]:
    """Ways of finding α beside equal weights."""
    equal = case.ours("equal")
    base, memory = flops(equal), peak_bytes(case, equal)
    rows = []
    ways = [("equal", "parameters"), ("pcgrad", "parameters"), ("pcgrad", "representation"), ("uncertainty", "-"),
            ("famo", "-")]  # fmt: skip
    for rule, wrt in ways:
        step = case.ours(rule, "parameters" if wrt == "-" else wrt)
        _, _, ratio = median_ratio(step, equal, repeats)
        row = {
            "rule": rule,
            "gradients of": wrt if rule == "pcgrad" else "-",
            "FLOPs / equal": f"{flops(step) / base:.3f}",
        }
        rows.append(row | {"time / equal": ratio, "peak memory / equal": f"{peak_bytes(case, step) / memory:.2f}"})
        print(rows[-1], flush=True)
    return rows


def leave_out_what_lacks_a_solver() -> None:
    """Drop the rules whose optional packages are missing, and say so."""
    for rule, make in list(PEERS.items()):
        try:
            make()
        except ImportError:
            print(f"{rule} is left out: torchjd needs the extra `peers` for it, pip install -e '.[peers]'")
            del PEERS[rule]


def main() -> None:
    """Print or store the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*not DPP.*")
    leave_out_what_lacks_a_solver()
    case = Case(arguments.pictures, arguments.size)
    tables = {
        "Rules for α: a step beside torchjd's": steps_table(case, arguments.repeats),
        "Rules for α: the rule alone": rules_table(200),
        "Rules for α: cost beside equal weights": costs_table(case, arguments.repeats),
    }
    for name, rows in tables.items():
        if arguments.write:
            report(name, "python benchmarks/balancing.py --write", rows)


if __name__ == "__main__":
    main()
