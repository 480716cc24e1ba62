"""The learning rate of each partner in partners.py, chosen on validation."""

from _partners import PARTNERS, PICTURES, WithPartner, make, score
from _protocol import VALIDATION, train

from mtl_course import records

RATES = (5e-3, 1e-2, 2e-2)
ARMS = {f"{name}, lr {lr:g}": {"partner": name, "lr": lr} for name in ("alone", *PARTNERS) for lr in RATES}


def run(arm: str, seed: int) -> dict:
    """Train with one learning rate and score the semantic task on the validation scenes."""
    data = WithPartner(PICTURES, 100 + seed, ARMS[arm]["partner"])
    model = make(data, seed)
    curves = train(model, data, seed, lr=ARMS[arm]["lr"])
    return score(model, data, VALIDATION) | {"loss": curves["loss"]}


def summarise(results: list) -> dict:
    """Of each partner the learning rate with the best mean mIoU."""
    means = {arm: sum(values) / len(values) for arm, values in records.by_arm(results, "miou").items()}
    chosen = {}
    for name in ("alone", *PARTNERS):
        best = max((arm for arm in means if ARMS[arm]["partner"] == name), key=means.get)
        chosen[name] = ARMS[best]["lr"]
    return {"validation": means, "chosen": chosen}


EXPERIMENT = records.Experiment(
    claim="Each partner gets the learning rate that suits it, with equal effort.",
    question="Which of three learning rates has the best mean mIoU on the validation scenes?",
    protocol="64 scenes of 48×48, 300 steps, the small U-Net with hard sharing, both weights 1; one seed that no "
    "report uses; 100 validation scenes.",
    arms=ARMS,
    seeds=[10],
    run=run,
    summarise=summarise,
    verify=[("alone, lr 0.01", 10)],
    tolerance={"miou": 0.05, "accuracy": 0.05, "semantic": 0.2},
    lesson="07",
    threads=1,
)
