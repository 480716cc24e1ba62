"""Learning rates and weights for training_length, chosen on validation."""

from _protocol import POOL, SIZE, VALIDATION, build, score, train

from mtl_course import records
from mtl_course.datasets import Scenes

MASKS, STEPS = 16, 600  # the middle length
TRIO = ["semantic", "depth", "normals"]
ALONE = [{"lr": lr, "weight_decay": decay} for lr in (5e-3, 1e-2, 2e-2) for decay in (1e-4, 1e-2)]
CHEAP = [{"lr": lr, "weights": {"depth": w, "normals": w}} for lr in (1e-2, 2e-2) for w in (0.3, 1, 3)]
ARMS = {
    f"{family}, trial {i}": {"family": family} | trial
    for family, trials in (("alone", ALONE), ("cheap", CHEAP))
    for i, trial in enumerate(trials)
}


def run(arm: str, seed: int) -> dict:
    """Train one trial and score the semantic task on the validation scenes."""
    options = dict(ARMS[arm])
    pool = POOL if options.pop("family") == "cheap" else None
    tasks = TRIO if pool else ["semantic"]
    data = Scenes(pool or MASKS, SIZE, 100 + seed, tasks=tasks, labelled=pool and {"semantic": MASKS})
    model = build("hard", data.tasks, seed)
    train(model, data, seed, STEPS, masked=pool and MASKS, **options)
    return score(model, {"semantic": data.tasks["semantic"]}, VALIDATION)["semantic"]


def summarise(results: list) -> dict:
    """Of each family the trial with the best mean mIoU."""
    means = {arm: sum(values) / len(values) for arm, values in records.by_arm(results, "miou").items()}
    chosen = {}
    for arm in sorted(means, key=means.get):  # the best comes last
        chosen[ARMS[arm]["family"]] = {name: value for name, value in ARMS[arm].items() if name != "family"}
    return {"validation": means, "chosen": chosen}


EXPERIMENT = records.Experiment(
    claim="Both arms of training_length get the learning rate and the weights that suit them, with equal effort.",
    question="Which of six trials has the best mean mIoU on the validation scenes?",
    protocol="16 masks (`cheap`: among 256 scenes with depth and normals), 600 steps, the small U-Net with hard "
    "sharing; two seeds that no report uses; 100 validation scenes. What is chosen here holds for every length.",
    arms=ARMS,
    seeds=[10, 11],
    run=run,
    summarise=summarise,
    verify=[("alone, trial 2", 10)],
    tolerance=0.05,
    lesson="07",
    threads=1,
)
