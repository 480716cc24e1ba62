"""What one model for T tasks costs against T networks."""

import math

from _protocol import BATCH, SIZE, build

from mtl_course import models, records
from mtl_course.datasets import Scenes

ARMS = {
    "2 tasks": ["semantic", "depth"],
    "3 tasks": ["semantic", "depth", "normals"],
    "5 tasks": ["semantic", "depth", "normals", "foreground", "boundary"],
}
NETWORKS, SHARING = "single", ["hard", "attention", "cross-stitch", "soft", "mixture"]
CLAIMED = {
    "parameters": "parameters",
    "training FLOPs": "step_flops",
    "inference time": "seconds",
    "time of a training step": "step_seconds",
}


def run(arm: str, seed: int) -> dict:
    """Count and time all models in turns; another seed takes the times again."""
    data = Scenes(BATCH, SIZE, seed, tasks=ARMS[arm])
    built = {name: build(name, data.tasks, seed) for name in [NETWORKS, *SHARING]}
    return models.cost(built, data.stack()["image"], repeats=7)


def savings(results: list) -> dict:
    """{arm: {model: {quantity: [T networks / model, one a seed]}}}."""
    base = records.by_arm(results, NETWORKS)
    return {
        arm: {
            model: {key: [a[key] / b[key] for a, b in zip(base[arm], ours[arm])] for key in ours[arm][0]}
            for model, ours in ((model, records.by_arm(results, model)) for model in SHARING)
        }
        for arm in base
    }


def summarise(results: list) -> dict:
    """How many times cheaper each model is than T networks, and C3."""
    found = savings(results)
    ratios = {
        arm: {
            model: {key: records.mean_interval(values) for key, values in rows.items()}
            for model, rows in by_model.items()
        }
        for arm, by_model in found.items()
    }
    hard = found["3 tasks"]["hard"]
    doublings = {name: [math.log2(ratio) for ratio in hard[key]] for name, key in CLAIMED.items()}
    judged = records.judge(doublings, "log2 of three networks / one model (0 = no saving, 1 = half)")
    three = ratios["3 tasks"]
    gains = {name: three["hard"][key] for name, key in CLAIMED.items()}
    told = ", ".join(f"{name} {gain['mean']:.2f} ± {gain['half_width']:.2f}" for name, gain in gains.items())
    flops = {model: three[model]["step_flops"]["mean"] for model in SHARING}
    none = [f"{model} ({value:.2f})" for model, value in flops.items() if value < 1.05]
    sentence = (
        f"Three networks cost so many times what hard sharing of three tasks costs on the small U-Net: {told}; "
        f"of the training FLOPs less than 5 % is saved by: {', '.join(none) or 'none of the models'}."
    )
    return {"ratios": ratios, "claims": {"C3": judged | {"sentence": sentence}}}


EXPERIMENT = records.Experiment(
    lesson="05",
    claim="Sharing saves compute.",
    question="Does hard sharing of three tasks need fewer parameters and training FLOPs, and less time for inference "
    "and for a training step, than three networks, each beyond simultaneous 95 % intervals of log2 of the "
    "ratio?",
    protocol="Fixed before the runs. T tasks of Scenes in one model against T single networks, all on the small U-Net; "
    "a batch of 8 pictures of 48×48, one thread. Parameters, FLOPs (convolutions and matrix products) and "
    "bytes kept for the backward pass are counted, and have no spread; times are medians of 7, the models in "
    "turns, taken anew with each seed on a machine that had other work. A training step is forward and "
    "backward without the optimizer. The mixture has 3 experts whatever T. What the models reach is in "
    "sharing_architectures, not here.",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("2 tasks", 0)],
    tolerance={"seconds": math.inf, "step_seconds": math.inf},
    threads=1,
)
