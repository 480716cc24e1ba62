"""Gradients of many tensors as one vector, and the graph between a loss and the shared part."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Values of a gradient that are taken into float64 at once: a large network's gradients are not doubled in memory, and
# few calls are made, each of which wakes threads or starts a kernel.
CHUNK = 2**18


def gramian_of(rows: Sequence[Tensor]) -> Tensor:
    """G = JJᵀ of K flat gradients, (K, K), summed in float64 where the device has it."""
    dtype = torch.float32 if rows[0].device.type == "mps" else torch.float64
    total = torch.zeros(len(rows), len(rows), dtype=dtype, device=rows[0].device)
    for columns in zip(*(row.split(CHUNK) for row in rows)):
        exact = [part.to(dtype) for part in columns]
        for i, part in enumerate(exact):
            for j, other in enumerate(exact[: i + 1]):
                total[i, j] += part @ other
    return total.tril() + total.tril(-1).T


def trained(tensors: Sequence[Tensor], without: Sequence[Tensor] = ()) -> list[Tensor]:
    """Those that require a gradient and are not among `without`."""
    left_out = {id(t) for t in without}
    return [t for t in tensors if t.requires_grad and id(t) not in left_out]


def walk(loss: Tensor, ends: Sequence[Tensor]) -> tuple[set, bool]:
    """The nodes of the graph between a loss and `ends`, and whether it leads there."""
    stops = {(t.grad_fn, t.output_nr) for t in ends}
    nodes, todo, met = set(), [(loss.grad_fn, 0)], False
    while todo:
        edge = todo.pop()
        if edge in stops:
            met = True
        elif edge[0] is not None and edge[0] not in nodes:
            nodes.add(edge[0])
            todo += edge[0].next_functions
    return nodes, met


def are_apart(losses: Sequence[Tensor], ends: Sequence[Tensor]) -> bool:
    """Whether no two losses have a node in common before `ends`, parameters left out."""
    seen = [{node for node in walk(loss, ends)[0] if not hasattr(node, "variable")} for loss in losses]
    return sum(map(len, seen)) == len(set().union(*seen))


def flat(tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    """Gradients, None for 0, as one vector of at least float32; a single 0 where there is no tensor."""
    if not tensors:
        return torch.zeros(1)
    row = torch.cat([(torch.zeros_like(t) if g is None else g).reshape(-1) for t, g in zip(tensors, gradients)])
    return row.float() if row.dtype.itemsize < 4 else row


def split(row: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """`flat` undone, each part in the dtype of its tensor."""
    return [part.view_as(t).to(t.dtype) for part, t in zip(row.split([t.numel() for t in tensors]), tensors)]


def add_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], weight: float = 1.0) -> None:
    """Add weight · gradient to `.grad`; None is 0."""
    for p, g in zip(parameters, gradients):
        if g is not None:
            g = g.to(p.dtype) if weight == 1.0 else weight * g
            p.grad = g if p.grad is None else p.grad + g
