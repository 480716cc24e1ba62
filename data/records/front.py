"""The front of fixed weights α of two tasks, with every rule for α as a point beside it."""

import statistics

from _protocol import SIZE, build, score, train

from mtl_course import records
from mtl_course.datasets import Scenes
from mtl_course.metrics import delta_m

PICTURES, PAIR = 64, ["semantic", "depth"]
TUNING = records.load("front_tuning")["summary"]
ARMS = TUNING["chosen"]
ALONE = [f"{task} alone" for task in PAIR]
FIXED = [arm for arm, options in ARMS.items() if "weights" in options]
RULES = [arm for arm, options in ARMS.items() if "rule" in options]


def run(arm: str, seed: int) -> dict:
    """Train one network and score it on the test scenes."""
    options = dict(ARMS[arm])
    data = Scenes(PICTURES, SIZE, 100 + seed, tasks=options.pop("tasks", PAIR))
    model = build("hard", data.tasks, seed)
    curves = train(model, data, seed, **options)
    return {"scores": score(model, data.tasks)} | curves


def beyond(point: list, others: list) -> float:
    """How far a point lies beyond all others: of its best lead over each, the smallest; below 0 one leads in all."""
    return min(max(ours - theirs for ours, theirs in zip(point, other)) for other in others)


def dominated(point: list, others: list) -> bool:
    """Whether another point is as good in all tasks and better in one."""
    return any(other != point and all(a >= b for a, b in zip(other, point)) for other in others)


def _minus(values: list, others: list) -> list:
    return [a - b for a, b in zip(values, others)]


def compared(values: dict, comparisons: int = 1) -> dict:
    """The interval of the mean of every arm."""
    return {arm: records.mean_interval(of_seeds, comparisons) for arm, of_seeds in values.items()}


def summarise(results: list) -> dict:
    """Scores, gains against the two single networks, the mean front, and how far each point lies beyond it."""
    scores = records.by_arm(results, "scores")
    alone = [scores[arm] for arm in ALONE]
    base = [{task: s[task] for task, s in zip(PAIR, seed)} for seed in zip(*alone)]
    pairs = {arm: list(zip(scores[arm], base)) for arm in [*FIXED, *RULES]}
    gains = {arm: [[delta_m({t: s[t]}, {t: b[t]}) for t in PAIR] for s, b in both] for arm, both in pairs.items()}
    means = {arm: [statistics.fmean(task) for task in zip(*gains[arm])] for arm in gains}
    by_task = {arm: [delta_m(*both) for both in pairs[arm]] for arm in pairs}
    by_metric = {arm: [delta_m(*both, average="metric") for both in pairs[arm]] for arm in pairs}

    def far(arm: str) -> list:
        return [beyond(p, [gains[other][i] for other in FIXED if other != arm]) for i, p in enumerate(gains[arm])]

    lead = {arm: far(arm) for arm in gains}
    usual = [statistics.fmean(seed) for seed in zip(*(lead[arm] for arm in FIXED))]
    ends = [statistics.fmean(pair) for pair in zip(by_task["share 0.02"], by_task["share 0.98"])]
    equal = by_task["share 0.5"]
    effects = {
        "best fixed α, chosen on validation, minus equal weights": _minus(by_task[TUNING["best fixed"]], equal),
        "equal weights minus the mean of the two ends": _minus(equal, ends),
        "best rule, chosen on validation, minus equal weights": _minus(by_task[TUNING["best rule"]], equal),
    }
    claim = records.judge(effects, "points of Δm")
    fixed, away, rule = (f"{e['mean']:+.1f} ± {e['half_width']:.1f}" for e in claim["effects"].values())
    claim["sentence"] = (
        f"Equal weights are {away} points of Δm above the mean of the two ends of the line of fixed α; the best fixed "
        f"α ({TUNING['best fixed']}, chosen on validation) is {fixed} above equal weights, the best rule "
        f"({TUNING['best rule']}, chosen likewise) {rule}. That is about Δm: from share 0.02 to 0.98 semantic "
        f"alone moves by {means['share 0.98'][0] - means['share 0.02'][0]:+.0f} %."
    )
    return {
        "claims": {"C7": claim},
        "chosen on validation": {what: TUNING[what] for what in ("best fixed", "best rule", "range of delta_m")},
        "miou": compared({a: [s["semantic"]["miou"] for s in v] for a, v in scores.items() if a != "depth alone"}),
        "abs_error": compared({a: [s["depth"]["abs_error"] for s in v] for a, v in scores.items() if a != ALONE[0]}),
        "gains": {arm: dict(zip(PAIR, zip(*of_seeds))) for arm, of_seeds in gains.items()},
        "mean gains": {arm: dict(zip(PAIR, mean)) for arm, mean in means.items()},
        "delta_m by task": compared(by_task),
        "delta_m by metric": compared(by_metric),
        "front": [arm for arm in FIXED if not dominated(means[arm], [means[other] for other in FIXED])],
        "beyond the fixed": compared(lead),
        "beyond, minus a usual fixed α": compared({arm: _minus(lead[arm], usual) for arm in RULES}, len(RULES)),
    }


EXPERIMENT = records.Experiment(
    claim="The weights α of the tasks matter.",
    question="In Δm against two single networks, are the best fixed α and the best rule (both chosen on validation) "
    "above equal weights, and equal weights above the mean of the two ends of the line of fixed α?",
    protocol="Semantic and depth on the same 64 scenes of 48×48, 200 test scenes that no choice has seen, the small "
    "U-Net with hard sharing, 300 steps of 8 pictures, last weights scored. Fixed α on the line of sum 2 "
    "(`share s`: α = 2s for semantic, 2 - 2s for depth), every rule with its usual options, and two single "
    "networks. The learning rate of each arm, the best fixed α and the best rule come from `front_tuning`: "
    "another seed, other scenes, by Δm averaged by task. AdamW divides a gradient by its own size, so only "
    "the ratio of the two α matters. A seed changes the first weights, the scenes and their order; all arms "
    "of a seed share them; `random_weights` draws the same α in every seed. Fixed before the runs: C7 is "
    "judged by three differences of Δm averaged by task, pair by pair: (1) best fixed α minus equal weights, "
    "(2) equal weights minus the mean of shares 0.02 and 0.98, (3) best rule minus equal weights. It holds if "
    "all three are above 0 in simultaneous 95 % intervals: then a good α helps and a bad one harms. If equal "
    "weights are themselves the best fixed α, (1) is 0 and the claim cannot hold. A task's gain is the mean "
    "of its metrics' gains in percent of its single network. `front` are the fixed α whose mean gains no "
    "other dominates. `beyond the fixed`, seed by seed: of a point's best lead in a task over each fixed α "
    "the smallest; above 0 it is beyond every fixed α in some task, below 0 some fixed α beats it in both "
    "tasks by that much. Eleven noisy points push their front outwards, so that a point no better or worse "
    "than they are comes out below 0; each fixed α is therefore measured against the other ten alike (a rule "
    "has one more against it), and what counts for a rule is its number minus the mean of theirs, in "
    "intervals that hold together for all rules. The usual fixed α of that comparison is the mean over all "
    "eleven, of which the extreme ones are bad: to lie above it is a weak claim.",
    lesson="07",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("share 0.5", 0)],
    tolerance=0.05,
    threads=1,
)
