"""What transfer.py and transfer_tuning.py share: the arms, their phases, one run."""

from collections.abc import Mapping, Sequence

from _protocol import POOL, SIZE, build, score, train
from torch import nn

from mtl_course import records
from mtl_course.datasets import Scenes
from mtl_course.models import HardSharing

MASKS, TOTAL = 32, 600  # pictures with masks; steps of an arm, all its phases together
SOURCE = ["depth", "normals"]
TASKS = ["semantic", *SOURCE]
CHEAP = records.load("tuning_scenes")["summary"]["chosen"]["cheap"]
# What is trained in each phase; phases have equal shares of the steps.
PHASES = {
    "target alone": ["target"],
    "together": ["together"],
    "pretrain, fine-tune": ["source", "target"],
    "pretrain, frozen trunk": ["source", "head"],
    "pretrain, then together": ["source", "together"],
    "together, then fine-tune": ["together", "target"],
}


def learn(phases: Sequence[str], seed: int, lr: float, held_out: tuple[int, int]) -> dict:
    """Train the phases one after the other.

    Args:
        phases: names of what is trained.
        seed: of the scenes, the first weights and the order.
        lr: of the last phase; earlier ones have the one that was tuned for training together.
        held_out: (scenes, seed) that are scored.

    Returns:
        `half`, where there are two phases, and `end`: the scores of all heads trained until then; `flops`.
    """
    model, seen, numbers = build("hard", Scenes(1, SIZE, tasks=TASKS).tasks, seed), {}, {"flops": 0}
    heads = dict(model.heads)
    for place, phase in enumerate(phases, 1):
        data, options = _phase(phase, seed)
        model.heads = nn.ModuleDict({name: heads[name] for name in data.tasks})  # the others stay as they are
        if phase == "head":
            freeze(model)
        rate = lr if place == len(phases) else CHEAP["lr"]
        numbers["flops"] += train(model, data, seed, TOTAL // len(phases), lr=rate, **options)["flops"]
        seen |= data.tasks
        model.heads = nn.ModuleDict({name: heads[name] for name in seen})
        numbers["end" if place == len(phases) else "half"] = score(model, seen, held_out)
    return numbers


def _phase(phase: str, seed: int) -> tuple[Scenes, Mapping]:
    """The scenes of a phase, and how it is trained."""
    if phase == "source":
        return Scenes(POOL, SIZE, 100 + seed, tasks=SOURCE), {}
    if phase == "together":
        data = Scenes(POOL, SIZE, 100 + seed, tasks=TASKS, labelled={"semantic": MASKS})
        return data, {"masked": MASKS, "weights": CHEAP["weights"]}
    return Scenes(MASKS, SIZE, 100 + seed, tasks=["semantic"]), {}  # the same first pictures


def freeze(model: HardSharing) -> None:
    """Let neither the weights nor the batch statistics of the trunk move, whatever mode the model is put in."""
    trunk = model.trunk.requires_grad_(False).eval()
    trunk.train = lambda mode=True: trunk
