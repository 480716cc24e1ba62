"""Several processes that train one model: who they are, and what they add up. With one process nothing is done.

The only place that talks to torch.distributed. Each process sees a part of every batch; sums over the batch are summed
over the processes, so that losses, gradients and scores are those of one process on the whole batch.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from mtl_course.errors import CourseError


def start(device: torch.device) -> None:
    """Join the processes that torchrun started, if it did.

    Raises:
        CourseError: if the variables of the environment that tell of them do not fit.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            if device.type == "cuda":
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            distributed.init_process_group(backend, timeout=timedelta(minutes=10))
        except (ValueError, KeyError) as error:
            raise CourseError(f"the processes of torchrun are not to be found ({error}): start with torchrun, or "
                              "unset RANK and WORLD_SIZE") from error  # fmt: skip


def stop() -> None:
    """Leave them."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def world() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes files and talks."""
    return rank() == 0


def total(x: Tensor) -> Tensor:
    """x summed over all processes; the gradient reaches this process's own part alone."""
    if world() == 1:
        return x
    everyone = x.detach().clone()
    distributed.all_reduce(everyone)
    return everyone + (x - x.detach())  # the second is 0, so that all processes have the same bits


def first(x: Tensor) -> Tensor:
    """The x of process 0."""
    if world() > 1:
        x = x.detach().clone()
        distributed.broadcast(x, 0)
    return x


def same(model: nn.Module, parameters: bool = True) -> None:
    """Give all processes the parameters and buffers of process 0, or its buffers alone."""
    if world() > 1:
        for tensor in [*(model.parameters() if parameters else []), *model.buffers()]:
            distributed.broadcast(tensor.detach(), 0)


def gather(value: object) -> list:
    """The values of all processes, by rank, in each of them."""
    found = [value] * world()
    if world() > 1:
        distributed.all_gather_object(found, value)
    return found


@contextmanager
def summed(parameters: Iterable[Tensor]) -> Iterator[None]:
    """What this block adds to the gradients is summed over all processes."""
    parameters = list(parameters) if world() > 1 else []
    before = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    yield
    if moved := [p for p in parameters if p.grad is not None]:
        everyone = torch.cat([p.grad.flatten() for p in moved])
        distributed.all_reduce(everyone)
        for p, part in zip(moved, everyone.split([p.numel() for p in moved])):
            p.grad = part.view_as(p)
    for p, grad in zip(parameters, before):
        if grad is not None:
            p.grad = grad if p.grad is None else p.grad + grad
