"""Learning curves: masks alone, masks with other labels on the same pictures, few masks with many cheap labels."""

import itertools
import math

from _protocol import POOL, SIZE, build, score, train

from mtl_course import records
from mtl_course.datasets import Scenes
from mtl_course.metrics import delta_m

TRIO = ["semantic", "depth", "normals"]
TASKS = {"alone": ["semantic"], "depth alone": ["depth"], "normals alone": ["normals"]}
BUDGETS, ENDS = (16, 32, 64, 128, 256), (16, 64, 256)
PAIRS = [*itertools.product(("alone", "equal", "weighted", "cheap"), BUDGETS)]
PAIRS += itertools.product(("depth alone", "normals alone"), ENDS)
CHOSEN = records.load("tuning_scenes")["summary"]["chosen"]
ARMS = {f"{family}, {n}": {"family": family, "pictures": n} | CHOSEN[family] for family, n in PAIRS}


def run(arm: str, seed: int) -> dict:
    """Train one model and score its last weights on the test scenes."""
    options = dict(ARMS[arm])
    family, n = options.pop("family"), options.pop("pictures")
    pool = POOL if family == "cheap" else None
    data = Scenes(pool or n, SIZE, 100 + seed, tasks=TASKS.get(family, TRIO), labelled=pool and {"semantic": n})
    model = build("hard", data.tasks, seed)
    curves = train(model, data, seed, masked=pool and n, **options)
    return {"scores": score(model, data.tasks), "loss": curves["loss"], "flops": curves["flops"]}


def labels_needed(alone: list, score_reached: float) -> float:
    """Pictures with masks at which a learning curve of masks alone reaches a score, by interpolation in log2.

    Where the score lies outside the curve the first or last budget is the answer, so factors are cautious.
    """
    steps = [math.log2(n) for n in BUDGETS]
    if score_reached <= alone[0]:
        return BUDGETS[0]
    for i in range(1, len(steps)):
        if score_reached <= alone[i] and alone[i] > alone[i - 1]:
            share = max(0.0, (score_reached - alone[i - 1]) / (alone[i] - alone[i - 1]))
            return 2 ** (steps[i - 1] + share * (steps[i] - steps[i - 1]))
    return BUDGETS[-1]


def gains(scores: dict, average: str) -> dict:
    """Δm of each way to train three tasks against three networks of the same seed and as many pictures."""
    single = {n: [a | d | m for a, d, m in zip(*(scores[f"{family}, {n}"] for family in TASKS))] for n in ENDS}
    return {
        f"{way}, {n}": [delta_m(a, b, average=average) for a, b in zip(scores[f"{way}, {n}"], single[n])]
        for way in ("equal", "weighted")
        for n in ENDS
    }


def summarise(results: list) -> dict:
    """Curves of the mIoU, Δm under both averages, and how many masks a partner is worth."""
    scores = records.by_arm(results, "scores")
    miou = {arm: [s["semantic"]["miou"] for s in seeds] for arm, seeds in scores.items() if "semantic" in seeds[0]}
    points = {
        f"{way}, {n}": [100 * (a - b) for a, b in zip(miou[f"{way}, {n}"], miou[f"alone, {n}"])]
        for way in ("equal", "weighted", "cheap")
        for n in BUDGETS
    }
    by_task, by_metric = gains(scores, "task"), gains(scores, "metric")
    curves = list(zip(*(miou[f"alone, {n}"] for n in BUDGETS)))
    factors = {
        f"{way}, {n}": [labels_needed(curve, value) / n for curve, value in zip(curves, miou[f"{way}, {n}"])]
        for way in ("weighted", "cheap")
        for n in BUDGETS[:-1]
    }
    one = records.judge({f"equal weights, {n} pictures": by_task[f"equal, {n}"] for n in ENDS}, "% Δm by task")
    few = {
        "16 masks and 256 pictures with cheap labels": points["cheap, 16"],
        "all labels on the same 16 pictures": points["weighted, 16"],
        "cheap labels, 64 masks": points["cheap, 64"],
        "same 64 pictures": points["weighted, 64"],
    }
    two = records.judge(few, "points of mIoU")
    return {
        "miou": {arm: records.mean_interval(values) for arm, values in miou.items()},
        "points": {arm: records.mean_interval(values) for arm, values in points.items()},
        "delta_m by task": {arm: records.mean_interval(values) for arm, values in by_task.items()},
        "delta_m by metric": {arm: records.mean_interval(values) for arm, values in by_metric.items()},
        "label factor": {arm: records.bootstrap_interval(values, mean_log) for arm, values in factors.items()},
        "claims": {"C1": one | {"sentence": say_one(one)}, "C2": two | {"sentence": say_two(two)}},
    }


def mean_log(factors: list) -> float:
    """Geometric mean: a factor of 2 and one of 1/2 are as far from 1."""
    return math.exp(sum(map(math.log, factors)) / len(factors))


def say_one(claim: dict) -> str:
    """The answer to C1."""
    parts = [f"{effect['mean']:+.1f} ± {effect['half_width']:.1f} % with {n}" for n, effect in zip(ENDS, each(claim))]
    return f"At equal weights Δm against three networks is {', '.join(parts)} pictures."


def say_two(claim: dict) -> str:
    """The answer to C2."""
    cheap, same, *_ = (f"{effect['mean']:+.1f} ± {effect['half_width']:.1f}" for effect in each(claim))
    return (
        f"With 16 masks, depth and normals of 256 pictures add {cheap} points of mIoU; depth and normals of the same "
        f"16 pictures {same}."
    )


def each(claim: dict) -> list:
    """The effects in the order of the settings."""
    return list(claim["effects"].values())


EXPERIMENT = records.Experiment(
    claim="A model that shares does better (C1), and needs fewer labels (C2).",
    question="At each budget of pictures: is Δm of one model for three tasks against three networks above 0, and does "
    "the mIoU of the semantic task gain from depth and normals, on the same pictures or on many more?",
    protocol="Scenes of 48×48; semantic, depth, normals; the small U-Net with hard sharing, 300 steps of 8 pictures in "
    "every arm; 16 to 256 pictures. `equal`: three tasks, weights 1. `weighted`: the partners' weight chosen "
    "for the mIoU. `cheap`: masks on so many pictures among 256 that all have depth and normals; half of "
    "every batch has masks. `alone`: one network a task. Learning rate, weight decay and weights from "
    "tuning_scenes: six trials a family at 64 pictures, chosen on validation scenes, the same for all "
    "budgets. Scored once on 200 test scenes. A seed changes the first weights, the scenes and their order; "
    "all arms of a seed see the same scenes with masks. A label factor cannot leave the curve of `alone`: at "
    "16 masks it cannot be below 1, and a score above the curve counts as 256. C1 is judged by Δm by task of "
    "`equal` at 16, 64 and 256 pictures, C2 by the mIoU gained at 16 and 64 masks with and without more "
    "pictures; these settings were fixed before the runs.",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("alone, 16", 0)],
    tolerance={"flops": 1e-9, "miou": 0.05, "accuracy": 0.05, "semantic": 0.2},
    lesson="07",
    threads=1,
)
