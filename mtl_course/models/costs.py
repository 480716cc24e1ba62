"""What a model costs: parameters, arithmetic, memory, time. For T tasks in one model against T networks."""

import copy
import time
from collections.abc import Mapping
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Costs = dict[str, dict[str, float]]  # by model, then by quantity


def cost(models: Mapping[str, nn.Module], images: Tensor, repeats: int = 5) -> Costs:
    """What one forward pass and one training step of each model need; the models themselves are left as they are.

    Args:
        models: by name, on the device of the images.
        images: a batch (B, 3, H, W).
        repeats: how often time is taken; the models take turns, so that a busy machine slows all alike. 0: no time.

    Returns:
        A row a model. `parameters`; `flops` of a forward pass (a multiplication and an addition count as two;
        convolutions and matrix products alone are counted); `step_flops` of forward and backward; `activations`, the
        bytes that the forward pass, a loss on each prediction, and Ω where the model has one, keep for the backward
        pass; and, as medians, `seconds` of a forward pass in evaluation mode and `step_seconds` of forward and backward
        in training mode, without the optimizer.
    """
    images = images.clone()  # a slice would count with all that it was cut from
    # Copies, so that gradients, batch statistics and modes stay what they are.
    copies = {name: copy.deepcopy(model).train() for name, model in models.items()}
    rows = {name: _count(model, images) for name, model in copies.items()}
    turns = [[_seconds(m, images, step) for step in (False, True)] for _ in range(repeats) for m in copies.values()]
    for place, row in enumerate(rows.values() if turns else ()):
        row["seconds"], row["step_seconds"] = map(median, zip(*turns[place :: len(rows)]))
    return rows


def ratios(costs: Costs) -> Costs:
    """The costs as multiples of the first model's."""
    first = next(iter(costs.values()))
    return {name: {key: value / first[key] for key, value in row.items()} for name, row in costs.items()}


def _objective(model: nn.Module, images: Tensor) -> Tensor:
    """A stand-in for Σ Lᵢ + Ω whose own cost is small."""
    total = sum(prediction.square().mean() for prediction in model(images).values())
    return total + model.omega() if hasattr(model, "omega") else total


def _count(model: nn.Module, images: Tensor) -> dict[str, float]:
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}  # bytes by storage: two views of one storage need its memory once

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with FlopCounterMode(display=False) as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        objective = _objective(model, images)
    with FlopCounterMode(display=False) as backward:
        objective.backward()
    flops, size = forward.get_total_flops(), sum(p.numel() for p in model.parameters())
    step_flops = flops + backward.get_total_flops()
    return {"parameters": size, "flops": flops, "step_flops": step_flops, "activations": sum(kept.values())}


def _seconds(model: nn.Module, images: Tensor, step: bool) -> float:
    model.train(step).zero_grad()
    images.flatten()[0].item()  # waits for what a GPU still does
    start = time.perf_counter()
    if step:
        _objective(model, images).backward()
    else:
        with torch.inference_mode():
            model(images)
    images.flatten()[0].item()
    return time.perf_counter() - start
