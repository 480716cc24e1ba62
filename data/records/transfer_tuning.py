"""The last learning rate of each arm of transfer.py, chosen on validation."""

from _protocol import VALIDATION
from _transfer import PHASES, learn

from mtl_course import records

RATES = (5e-3, 1e-2, 2e-2)
ARMS = {f"{arm}, lr {lr}": {"arm": arm, "lr": lr} for arm in PHASES for lr in RATES}


def run(arm: str, seed: int) -> dict:
    """Train one trial and score it on the validation scenes."""
    trial = ARMS[arm]
    return {"miou": learn(PHASES[trial["arm"]], seed, trial["lr"], VALIDATION)["end"]["semantic"]["miou"]}


def summarise(results: list) -> dict:
    """Of each arm the learning rate with the best mIoU."""
    found = {trial: sum(values) / len(values) for trial, values in records.by_arm(results, "miou").items()}
    best = {arm: max((t for t in ARMS if ARMS[t]["arm"] == arm), key=found.get) for arm in PHASES}
    chosen = {arm: ARMS[trial]["lr"] for arm, trial in best.items()}
    tried = {arm: [trial["lr"] for trial in ARMS.values() if trial["arm"] == arm] for arm in PHASES}
    edge = [arm for arm, lr in chosen.items() if lr in (min(tried[arm]), max(tried[arm]))]
    return {"validation": found, "chosen": chosen, "at the edge of what was tried": edge}


EXPERIMENT = records.Experiment(
    lesson="08",
    claim="Each arm of transfer gets the learning rate that suits it, with equal effort.",
    question="Which of three learning rates has the best mIoU on the validation scenes?",
    protocol="The arms of transfer with a seed that no report uses. Three rates for each: 0.005, 0.01, 0.02. "
    "The first of two phases has the rate tuned for training together. Chosen by mIoU on 100 validation scenes.",
    arms=ARMS,
    seeds=[10],
    run=run,
    summarise=summarise,
    verify=[("target alone, lr 0.01", 10)],
    tolerance=0.05,
    threads=1,
)
