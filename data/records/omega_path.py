"""The path of Ω from two networks to one trunk."""

import copy
import math
import statistics

import torch
from _protocol import SIZE, TEST, VALIDATION, batches, build, score, train
from torch import Tensor, nn

from mtl_course import records
from mtl_course.datasets import Scenes
from mtl_course.metrics import delta_m

PICTURES, PAIR = 64, ["semantic", "normals"]
LR = records.load("tuning_scenes")["summary"]["chosen"]["equal"]["lr"]
TIES = [f"tie {strength:g}" for strength in (0, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10)]
ARMS = {"single": "single"} | {tie: tie.replace("tie ", "soft:strength=") for tie in TIES} | {"hard": "hard"}
WHERE = ("training", "scores", "mean trunk")  # "scores" are those on test


def run(arm: str, seed: int) -> dict:
    """Train one model; its scores on test, validation and training scenes, and how far its trunks lie apart."""
    data = Scenes(PICTURES, SIZE, 100 + seed, tasks=PAIR)
    model = build(ARMS[arm], data.tasks, seed)
    curves = train(model, data, seed, lr=LR)
    held_out = {"scores": TEST, "validation": VALIDATION, "training": (PICTURES, 100 + seed)}
    scores = {name: score(model, data.tasks, scenes) for name, scenes in held_out.items()}
    if arm == "hard":
        return scores | {"mean trunk": scores["scores"], "distance": 0.0, "features apart": 0.0} | curves
    middle = score(with_mean_trunk(model), data.tasks)
    return (
        scores | {"mean trunk": middle, "distance": distance(model), "features apart": features_apart(model)} | curves
    )


def with_mean_trunk(model: nn.Module) -> nn.Module:
    """A copy whose trunks both have the mean of the weights and of the batch statistics."""
    model = copy.deepcopy(model)
    states = [trunk.state_dict() for trunk in model.trunks.values()]
    mean = {name: torch.stack([state[name].double() for state in states]).mean(0) for name in states[0]}
    for trunk in model.trunks.values():
        trunk.load_state_dict(mean)
    return model


def spread(points: Tensor) -> float:
    """Σ_t ‖θ_t - θ̄‖ / ‖θ̄‖ of the rows of (T, N)."""
    mean = points.mean(0)
    return float((points - mean).norm(dim=1).sum() / mean.norm())


def distance(model: nn.Module) -> float:
    """How far the parameters of the trunks lie apart, relative to their mean."""
    with torch.no_grad():
        rows = [torch.cat([p.reshape(-1) for p in trunk.parameters()]) for trunk in model.trunks.values()]
        return spread(torch.stack(rows).double())


def features_apart(model: nn.Module) -> float:
    """How far what the trunks make of the first test scenes lies apart, relative to its mean."""
    model.eval()
    images = batches(TEST, PAIR)[0]["image"]
    with torch.no_grad():
        return spread(torch.stack([trunk(images).reshape(-1) for trunk in model.trunks.values()]).double())


def taken(results: list, name: str, task: str, metric: str) -> dict:
    """One metric of every arm, a number a seed."""
    return {arm: [s[task][metric] for s in of_seeds] for arm, of_seeds in records.by_arm(results, name).items()}


def gaps(results: list, task: str, metric: str, factor: float) -> dict:
    """What is worse on test than on the training scenes, in the unit that the factor makes."""
    ours, others = (taken(results, name, task, metric) for name in ("training", "scores"))
    return {arm: [factor * (a - b) for a, b in zip(ours[arm], others[arm])] for arm in ours}


def gains(results: list, name: str, baseline: str, average: str = "task") -> dict:
    """Δm of every arm against the two single networks of the same seed."""
    base = records.by_arm(results, baseline)["single"]
    scores = records.by_arm(results, name)
    return {arm: [delta_m(s, b, average=average) for s, b in zip(scores[arm], base)] for arm in scores}


def intervals(values: dict) -> dict:
    """The interval of the mean of every arm."""
    return {arm: records.mean_interval(of_seeds) for arm, of_seeds in values.items()}


def summarise(results: list) -> dict:
    """The path in distance, scores, gaps and Δm; the λ that validation chooses, against both ends."""
    apart = records.by_arm(results, "distance")
    miou_gap, angle_gap = gaps(results, "semantic", "miou", 100), gaps(results, "normals", "mean_angle", -1)
    by_task, checked = gains(results, "scores", "scores"), gains(results, "validation", "validation")
    best = max((tie for tie in TIES if tie != "tie 0"), key=lambda tie: statistics.fmean(checked[tie]))
    ends = ("single", "tie 0", "hard")
    against = {end: records.paired_difference(by_task[best], by_task[end], len(ends)) for end in ends}
    effects = {
        "distance falls (powers of ten), λ = 0.0001 minus λ = 10": [
            math.log10(loose / tight) for loose, tight in zip(apart["tie 0.0001"], apart["tie 10"])
        ],
        "gap falls (points of mIoU), λ = 0 minus λ = 10": [
            a - b for a, b in zip(miou_gap["tie 0"], miou_gap["tie 10"])
        ],
    }
    claim = records.judge(effects, "powers of ten for the distance, points of mIoU for the gap")
    far, gap = (f"{effect['mean']:+.1f} ± {effect['half_width']:.1f}" for effect in claim["effects"].values())
    claim["sentence"] = (
        f"From λ = 0.0001 to 10 the distance of the trunks falls by {far} powers of ten, but the gap between training "
        f"and test, from λ = 0 to 10, by {gap} points of mIoU; {best.replace('tie', 'λ =')}, chosen on validation, is "
        f"{against['hard']['mean']:+.1f} ± {against['hard']['half_width']:.1f} % of Δm above one trunk and "
        f"{against['single']['mean']:+.1f} ± {against['single']['half_width']:.1f} above two networks."
    )
    return {
        "claims": {"C8": claim},
        "distance": intervals(apart),
        "features apart": intervals(records.by_arm(results, "features apart")),
        "gap": {"miou, points": intervals(miou_gap), "mean_angle, degrees": intervals(angle_gap)},
        "miou": {name: intervals(taken(results, name, "semantic", "miou")) for name in WHERE},
        "mean_angle": {name: intervals(taken(results, name, "normals", "mean_angle")) for name in WHERE},
        "delta_m by task": intervals(by_task),
        "delta_m by metric": intervals(gains(results, "scores", "scores", "metric")),
        "delta_m by task, mean trunk": intervals(gains(results, "mean trunk", "scores")),
        "best λ": {
            "chosen on validation": best,
            "minus the ends, delta_m by task": against,
            "beats all": all(end["mean"] > end["half_width"] for end in against.values()),
        },
    }


EXPERIMENT = records.Experiment(
    claim="Ω controls complexity: its strength λ leads from two networks to one trunk.",
    question="Do the distance of the trunks and the gap between training and test scenes fall as λ grows?",
    protocol="Semantic and normals on the same 64 scenes of 48×48, 200 test scenes that no choice has seen, the "
    "small U-Net, 300 steps of 8 pictures, equal weights, weight decay 1e-4, last weights scored. `tie λ`: one "
    "network a task and Ω = λ/2 Σ‖θ_t - θ̄‖² on the trunks, which start alike; `single`: two networks that start "
    "apart; `hard`: one trunk. λ is not tuned, the whole path is shown. The learning rate of all arms is the one that "
    "`tuning_scenes` chose for hard sharing of three tasks, so a bias against small λ is possible. Ω is part of the "
    "gradient that AdamW divides by its own size: where λ is large the tie takes a part of the step from the losses, "
    "so a gap may also fall because less was learned; the training scores say so. A seed changes the first weights, "
    "the scenes and their order; all arms of a seed share the scenes and the order, and the first task's trunk starts "
    "alike. Fixed before the runs: C8 is judged by two differences, pair by pair: (1) log10 of the distance Σ‖θ_t - "
    "θ̄‖ / ‖θ̄‖ at λ = 0.0001 minus at λ = 10, (2) the gap, mIoU on the training scenes minus mIoU on test in points, "
    "at λ = 0 minus at λ = 10. It holds if both are above 0 in simultaneous 95 % intervals. Further: `mean trunk` is "
    "the same model with both trunks replaced by their mean, batch statistics too: it comes near the model where the "
    "trunks have become one. `features apart` is the distance of the two trunks' outputs on 50 test scenes. The best "
    "λ > 0 is chosen by Δm (averaged by task, against `single`) on 100 validation scenes, and compared on test with "
    "`single`, λ = 0 and `hard`.",
    lesson="07",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("tie 0.01", 0)],
    tolerance=0.05,
    threads=1,
)
