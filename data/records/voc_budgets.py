"""Animals of Pascal VOC from ImageNet weights: masks alone, with foreground and boundary, with keypoints too."""

from _voc import TASKS, score, train_decoder

from mtl_course import records

BUDGETS = (22, 44, 87, 175, 350)
PAIRS = [(what, n) for n in BUDGETS for what in TASKS if what != "with keypoints" or n in (22, 87, 350)]
CHOSEN = records.load("voc_tuning")["summary"]["chosen"]
CHOSEN["with keypoints"] = CHOSEN["together"]
ARMS = {f"{what}, {n}": {"what": what, "n": n} | CHOSEN[what] for what, n in PAIRS}


def run(arm: str, seed: int) -> dict:
    """Train one model and score its last weights on val."""
    model, curves = train_decoder(seed=seed, **ARMS[arm])
    return {"scores": score(model, "val", decoder=True)} | curves


def summarise(results: list) -> dict:
    """Curves of the mIoU, and what the partners add at each budget."""
    miou = records.by_arm(results, "scores.semantic.miou")
    points = {
        arm: [100 * (a - b) for a, b in zip(values, miou[f"alone, {ARMS[arm]['n']}"])]
        for arm, values in miou.items()
        if ARMS[arm]["what"] != "alone"
    }
    one = records.judge({"87 pictures": points["together, 87"], "350 pictures": points["together, 350"]}, UNIT)
    two = records.judge({"22 pictures": points["together, 22"]}, UNIT)
    return {
        "miou": {arm: records.mean_interval(values) for arm, values in miou.items()},
        "points": {arm: records.mean_interval(values) for arm, values in points.items()},
        "claims": {"C1": one | {"sentence": say(one)}, "C2": two | {"sentence": say(two)}},
    }


UNIT = "points of mIoU"


def say(claim: dict) -> str:
    """The effects in words."""
    gains = [f"{e['mean']:+.1f} ± {e['half_width']:.1f} with {name}" for name, e in claim["effects"].items()]
    same = "; with 350 all seeds have the same pictures" if "350 pictures" in claim["effects"] else ""
    return f"On VOC's animals, foreground and boundary change the mIoU by {', '.join(gains)} (points){same}."


EXPERIMENT = records.Experiment(
    claim="A model that shares does better (C1), and needs fewer labels (C2), on photographs.",
    question="At each budget of pictures: is the mIoU of seven classes higher with foreground and boundary?",
    protocol="The animal part of Pascal VOC 2012: background, cat, cow, dog, horse, person, sheep, every other class "
    "ignored; 22 to 350 pictures of the part fit, fitted into 96×96, mirrored or not. EfficientNet-Lite0, "
    "whose stages keep their ImageNet weights and batch statistics; its way up and the heads are trained, so "
    "what the tasks share beyond ImageNet is the way up. 400 steps of 8 pictures in every arm. Foreground and "
    "boundary follow from the same masks, so they add no label: what they add is another view of it. `with "
    "keypoints` adds a heatmap of the animals' keypoints, which is another label, at weight 1 and else with "
    "what was chosen for `together`. Learning rate and weights from voc_tuning: four trials a kind at 87 "
    "pictures, chosen on the part select. Scored once on val (445 pictures). A seed changes the first weights "
    "of the way up and the heads, the pictures and their order; all arms of a seed share them. The part fit "
    "holds 350 pictures, so with 350 all seeds have the same ones, and an interval there is about weights and "
    "order only. One coin a batch mirrors all of it. Judged by the mIoU gained by `together`: C1 at 87 and "
    "350 pictures, C2 at 22; fixed before the runs. No figure here may be set beside a published one.",
    arms=ARMS,
    seeds=range(3),
    run=run,
    summarise=summarise,
    verify=[("alone, 22", 0)],
    tolerance=0.1,
    lesson="07",
    threads=1,
)
