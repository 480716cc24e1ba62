"""Six ways of sharing, and T networks, on the same scenes with the same steps."""

import torch
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
SMALL, WIDE = (8, 16, 32, 48), (14, 28, 56, 82)  # WIDE: one network with as many parameters as three of SMALL
ARMS = {
    "T networks": ("single", SMALL),
    "hard": ("hard", SMALL),
    "hard, wide": ("hard", WIDE),
    "soft": ("soft", SMALL),
    "cross-stitch": ("cross-stitch", SMALL),
    "attention": ("attention", SMALL),
    "mixture, picture": ("mixture", SMALL),
    "mixture, pixel": ("mixture:gate=pixel", SMALL),
}


def scenes(n: int, seed: int) -> Scenes:
    """Scenes of 48×48 pixels with the three tasks, made already."""
    data = Scenes(n, 48, seed, tasks=TASKS)
    data.stack()
    return data


def run(arm: str, seed: int) -> dict:
    """Train one model and score its last weights on the held-out scenes."""
    model_name, channels = ARMS[arm]
    data = scenes(240, 100 + seed)
    model = models.build(model_name, "unet", data.tasks, channels=channels)
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(data, 8, shuffle=True, generator=order)
    history = training.fit(model, data.tasks, loader, epochs=10, lr=5e-3, device="cpu", progress=False)
    scores = training.evaluate(model, data.tasks, DataLoader(scenes(200, 2), 50), "cpu", progress=False)
    kept = {task: {metric: scores[task][metric] for metric in names} for task, names in METRICS.items()}
    losses = {task: [row[f"loss/{task}"] for row in history] for task in TASKS}
    return {"scores": kept, "losses": losses, "parameters": sum(p.numel() for p in model.parameters())}


def summarise(results: list) -> dict:
    """Δm of every arm against the T networks of the same seed, under both averages, and the scores."""
    scores = records.by_arm(results, "scores")
    base = scores["T networks"]
    judged = {}
    summary = {"delta_m by task": {}, "delta_m by metric": {}, "scores": {}}
    for arm, of_seeds in scores.items():
        if arm != "T networks":
            for average in ("task", "metric"):
                gains = [delta_m(ours, theirs, average=average) for ours, theirs in zip(of_seeds, base)]
                summary[f"delta_m by {average}"][arm] = records.mean_interval(gains)
                judged.setdefault(average, {})[arm] = gains
        summary["scores"][arm] = {
            f"{task}.{names[0]}": records.mean_interval([s[task][names[0]] for s in of_seeds])
            for task, names in METRICS.items()
        }
    claim = records.judge(judged["task"], "% Δm by task")
    return summary | {"claims": {"C1": claim | {"sentence": say(claim["effects"])}}}


def say(effects: dict) -> str:
    """The answer to C1."""
    order = sorted(effects, key=lambda arm: effects[arm]["mean"])
    least, most = (f"{effects[arm]['mean']:+.1f} % ({arm})" for arm in (order[0], order[-1]))
    above = sum(effect["low"] > 0 for effect in effects.values())
    return (
        f"Against three networks Δm is {least} to {most} for {len(effects)} ways of sharing, and {above} of their "
        "simultaneous intervals lie above 0."
    )


EXPERIMENT = records.Experiment(
    claim="One model for three tasks, in whichever way it shares, does as well as three networks or better.",
    question="Is Δm against three networks above 0 for some way of sharing, beyond its 95 % interval over the seeds?",
    protocol="Scenes of 48×48, 240 to train on, 200 held out that no choice has seen; semantic, depth and normals on "
    "every picture; U-Net of 8, 16, 32, 48 channels; 10 epochs of 30 steps of 8 pictures, AdamW, one-cycle "
    "learning rate up to 5e-3, equal weights, last weights scored; the learning rate was not tuned for any "
    "arm. `hard, wide` has as many parameters as the three networks. A seed changes the first weights, the "
    "training scenes and their order; all arms of a seed see the same scenes in the same order. Δm pairs "
    "the arms of a seed.",
    lesson="05",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("hard", 0)],
    tolerance=0.02,
    threads=1,
)
