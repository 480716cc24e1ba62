"""One process's part of each batch: losses, α, gradients and scores, by every rule.

torchrun --nproc-per-node=N tests/part_run.py FOLDER writes what each process found to FOLDER/RANK.pt. In one process
the same functions find it on the whole batch.
"""

import math
import sys
from pathlib import Path

import torch
from torch import nn

from mtl_course import balancing, datasets, distributed, losses, models, tasks, training

TASKS = tasks.make(["semantic", "foreground", "boundary", "depth", "normals"], ["a", "b", "c"])
LOSSES = {
    "semantic": {
        "weighted": lambda x, y: losses.cross_entropy(x, y, torch.tensor([0.2, 1.0, 3.0]).to(x)),
        "focal": losses.focal,
        "dice": losses.dice,
    },
    "foreground": {"binary_dice": losses.binary_dice},
}
RULES = sorted(balancing.GRADIENT_RULES | balancing.LOSS_RULES | balancing.FURTHER_RULES)


def batch(seed, size=8):
    """Five pictures, so that the parts are uneven; labels are uneven too, and depth is in one part alone."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 3, (5, size, size), generator=g)
    ids[torch.rand(5, size, size, generator=g) < torch.linspace(0.1, 0.9, 5)[:, None, None]] = 255
    depth = 1 + 5 * torch.rand(5, 1, size, size, generator=g, dtype=torch.float64)
    depth[1::2] = math.nan
    normals = nn.functional.normalize(torch.randn(5, 3, size, size, generator=g, dtype=torch.float64), dim=1)
    return {
        "image": torch.rand(5, 3, size, size, generator=g, dtype=torch.float64),
        "semantic": ids,
        "foreground": torch.where(ids == 255, 255, ids.clamp(max=1)),
        "boundary": torch.randint(0, 2, (5, size, size), generator=g),
        "depth": depth,
        "normals": normals,
    }


def part(data):
    """What this process sees of a batch."""
    return {name: value[distributed.rank() :: distributed.world()] for name, value in data.items()}


def build():
    """A model in float64 whose batch norms use what they have, so that a picture does not depend on its neighbours."""
    torch.manual_seed(0)
    return models.build("hard", "unet", TASKS, channels=(4, 6)).double().eval()


def gradients(rule, wrt):
    """α and gradients of three steps; each second adds to the gradients of the one before."""
    model, found = build(), []
    made = balancing.fixed([1.0, 0.5, 0.3, 0.2, 2.0]) if rule.startswith("fixed") else balancing.make(rule, len(TASKS))
    torch.manual_seed(distributed.rank())  # draws of its own in each process
    for step in range(3):
        data = part(batch(step))
        terms = losses.losses(model(data["image"]), data, TASKS)
        alpha = balancing.multitask_backward(terms, model, made, wrt, tasks=list(TASKS))
        found.append({"alpha": alpha, "losses": torch.stack(list(terms.values())).detach()})
        found[-1]["gradient"] = torch.cat([p.grad.flatten() for p in model.parameters()])
        if step != 1:
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.01 * p.grad
                    p.grad = None
        if getattr(made, "wants_new_losses", False):
            with torch.no_grad():
                new = losses.losses(model(data["image"]), data, TASKS)
            made.after_step(torch.stack(list(new.values())))
        if isinstance(made, balancing.LossRule):
            made.after_epoch()
    return found


def single_losses():
    """{loss: its value and gradient on logits}, for losses that no task has by default."""
    found, data = {}, part(batch(7))
    for task, others in LOSSES.items():
        for name, loss in others.items():
            g = torch.Generator().manual_seed(3)
            logits = torch.randn(5, TASKS[task].channels, 8, 8, generator=g, dtype=torch.float64)
            weight = nn.Parameter(torch.ones((), dtype=torch.float64))
            own = part({"x": logits})["x"].abs() + 0.1
            with distributed.summed([weight]):
                (value := loss(weight * own, data[task])).backward()
            found[name] = {"value": value.detach(), "gradient": weight.grad}
    return found


def scores(pictures):
    """The scores of some scenes in batches of 4, of which the last may leave a process without a picture."""
    data = datasets.Scenes(pictures, size=32, tasks=["semantic", "foreground", "boundary", "depth", "normals"])
    torch.manual_seed(1)
    model = models.build("hard", "unet", data.tasks, channels=(4, 6))
    return training.evaluate(model, data.tasks, datasets.loader(data, 4), "cpu", progress=False)


def fitted(folder):
    """The weights after two epochs of `fit`, with a rule that learns, clipping and a mean of the weights."""
    data = datasets.Scenes(12, size=16, tasks=["foreground", "depth"])
    torch.manual_seed(0)
    model = models.build("hard", "unet", data.tasks, channels=(4, 6))
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.GroupNorm(2, module.num_features))
    history = training.fit(
        model, data.tasks, datasets.loader(data, 4, train=True, seed=5), datasets.loader(data, 4), epochs=2, lr=1e-3,
        rule="mgda", clip=0.5, mean_weights=0.9, device="cpu", progress=False, checkpoint=folder,
    )  # fmt: skip
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return {"weights": weights, "loss": [row["loss/depth"] for row in history], "abs": history[-1]["depth.abs_error"]}


def everything(folder):
    """All that is compared."""
    found = {(rule, wrt): gradients(rule, wrt) for rule in RULES for wrt in ("parameters", "representation")}
    return {"rules": found, "losses": single_losses(), "scores": scores(11), "one": scores(1), "fit": fitted(folder)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.start(torch.device("cpu"))
    target = Path(sys.argv[1])
    torch.save(everything(target / "run"), target / f"{distributed.rank()}.pt")
    distributed.stop()
