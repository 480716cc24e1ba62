"""multitask_backward under mixed precision and compilation, and its cost: passes, FLOPs, copies from the device."""

import copy
import functools
import math

import pytest
import torch
from test_backward import TASKS, WRT, assert_same, batch, build, gradients, shared_names, terms_of, wrts
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from mtl_course import models
from mtl_course.balancing import (
    LOSS_RULES,
    Uncertainty,
    equal,
    fairgrad,
    fixed,
    geometric_mean,
    gramian_of,
    make,
    mgda,
    multitask_backward,
    nash,
    pcgrad,
)
from mtl_course.balancing.flat import CHUNK
from mtl_course.losses import losses

ONE_BACKWARD = [equal, fixed([1, 2, 3]), *(n for n in LOSS_RULES if n != "grad_norm")]


def autocast_terms(model, dtype, data=None):
    data = data or batch(torch.float32)
    with torch.autocast("cpu", dtype):
        predictions = model(data["image"])
    return losses({name: p.float() for name, p in predictions.items()}, data, TASKS)


def rule_of(rule):
    return make(rule, 3) if isinstance(rule, str) else rule


# --- mixed precision


@wrts
def test_bfloat16_autocast_is_near_full_precision(wrt):
    model = build(dtype=torch.float32)
    full = copy.deepcopy(model)
    alpha = multitask_backward(autocast_terms(model, torch.bfloat16), model, mgda, wrt)
    expected = multitask_backward(terms_of(full), full, mgda, wrt)
    torch.testing.assert_close(alpha, expected, rtol=0.1, atol=0.05)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@wrts
@pytest.mark.parametrize("rule", [mgda, nash, fairgrad, equal, geometric_mean])
@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_the_rule_sees_unscaled_gradients_and_grad_stays_scaled(rule, wrt, scale):
    model = build(dtype=torch.float32)
    plain, scaler = copy.deepcopy(model), torch.amp.GradScaler("cpu", init_scale=scale)
    alpha = multitask_backward(terms_of(model), model, rule, wrt, scaler)
    torch.testing.assert_close(alpha, multitask_backward(terms_of(plain), plain, rule, wrt), rtol=1e-5, atol=1e-6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler.unscale_(optimizer)
    assert_same(gradients(model), gradients(plain), 2e-5)


def test_what_a_rule_learns_by_the_optimizer_is_scaled_like_the_model():
    model, rule, plain = build(dtype=torch.float32), Uncertainty(3), Uncertainty(3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    optimizer = torch.optim.SGD([*model.parameters(), *rule.parameters()], lr=0.1)
    multitask_backward(terms_of(copy.deepcopy(model)), model, plain)
    multitask_backward(terms_of(model), model, rule, scaler=scaler)
    scaler.unscale_(optimizer)
    torch.testing.assert_close(rule.s.grad, plain.s.grad, rtol=1e-5, atol=1e-8)


@wrts
def test_float16_overflow_gives_nan_and_the_scaler_goes_down_and_moves_nothing(wrt):
    model = build(dtype=torch.float32)
    before = copy.deepcopy(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    alpha = multitask_backward(autocast_terms(model, torch.float16), model, nash, wrt, scaler)
    assert alpha.isnan().all()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 2.0**60
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name


@pytest.mark.parametrize("rule", [nash, fairgrad])
def test_float16_steps_have_the_length_of_full_precision(rule):
    model = build(dtype=torch.float32)
    full, scaler = copy.deepcopy(model), torch.amp.GradScaler("cpu", init_scale=2.0**12)
    multitask_backward(autocast_terms(model, torch.float16), model, rule, scaler=scaler)
    multitask_backward(terms_of(full), full, rule)
    scaler.unscale_(torch.optim.SGD(model.parameters(), lr=0.1))
    long = [math.sqrt(sum(gradients(m)[n].square().sum() for n in shared_names(m))) for m in (model, full)]
    assert long[0] == pytest.approx(long[1], rel=0.1)
    if rule is nash:
        assert long[0] == pytest.approx(math.sqrt(3), rel=1e-2)


# --- torch.compile


@wrts
@pytest.mark.parametrize("part", ["trunk", "heads", "both"])
def test_compiled_parts(part, wrt):
    torch._dynamo.reset()
    model = build(dtype=torch.float32)
    plain = copy.deepcopy(model)
    for module in [model.trunk] * (part != "heads") + [*model.heads.values()] * (part != "trunk"):
        module.compile(backend="aot_eager")
    alpha = multitask_backward(terms_of(model), model, mgda, wrt)
    torch.testing.assert_close(alpha, multitask_backward(terms_of(plain), plain, mgda, wrt), rtol=1e-4, atol=1e-5)
    assert_same(gradients(model), gradients(plain), 1e-4)


def test_a_model_compiled_whole_has_parameters_to_balance_and_no_representation():
    torch._dynamo.reset()
    model = build(dtype=torch.float32)
    plain = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager")
    alpha = multitask_backward(terms_of(compiled), compiled, mgda)
    torch.testing.assert_close(alpha, multitask_backward(terms_of(plain), plain, mgda), rtol=1e-4, atol=1e-5)
    assert_same(gradients(model), gradients(plain), 1e-4)
    with pytest.raises(ValueError, match="compile model.trunk and model.heads"):
        multitask_backward(terms_of(compiled), compiled, mgda, "representation")


# --- what it costs


def passes(model, rule, wrt):
    """How often a gradient arrives at the first convolution of the trunk, and at the one of a head."""
    count = {"trunk": 0, "heads": 0}

    def counted(part):
        def hook(module, inputs, output):
            output.register_hook(lambda g: count.update({part: count[part] + 1}))

        return hook

    for part, module in (("trunk", model.trunk.down[0][0][0]), ("heads", model.heads["depth"][1])):
        module.register_forward_hook(counted(part))
    multitask_backward(terms_of(model), model, rule, wrt)
    return count


@wrts
@pytest.mark.parametrize("rule", ONE_BACKWARD)
def test_rules_that_read_no_gradient_cost_one_backward(rule, wrt):
    assert passes(build(), rule_of(rule), wrt) == {"trunk": 1, "heads": 1}


@pytest.mark.parametrize("rule", [mgda, functools.partial(pcgrad), "grad_norm"])
def test_gradient_rules_cost_a_backward_a_task_or_one(rule):
    assert passes(build(), rule_of(rule), "parameters") == {"trunk": 3, "heads": 1}
    assert passes(build(), rule_of(rule), "representation") == {"trunk": 1, "heads": 1}


def test_flops_of_a_step():
    """Forward and backward of the U-Net of the course with three heads of 3×3 and 1×1, against equal weights.

    On pictures of 64×64; the K²P of the Gramian do not grow with the picture, and on 16×16 they are 2 to 5 % more.
    """
    data, counts = batch(torch.float32, size=64), {}
    for name, rule, wrt in [("equal", equal, WRT[0]), *((wrt, nash, wrt) for wrt in WRT)]:
        torch.manual_seed(0)
        model = models.build("hard", "unet", TASKS)
        with FlopCounterMode(display=False) as counter:
            multitask_backward(terms_of(model, data), model, rule, wrt)
        counts[name] = counter.get_total_flops()
    ratios = {wrt: counts[wrt] / counts["equal"] for wrt in WRT}
    print({wrt: round(ratio, 4) for wrt, ratio in ratios.items()})
    assert ratios["parameters"] <= 2.1 and ratios["representation"] <= 1.01


class Copies(TorchFunctionMode):
    """Counts what would wait for a GPU: reading values of a tensor that would live there.

    What a copy gave (`cpu`) lives on the host from then on, and so does what is made of it or made on the CPU by rules;
    so the rule, which gets such tensors, is left out of the count by `host`.
    """

    waits = {"cpu", "numpy", "tolist", "item", "__float__", "__bool__", "__int__", "nonzero", "to"}

    def __init__(self):
        super().__init__()
        self.host, self.found = [], []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name, first = getattr(function, "__name__", ""), args[0] if args else None
        tensors = [t for a in args for t in (a if isinstance(a, list | tuple) else [a]) if isinstance(t, torch.Tensor)]
        on_host = bool(tensors) and all(any(t is h for h in self.host) for t in tensors)
        moved = name != "to" or any(a == torch.device("cpu") or a == "cpu" for a in args[1:])
        if name in self.waits and isinstance(first, torch.Tensor) and not on_host and moved:
            self.found.append(name)
        if (name == "cpu" or on_host) and isinstance(result, torch.Tensor):
            self.host.append(result)
        elif on_host and isinstance(result, list | tuple):
            self.host += [t for t in result if isinstance(t, torch.Tensor)]
        return result


def on_gpu_or_pretended(rule, wrt):
    """Copies from the device in one step: errors of torch's own on a GPU, counted calls elsewhere."""
    model = build(dtype=torch.float32)
    terms = terms_of(model)
    with Copies() as copies:

        def counted(gramian, *rest):  # the rule works on the host
            assert any(gramian is h for h in copies.host)
            with torch._C.DisableTorchFunction():
                alpha = rule(gramian)
            copies.host.append(alpha)
            return alpha

        counted.reads = getattr(rule, "reads", "gramian")
        multitask_backward(terms, model, counted if counted.reads == "gramian" else rule, wrt)
    return copies.found


@wrts
@pytest.mark.parametrize("rule", [mgda, nash, pcgrad])
def test_one_copy_from_the_device_a_step(rule, wrt):
    assert on_gpu_or_pretended(rule, wrt) == ["cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="counts the waits of a GPU, and there is none")
@wrts
@pytest.mark.parametrize("rule", [mgda, nash, equal, geometric_mean, "famo", "grad_norm"])
def test_one_wait_for_the_gpu_a_step(rule, wrt):
    model = build(dtype=torch.float32).cuda()
    data = {name: value.cuda() for name, value in batch(torch.float32).items()}
    terms, waits = terms_of(model, data), []
    torch.cuda.set_sync_debug_mode("warn")
    try:
        import warnings

        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            multitask_backward(terms, model, rule_of(rule), wrt)
        waits = [str(w.message) for w in found if "synchronizing" in str(w.message)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= 1, waits


def test_the_gramian_is_summed_in_chunks_without_a_copy_of_the_gradients():
    rows = [torch.randn(CHUNK * 2 + 17) for _ in range(2)]
    matrix = torch.stack(rows).double()
    torch.testing.assert_close(gramian_of(rows), matrix @ matrix.T, rtol=1e-12, atol=1e-9)
