"""A learning rate for every fixed α and every rule of `front`, chosen on validation."""

import math
import statistics

from _protocol import SIZE, VALIDATION, build, score, train

from mtl_course import records
from mtl_course.balancing import GRADIENT_RULES, LOSS_RULES
from mtl_course.datasets import Scenes
from mtl_course.errors import CourseError
from mtl_course.metrics import delta_m

PICTURES, PAIR, RATES = 64, ["semantic", "depth"], (5e-3, 1e-2, 2e-2)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)  # of the semantic loss; 0.5 is equal weights
TUNED = records.load("tuning_scenes")["summary"]["chosen"]
ALONE = {"semantic alone": TUNED["alone"], "depth alone": TUNED["depth alone"]}
ALONE = {arm: {"tasks": [arm.split()[0]]} | options for arm, options in ALONE.items()}
FIXED = {f"share {s:g}": {"weights": {"semantic": round(2 * s, 2), "depth": round(2 - 2 * s, 2)}} for s in SHARES}
RULES = {rule: {"rule": rule} for rule in [*GRADIENT_RULES, *LOSS_RULES] if rule != "equal"}
TRIALS = {
    point: {f"{point}, lr {lr:g}": options | {"lr": lr} for lr in RATES} for point, options in (FIXED | RULES).items()
}
ARMS = ALONE | {arm: options for trials in TRIALS.values() for arm, options in trials.items()}


def run(arm: str, seed: int) -> dict:
    """Train one trial and score it on the validation scenes; a trial that breaks off has no scores."""
    options = dict(ARMS[arm])
    data = Scenes(PICTURES, SIZE, 100 + seed, tasks=options.pop("tasks", PAIR))
    model = build("hard", data.tasks, seed)
    try:
        train(model, data, seed, **options)
        return {"scores": score(model, data.tasks, VALIDATION)}
    except CourseError as error:  # a loss that is not finite: the learning rate is too high
        print(f"{arm}: {error}")
        return {"scores": {}}


def summarise(results: list) -> dict:
    """Of each fixed α and each rule the learning rate with the best Δm against the two single networks."""
    scores = records.by_arm(results, "scores")
    base = [{"semantic": s["semantic"], "depth": d["depth"]} for s, d in zip(*(scores[arm] for arm in ALONE))]

    def gain(arm: str) -> float:
        return statistics.fmean(delta_m(ours, b) if ours else -math.inf for ours, b in zip(scores[arm], base))

    found = {point: {arm: gain(arm) for arm in trials} for point, trials in TRIALS.items()}
    best = {point: max(trials, key=trials.get) for point, trials in found.items()}
    top = {point: found[point][arm] for point, arm in best.items()}
    rates, middle = list(found["share 0.5"].values()), best["share 0.5"].removeprefix("share 0.5")
    alike = [found[point][point + middle] for point in FIXED]
    ours = [top[point] for point in FIXED]
    return {
        "validation": found,
        "chosen": ALONE | {point: ARMS[arm] for point, arm in best.items()},
        "best fixed": max(FIXED, key=top.get),
        "best rule": max(RULES, key=top.get),
        "range of delta_m": {
            "learning rates at equal weights": max(rates) - min(rates),
            "fixed α, each at its own learning rate": max(ours) - min(ours),
            "fixed α at the learning rate of equal weights": max(alike) - min(alike),
        },
        "broken off": [arm for trials in found.values() for arm, value in trials.items() if value == -math.inf],
    }


EXPERIMENT = records.Experiment(
    claim="Each fixed α and each rule gets the learning rate that suits it, with equal effort.",
    question="Which of three learning rates has the best Δm on the validation scenes?",
    protocol="Semantic and depth, 64 scenes of 48×48 to train on, the small U-Net with hard sharing, 300 steps, "
    "weight decay 1e-4. Eleven fixed α of sum 2 and every rule for α with its usual options, three learning rates "
    "each, one seed that no report uses: a choice by one seed is a noisy one. Chosen by Δm (averaged by task) on 100 "
    "validation scenes against two single networks of the same seed, whose learning rate and weight decay "
    "`tuning_scenes` chose from six trials and two seeds; they got more effort, which moves every Δm alike. The best "
    "fixed α and the best rule are chosen here too. `range of delta_m` compares what three learning rates and what "
    "eleven α can move; the range of eleven noisy numbers is wider than that of three even if nothing matters.",
    lesson="07",
    arms=ARMS,
    seeds=[10],
    run=run,
    summarise=summarise,
    verify=[("share 0.5, lr 0.01", 10)],
    tolerance=0.05,
    threads=1,
)
