"""Seventeen rules for α, and fixed weights, on one hard-sharing model."""

import functools

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from mtl_course import models, records, training
from mtl_course.datasets import Scenes
from mtl_course.metrics import delta_m

TASKS = ["semantic", "depth", "normals"]
METRICS = {
    "semantic": ["miou", "accuracy"],
    "depth": ["abs_error", "rel_error"],
    "normals": ["mean_angle", "within_11", "within_22", "within_30"],
}
GRADIENT = ["pcgrad", "mgda", "cagrad", "nash", "imtl_g", "aligned", "upgrad", "dual_projection", "fairgrad"]
LOSS = ["uncertainty", "dynamic_average", "grad_norm", "random_weights", "geometric_mean", "smooth_tchebycheff", "famo"]
ARMS = {"T networks": {"model": "single"}, "equal": {"rule": "equal"}}
ARMS |= {"fixed 1, 0.2, 2": {"weights": [1, 0.2, 2]}, "fixed 0.2, 1, 1": {"weights": [0.2, 1, 1]}}
ARMS |= {rule: {"rule": rule} for rule in [*GRADIENT, *LOSS]}
ARMS |= {f"{rule}, representation": {"rule": rule, "wrt": "representation"} for rule in ("pcgrad", "mgda", "upgrad")}


def scenes(n: int, seed: int) -> Scenes:
    """Scenes of 48×48 pixels with the three tasks, made already."""
    data = Scenes(n, 48, seed, tasks=TASKS)
    data.stack()
    return data


def equal_watched(gramian: torch.Tensor, seen: list) -> torch.Tensor:
    """αᵢ = 1, while the cosines between the task gradients are kept."""
    norms = gramian.diagonal().sqrt()
    seen.append(gramian / norms.outer(norms))
    return torch.ones(len(gramian), dtype=gramian.dtype)


def run(arm: str, seed: int) -> dict:
    """Train one model and score its last weights on the held-out scenes."""
    options = dict(ARMS[arm])
    data = scenes(240, 100 + seed)
    model = models.build(options.pop("model", "hard"), "unet", data.tasks, channels=(8, 16, 32, 48))
    if "weights" in options:
        options["weights"] = dict(zip(TASKS, options["weights"]))
    seen: list[torch.Tensor] = []
    if arm == "equal":
        options["rule"] = functools.partial(equal_watched, seen=seen)
    loader = DataLoader(data, 8, shuffle=True, generator=torch.Generator().manual_seed(seed))
    history = training.fit(model, data.tasks, loader, epochs=10, lr=5e-3, device="cpu", progress=False, **options)
    scores = training.evaluate(model, data.tasks, DataLoader(scenes(200, 2), 50), "cpu", progress=False)
    kept = {task: {metric: scores[task][metric] for metric in names} for task, names in METRICS.items()}
    curves = {what: {task: [row[f"{what}/{task}"] for row in history] for task in TASKS} for what in ("loss", "alpha")}
    numbers = {"scores": kept, **curves, "skipped": sum(row["skipped"] for row in history)}
    return numbers | ({"cosines": cosines(torch.stack(seen))} if seen else {})


def cosines(seen: torch.Tensor) -> dict:
    """Mean cosine of each pair of task gradients over the steps, and the share of steps where it is negative."""
    pairs = {f"{TASKS[i]} {TASKS[j]}": seen[:, i, j] for i in range(3) for j in range(i)}
    tenths = {name: F.avg_pool1d(value[None], 30)[0] for name, value in pairs.items()}  # a mean an epoch
    return {
        "mean": {name: value.mean() for name, value in pairs.items()},
        "negative": {name: (value < 0).double().mean() for name, value in pairs.items()},
        "by epoch": tenths,
    }


def summarise(results: list) -> dict:
    """Δm of every arm against the T networks of the same seed, and against equal weights."""
    scores = records.by_arm(results, "scores")
    summary = {name: {} for name in ("delta_m by task", "delta_m by metric", "by task, minus equal", "scores")}
    gains = {
        average: {
            arm: [delta_m(ours, theirs, average=average) for ours, theirs in zip(of_seeds, scores["T networks"])]
            for arm, of_seeds in scores.items()
            if arm != "T networks"
        }
        for average in ("task", "metric")
    }
    for arm, by_task in gains["task"].items():
        summary["delta_m by task"][arm] = records.mean_interval(by_task)
        summary["delta_m by metric"][arm] = records.mean_interval(gains["metric"][arm])
        if arm != "equal":
            summary["by task, minus equal"][arm] = records.paired_difference(by_task, gains["task"]["equal"])
    for arm, of_seeds in scores.items():
        summary["scores"][arm] = {
            f"{task}.{names[0]}": records.mean_interval([s[task][names[0]] for s in of_seeds])
            for task, names in METRICS.items()
        }
    rules, equal = {arm: values for arm, values in gains["task"].items() if arm != "equal"}, gains["task"]["equal"]
    more = {arm: [a - b for a, b in zip(values, equal)] for arm, values in rules.items()}
    claim = records.judge(more, "% Δm by task")
    return summary | {"claims": {"C7": claim | {"sentence": say(claim["effects"])}}}


def say(effects: dict) -> str:
    """The answer to C7."""
    order = sorted(effects, key=lambda arm: effects[arm]["mean"])
    least, most = (f"{effects[arm]['mean']:+.1f} % ({arm})" for arm in (order[0], order[-1]))
    above, below = (
        sum(sign * effect["mean"] > effect["half_width"] for effect in effects.values()) for sign in (1, -1)
    )
    return (
        f"Against equal weights Δm changes by {least} to {most} for {len(effects)} other choices of α; of their "
        f"simultaneous intervals {above} lie above 0 and {below} below."
    )


EXPERIMENT = records.Experiment(
    claim="Some rule for α does better than the plain sum of the losses.",
    question="Is Δm of a rule above that of equal weights, beyond the 95 % interval of the paired difference?",
    protocol="Hard sharing, U-Net of 8, 16, 32, 48 channels; Scenes of 48×48, 240 to train on, 200 held out that no "
    "choice has seen; semantic (cross-entropy), depth (L1 in metres) and normals (1 - cos) on every "
    "picture; 10 epochs of 30 steps of 8 pictures, AdamW, one-cycle learning rate up to 5e-3, last weights "
    "scored. AdamW divides a gradient by its own size, so a rule's Σα hardly changes the step of the trunk. "
    "Neither the learning rate nor a rule's options were tuned; the two fixed weightings were chosen before "
    "any run, one to make the losses of about the same size, one that plays the semantic task down as the "
    "sweeps of arXiv 2209.11379 do. A seed changes the first weights, the training scenes and their order; "
    "all arms of a seed see the same. Random weights draw the same α in every seed. Equal weights are run "
    "by K backward passes here, to see the gradients' cosines. 21 arms are compared with equal weights at "
    "the 95 % level, so one of them is expected to look different by chance.",
    lesson="06",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("pcgrad", 0)],
    tolerance=0.02,
    threads=1,
)
