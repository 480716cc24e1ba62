"""Animals of Pascal VOC from scratch: masks alone, and with foreground and boundary."""

from _voc import score, train_whole

from mtl_course import records

CHOSEN = records.load("voc_scratch_tuning")["summary"]["chosen"]
PAIRS = [(what, n) for n in (87, 350) for what in ("alone", "together")]
ARMS = {f"{what}, {n}": {"what": what, "n": n} | CHOSEN[what] for what, n in PAIRS}


def run(arm: str, seed: int) -> dict:
    """Train one model and score its last weights on val."""
    model, curves = train_whole(seed=seed, **ARMS[arm])
    return {"scores": score(model, "val", decoder=False)} | curves


def summarise(results: list) -> dict:
    """Curves of the mIoU, and what the partners add at each budget."""
    miou = records.by_arm(results, "scores.semantic.miou")
    points = {
        arm: [100 * (a - b) for a, b in zip(values, miou[f"alone, {ARMS[arm]['n']}"])]
        for arm, values in miou.items()
        if ARMS[arm]["what"] != "alone"
    }
    one = records.judge({"87 pictures": points["together, 87"], "350 pictures": points["together, 350"]}, UNIT)
    return {
        "miou": {arm: records.mean_interval(values) for arm, values in miou.items()},
        "points": {arm: records.mean_interval(values) for arm, values in points.items()},
        "claims": {"C1": one | {"sentence": say(one)}},
    }


UNIT = "points of mIoU"


def say(claim: dict) -> str:
    """The effects in words."""
    gains = [f"{e['mean']:+.1f} ± {e['half_width']:.1f} with {name}" for name, e in claim["effects"].items()]
    return f"On VOC's animals from scratch, foreground and boundary change the mIoU by {', '.join(gains)} (points)."


EXPERIMENT = records.Experiment(
    claim="A model that shares does better (C1), on photographs and without ImageNet weights.",
    question="With 87 and with 350 pictures: is the mIoU of seven classes higher with foreground and boundary?",
    protocol="As voc_budgets, but EfficientNet-Lite0 starts from random weights and all of it is trained, 240 steps of "
    "8 pictures, with 87 and with 350 pictures and without keypoints; each picture is mirrored by a coin of "
    "its own, which differs between arms; learning rate and weights from its own four trials in "
    "voc_scratch_tuning. C1 is judged by the mIoU gained by `together` at both budgets; fixed before the "
    "runs.",
    arms=ARMS,
    seeds=range(3),
    run=run,
    summarise=summarise,
    verify=[("alone, 87", 0)],
    tolerance=0.1,
    lesson="07",
    threads=1,
)
