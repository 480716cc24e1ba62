"""Sixteen masks: is it worth having cheap labels on many more pictures, and does that depend on how long one trains?"""

from _protocol import POOL, SIZE, build, score, train

from mtl_course import records
from mtl_course.datasets import Scenes

MASKS, LENGTHS = 16, (300, 600, 1200)
TRIO = ["semantic", "depth", "normals"]
CHOSEN = records.load("length_tuning")["summary"]["chosen"]
ARMS = {
    f"{family}, {steps} steps": {"family": family, "steps": steps} | CHOSEN[family]
    for family in ("alone", "cheap")
    for steps in LENGTHS
}


def run(arm: str, seed: int) -> dict:
    """Train one model and score its last weights on the test scenes."""
    options = dict(ARMS[arm])
    pool = POOL if options.pop("family") == "cheap" else None
    tasks = TRIO if pool else ["semantic"]
    data = Scenes(pool or MASKS, SIZE, 100 + seed, tasks=tasks, labelled=pool and {"semantic": MASKS})
    model = build("hard", data.tasks, seed)
    curves = train(model, data, seed, options.pop("steps"), masked=pool and MASKS, **options)
    return {"scores": score(model, data.tasks), "loss": curves["loss"], "flops": curves["flops"]}


def summarise(results: list) -> dict:
    """The mIoU of both arms, and what the cheap labels add, at each length."""
    miou = records.by_arm(results, "scores.semantic.miou")
    points = {
        f"{steps} steps": [100 * (a - b) for a, b in zip(miou[f"cheap, {steps} steps"], miou[f"alone, {steps} steps"])]
        for steps in LENGTHS
    }
    claim = records.judge(points, "points of mIoU")
    told = [f"{e['mean']:+.1f} ± {e['half_width']:.1f} after {name}" for name, e in claim["effects"].items()]
    claim["sentence"] = f"With 16 masks, depth and normals of 256 pictures add {', '.join(told)} (points of mIoU)."
    return {"miou": {arm: records.mean_interval(values) for arm, values in miou.items()}, "claims": {"C2": claim}}


EXPERIMENT = records.Experiment(
    claim="Sharing needs less labelled data: cheap labels on more pictures stand in for masks.",
    question="With 16 masks, is the mIoU higher with depth and normals of 256 pictures, at each length of training?",
    protocol="16 scenes of 48×48 with masks; `cheap` has depth and normals on 256, these 16 among them, and half of "
    "every batch has masks; the small U-Net with hard sharing; 300, 600 or 1200 steps of 8 pictures in both "
    "arms. Learning rate, weight decay and the partners' weight from length_tuning: six trials an arm, on "
    "validation scenes. Scored once on 200 test scenes. A seed changes the first weights, the scenes and "
    "their order; both arms of a seed see the same masks. This experiment was planned after the first seed of "
    "label_budgets had shown that 300 steps leave `cheap` unfinished; its three lengths were fixed before its "
    "own runs. C2 is judged at the three lengths.",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("alone, 300 steps", 0)],
    tolerance={"flops": 1e-9, "miou": 0.05, "accuracy": 0.05, "semantic": 0.2},
    lesson="07",
    threads=1,
)
