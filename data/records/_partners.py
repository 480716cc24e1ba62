"""A partner for the semantic task, from its own copy to an adversary; partners_tuning.py and partners.py share it."""

import functools
from collections.abc import Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from _protocol import METRICS, SIZE, TEST, build
from torch import Tensor, nn

from mtl_course import tasks as task_makers
from mtl_course import training
from mtl_course.datasets import Scenes

PICTURES = 64
PARTNERS = ("identical", "foreground", "boundary", "depth", "normals", "unrelated", "noise", "adversarial")
COPIES = ("identical", "adversarial")


class WithPartner(Scenes):
    """Scenes with the task "semantic" and, unless it stays alone, a partner.

    identical: the same masks again, for a head of its own. unrelated: where a weave lies over the picture; it lies
    there for every partner, so that all see the same pictures. noise: blobs that have nothing to do with the
    picture and can only be learned by heart. adversarial: the same masks again, but the trunk is pushed to make
    them hard to find.

    Args:
        n: how many scenes.
        seed: which scenes.
        partner: "alone" or one of PARTNERS.
    """

    def __init__(self, n: int, seed: int, partner: str = "alone"):
        super().__init__(n, SIZE, seed, unrelated=True)
        made = self.tasks | dict.fromkeys(COPIES, self.tasks["semantic"])
        made["noise"] = task_makers.foreground("noise")
        names = ["semantic"] if partner == "alone" else ["semantic", partner]
        self.tasks = {name: replace(made[name], name=name) for name in names}

    def stack(self, indices: Iterable[int] | None = None) -> dict[str, Tensor]:
        """Some scenes as one batch, None = all."""
        kept = self.tasks
        self.tasks = {name: task for name, task in kept.items() if name not in (*COPIES, "noise")}
        batch, self.tasks = super().stack(indices), kept
        made = dict.fromkeys(COPIES, batch["semantic"]) | {"noise": blobs(len(batch["image"]), self.seed)}
        return batch | {name: made[name] for name in kept if name in made}


def blobs(n: int, seed: int) -> Tensor:
    """Random masks of smooth blobs, about half of the pixels 1; int64 (n, SIZE, SIZE)."""
    coarse = torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")[:, 0] > 0).long()


class Reversed(torch.autograd.Function):
    """The same value, and a gradient of the other sign.

    Source: Ganin and Lempitsky, arXiv:1409.7495.
    """

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        """X as it is."""
        return x.view_as(x)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        """Its gradient, turned round."""
        return -gradient


def make(data: WithPartner, seed: int) -> nn.Module:
    """Hard sharing; an adversary's head reads features through `Reversed`."""
    model = build("hard", data.tasks, seed)
    if "adversarial" in model.heads:
        model.heads["adversarial"].register_forward_pre_hook(lambda _, inputs: Reversed.apply(inputs[0]))
    return model


@functools.cache
def held_out(which: tuple[int, int]) -> dict[str, Tensor]:
    """Scenes of no training, as a batch."""
    return WithPartner(*which).stack()


def score(model: nn.Module, data: WithPartner, which: tuple[int, int] = TEST) -> dict:
    """The scores of the semantic task on held-out scenes."""
    everything = held_out(which)
    loader = [{name: values[i : i + 50] for name, values in everything.items()} for i in range(0, which[0], 50)]
    tasks = {"semantic": data.tasks["semantic"]}
    scores = training.evaluate(model, tasks, loader, "cpu", progress=False)["semantic"]
    return {metric: scores[metric] for metric in METRICS["semantic"]}


def watched(gramian: Tensor, seen: list) -> Tensor:
    """αᵢ = 1, while the cosine between the two gradients is kept."""
    norms = gramian.diagonal().sqrt()
    seen.append(gramian[0, 1] / norms.prod().clamp(min=1e-30))
    return torch.ones(2, dtype=gramian.dtype)
