"""Which partner helps the semantic task, and whether the cosine of the gradients tells it beforehand."""

import functools

import torch
from _partners import PARTNERS, PICTURES, WithPartner, make, score, watched
from _protocol import train

from mtl_course import records

CHOSEN = records.load("partners_tuning")["summary"]["chosen"]
ARMS = {name: {"lr": CHOSEN[name]} for name in ("alone", *PARTNERS)}
RELATED = ("identical", "foreground", "boundary", "depth", "normals")


def run(arm: str, seed: int) -> dict:
    """Train the semantic task with one partner; score it alone, and keep the cosine of the two gradients."""
    data = WithPartner(PICTURES, 100 + seed, arm)
    model = make(data, seed)
    seen: list[torch.Tensor] = []
    options = {} if arm == "alone" else {"rule": functools.partial(watched, seen=seen), "wrt": "representation"}
    curves = train(model, data, seed, lr=ARMS[arm]["lr"], **options)
    cosine = {"cosine": torch.stack(seen).view(10, -1).mean(1)} if seen else {}
    return score(model, data) | {"loss": curves["loss"], "flops": curves["flops"]} | cosine


def correlation(seeds: list) -> float:
    """Pearson's, of the partners' mean cosines and mean gains; each seed brings one (cosine, gain) a partner."""
    return float(torch.corrcoef(torch.tensor(seeds, dtype=torch.float64).mean(0).T)[0, 1])


def summarise(results: list) -> dict:
    """What each partner gains, its mean cosine, and how the two go together."""
    miou = records.by_arm(results, "miou")
    gains = {name: [100 * (a - b) for a, b in zip(miou[name], miou["alone"])] for name in PARTNERS}
    curves = records.by_arm([r for r in results if r["arm"] != "alone"], "cosine")
    cosines = {name: [sum(curve) / len(curve) for curve in curves[name]] for name in PARTNERS}
    seeds = [[(cosines[name][i], gains[name][i]) for name in PARTNERS] for i in range(len(miou["alone"]))]
    honest = [[pair for pair, name in zip(seed, PARTNERS) if name != "adversarial"] for seed in seeds]
    harm = {name: [-gain for gain in gains[name]] for name in ("unrelated", "noise", "adversarial")}
    claim = records.judge(harm, "points of mIoU lost")
    lost = {name: f"{effect['mean']:.1f} ± {effect['half_width']:.1f}" for name, effect in claim["effects"].items()}
    claim["sentence"] = (
        f"An unrelated partner costs {lost['unrelated']} points of mIoU, noise {lost['noise']}, an adversary "
        f"{lost['adversarial']}, which is no unrelated task; depth, a related one, costs "
        f"{-sum(gains['depth']) / len(gains['depth']):.1f}."
    )
    return {
        "miou": {name: records.mean_interval(values) for name, values in miou.items()},
        "points": {name: records.mean_interval(values, len(PARTNERS)) for name, values in gains.items()},
        "cosine": {name: records.mean_interval(values) for name, values in cosines.items()},
        "correlation": records.bootstrap_interval(seeds, correlation),
        "correlation without the adversary": records.bootstrap_interval(honest, correlation),
        "claims": {"C5": claim},
    }


EXPERIMENT = records.Experiment(
    claim="Sharing does not help when tasks are unrelated, and can hurt.",
    question="How much mIoU does the semantic task lose to a partner that is unrelated, noise, or an adversary?",
    protocol="64 scenes of 48×48, 300 steps, the small U-Net with hard sharing, both weights 1. Partners: a copy of "
    "the task itself, foreground, boundary, depth, normals, an unrelated weave over the pictures (which lies "
    "there for every partner), blobs of noise, and an adversary (the same masks, with the gradient turned "
    "round before the trunk). The learning rate of each from partners_tuning. The cosine is that of the two "
    "gradients with respect to the shared features, as a mean over the steps. 200 test scenes, with the "
    "weave. A seed changes the first weights, the scenes and their order; all partners of a seed see the "
    "same. C5 is judged by the points lost to the last three; this was fixed before the runs. The adversary "
    "is no unrelated task: it is the extreme of a conflict. The correlation's interval resamples seeds, so it "
    "says nothing about other partners than these.",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("alone", 0)],
    tolerance={"flops": 1e-9, "miou": 0.05, "accuracy": 0.05, "semantic": 0.2},
    lesson="07",
    threads=1,
)
