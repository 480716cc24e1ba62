"""Learning rates and weights for voc_budgets, chosen on the part "select"."""

from _voc import MIDDLE, TRIALS, score, train_decoder

from mtl_course import records

ARMS = {
    f"{what}, trial {i}": {"what": what} | trial for what, trials in TRIALS.items() for i, trial in enumerate(trials)
}


def run(arm: str, seed: int) -> dict:
    """Train one trial and score it on the pictures that choose."""
    model, curves = train_decoder(n=MIDDLE, seed=seed, **ARMS[arm])
    return {"scores": score(model, "select", decoder=True)} | curves


def summarise(results: list) -> dict:
    """The trial with the best mIoU of each kind."""
    miou = {arm: sum(values) / len(values) for arm, values in records.by_arm(results, "scores.semantic.miou").items()}
    chosen = {}
    for arm in sorted(miou, key=miou.get):  # the best comes last
        chosen[ARMS[arm]["what"]] = {name: value for name, value in ARMS[arm].items() if name != "what"}
    return {"select": miou, "chosen": chosen}


EXPERIMENT = records.Experiment(
    claim="Each arm gets the learning rate and the weights that suit it, with equal effort.",
    question="Which of four trials has the best mIoU on the pictures that choose?",
    protocol="As voc_budgets, with 87 pictures of the part fit and one seed that no report uses. Scored on the 87 "
    "pictures of the part select. What is chosen here holds for every budget.",
    arms=ARMS,
    seeds=[10],
    run=run,
    summarise=summarise,
    verify=[("alone, trial 1", 10)],
    tolerance=0.1,
    lesson="07",
    threads=1,
)
