"""multitask_backward against J by autograd, a task at a time, and in every circumstance of real training."""

import copy
import functools
import math

import pytest
import torch
from torch import nn

from mtl_course import models, tasks
from mtl_course.balancing import (
    Famo,
    GradNorm,
    Uncertainty,
    cagrad,
    equal,
    fixed,
    geometric_mean,
    mgda,
    multitask_backward,
    nash,
    upgrad,
)
from mtl_course.losses import losses

TASKS = tasks.make(["semantic", "depth", "boundary"], ["a", "b", "c"])
KINDS = ["hard", "cross-stitch:own=0.7", "attention", "mixture:experts=2", "mixture:experts=2,gate=pixel"]
WRT = ("parameters", "representation")
wrts = pytest.mark.parametrize("wrt", WRT)


def build(kind="hard", dtype=torch.float64):
    torch.manual_seed(0)
    return models.build(kind, "unet", TASKS, channels=(4, 6)).to(dtype)


def batch(dtype=torch.float64, seed=1, size=16):
    g = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(2, 3, size, size, generator=g, dtype=dtype),
        "semantic": torch.randint(0, 3, (2, size, size), generator=g),
        "depth": 5 * torch.rand(2, 1, size, size, generator=g, dtype=dtype),
        "boundary": torch.randint(0, 2, (2, size, size), generator=g),
    }


def terms_of(model, data=None):
    data = batch(next(model.parameters()).dtype) if data is None else data
    return losses(model(data["image"]), data, TASKS)


def flat(found, like):
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, like)])


def jacobian(model, wrt="parameters"):
    """J of a copy of the model, (K, P), with each task's gradient of its own parameters."""
    model = copy.deepcopy(model)
    terms = terms_of(model)
    through = list(model.shared_parameters() if wrt == "parameters" else model.representation())
    rows = [torch.autograd.grad(t, through, retain_graph=True, allow_unused=True) for t in terms.values()]
    return torch.stack([flat(row, through) for row in rows])


def gradients(model):
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def shared_names(model):
    shared = {id(p) for p in model.shared_parameters()}
    return [name for name, p in model.named_parameters() if id(p) in shared]


def by_hand(model, alpha):
    """Of shared parameters the gradient of Σ αᵢLᵢ, of the others that of ΣLᵢ: two plain backwards of copies."""
    found = []
    for weights in (alpha, torch.ones_like(alpha)):
        twin = copy.deepcopy(model)
        sum(w * t for w, t in zip(weights.tolist(), terms_of(twin).values())).backward()
        found.append(gradients(twin))
    shared = set(shared_names(model))
    return {name: found[name not in shared][name] for name in found[0]}


def assert_same(found, expected, tolerance=1e-10):
    for name, value in expected.items():
        if value is None or found[name] is None:
            assert (value is None) == (found[name] is None), name
        else:
            torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=name)


@wrts
@pytest.mark.parametrize("rule", [mgda, nash, upgrad, functools.partial(cagrad, c=0.3)])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_j_by_autograd_combined_with_the_alpha_of_its_gramian(kind, rule, wrt):
    model = build(kind)
    matrix = jacobian(model, wrt)
    alpha = rule(matrix @ matrix.T)
    expected = by_hand(model, alpha)
    found = multitask_backward(terms_of(model), model, rule, wrt)
    torch.testing.assert_close(found, alpha, rtol=1e-10, atol=1e-10)
    assert found.dtype == torch.float64 and found.device.type == "cpu" and not found.requires_grad
    assert_same(gradients(model), expected)
    if wrt == "parameters":  # and J itself, row by row
        shared = flat([dict(model.named_parameters())[n].grad for n in shared_names(model)], model.shared_parameters())
        torch.testing.assert_close(shared, alpha @ matrix, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule, weights", [(equal, [1, 1, 1]), (fixed([1, 0.2, 3]), [1, 0.2, 3])])
def test_equal_and_fixed_are_the_gradient_of_the_weighted_sum(rule, weights):
    model = build()
    twin = copy.deepcopy(model)
    sum(w * t for w, t in zip(weights, terms_of(twin).values())).backward()
    assert multitask_backward(terms_of(model), model, rule).tolist() == pytest.approx(weights)
    assert_same(gradients(model), gradients(twin), 1e-14)


def test_a_loss_rule_is_the_gradient_of_its_loss_for_all_parameters():
    model, rule = build(), Uncertainty(3).double()
    twin, s = copy.deepcopy(model), torch.tensor([0.2, -0.4, 1.0], dtype=torch.float64)
    rule.s.data.copy_(s)
    values = torch.stack(list(terms_of(twin).values()))
    (values @ (-s).exp() / 2 + s.sum() / 2).backward()
    alpha = multitask_backward(terms_of(model), model, rule)
    torch.testing.assert_close(alpha, (-s).exp() / 2)
    assert_same(gradients(model), gradients(twin), 1e-12)
    torch.testing.assert_close(rule.s.grad, 0.5 - alpha * values.detach())
    model.zero_grad()
    alpha = multitask_backward(terms_of(model), model, geometric_mean)
    values = torch.stack(list(terms_of(twin).values()))
    twin.zero_grad()
    values.prod().pow(1 / 3).backward()
    assert_same(gradients(model), gradients(twin), 1e-12)


@wrts
def test_grad_norm_weighs_the_heads_too_and_learns_from_the_norms(wrt):
    model, rule, reference = build(), GradNorm(3, lr=0.1), GradNorm(3, lr=0.1)
    rule.w.copy_(torch.tensor([0.5, 1.5, 1.0]))
    reference.w.copy_(rule.w)
    matrix, terms = jacobian(model, wrt), terms_of(model)
    twin = copy.deepcopy(model)
    sum(w * t for w, t in zip([0.5, 1.5, 1.0], terms_of(twin).values())).backward()
    assert multitask_backward(terms, model, rule, wrt).tolist() == [0.5, 1.5, 1.0]
    assert_same(gradients(model), gradients(twin))
    reference.observe(torch.stack(list(terms.values())), matrix @ matrix.T, range(3))
    torch.testing.assert_close(rule.w, reference.w)


@wrts
def test_it_adds_to_what_is_there(wrt):
    model = build()
    multitask_backward(terms_of(model), model, mgda, wrt)
    once = gradients(model)
    multitask_backward(terms_of(model), model, mgda, wrt)
    assert_same(gradients(model), {name: 2 * g for name, g in once.items()}, 1e-12)


@wrts
@pytest.mark.parametrize("rule", ["raises", "nan"])
def test_nothing_is_written_where_the_rule_raises(wrt, rule):
    def undefined(gramian):
        raise ValueError("not defined here")

    model = build()
    terms = terms_of(model)
    if rule == "nan":
        terms["depth"] = terms["depth"] * math.nan
    with pytest.raises(ValueError, match="not finite" if rule == "nan" else "not defined here"):
        multitask_backward(terms, model, mgda if rule == "nan" else undefined, wrt)
    assert all(p.grad is None for p in model.parameters())


@wrts
@pytest.mark.parametrize("rule", [mgda, equal, fixed([1, 2, 3]), Uncertainty(3), GradNorm(3), Famo(3)])
def test_a_task_without_labels_gets_alpha_zero_and_its_head_no_gradient(rule, wrt):
    model, data = build(), batch()
    data["depth"] = torch.full_like(data["depth"], math.nan)
    alpha = multitask_backward(terms_of(model, data), model, rule, wrt)
    assert alpha.shape == (3,) and alpha[1] == 0 and (alpha[[0, 2]] > 0).all()
    assert all(p.grad is None for p in model.heads["depth"].parameters())
    assert all(p.grad is not None for p in model.heads["boundary"].parameters())
    model.zero_grad()
    one = {"boundary": terms_of(model)["boundary"]}
    if not isinstance(rule, GradNorm):
        assert (multitask_backward(one, model, rule, wrt) > 0).tolist() == [False, False, True]
    assert multitask_backward({}, model, rule, wrt).tolist() == [0, 0, 0]


@wrts
def test_a_list_of_losses_and_a_plain_model(wrt):
    model = build()
    twin = copy.deepcopy(model)
    alpha = multitask_backward(terms_of(model), model, mgda, wrt)
    other = multitask_backward(list(terms_of(twin).values()), twin, mgda, wrt)
    assert (alpha == other).all()
    assert_same(gradients(twin), gradients(model), 0.0)


@wrts
@pytest.mark.parametrize("frozen", ["trunk.down", "trunk", "heads.depth", "heads"])
def test_frozen_parts_keep_out(frozen, wrt):
    model = build()
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(frozen))
    alpha = multitask_backward(terms_of(model), model, mgda, wrt)
    assert alpha.sum() == pytest.approx(1)
    for name, p in model.named_parameters():
        assert (p.grad is None) == name.startswith(frozen), name
    expected = by_hand(model, alpha)
    assert_same(gradients(model), expected)


@wrts
def test_batch_statistics_move_once(wrt):
    model = build()
    twin = copy.deepcopy(model)
    twin(batch()["image"])
    multitask_backward(terms_of(model), model, nash, wrt)
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_mistakes_are_told():
    model = build()
    with pytest.raises(ValueError, match="'parameters' or 'representation', and not 'heads'"):
        multitask_backward(terms_of(model), model, mgda, "heads")
    constant = terms_of(model) | {"depth": torch.tensor(1.0)}
    with pytest.raises(ValueError, match="the loss of 'depth' is no scalar that depends on a trained parameter"):
        multitask_backward(constant, model, mgda)
    for kind in ("soft", "single"):
        unshared = build(kind)
        for wrt in WRT:
            with pytest.raises(ValueError, match="shares no parameters"):
                multitask_backward(terms_of(unshared), unshared, mgda, wrt)
        assert multitask_backward(terms_of(unshared), unshared, equal).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="heads read in the last forward pass"):
        multitask_backward(terms_of(model), copy.deepcopy(model), mgda, "representation")
    with pytest.raises(ValueError, match="is no scalar"):
        multitask_backward({name: loss[None] for name, loss in terms_of(model).items()}, model, mgda)
    for wrong in ("mgda", Uncertainty):
        with pytest.raises(ValueError, match="a rule is a function or an object"):
            multitask_backward(terms_of(model), model, wrong)
    with pytest.raises(ValueError, match="Uncertainty is for 5 tasks"):
        multitask_backward(terms_of(model), model, Uncertainty(5))


@wrts
def test_alpha_is_in_the_order_of_tasks_whatever_the_order_of_the_heads(wrt):
    model, weights = build(), dict(zip(TASKS, (1.0, 2.0, 3.0)))
    plain = copy.deepcopy(model)
    order = list(TASKS)[::-1]
    rule = fixed([weights[name] for name in order])
    alpha = multitask_backward(terms_of(model), model, rule, wrt, tasks=order)
    assert alpha.tolist() == [weights[name] for name in order]
    multitask_backward(terms_of(plain), plain, fixed(list(weights.values())), wrt)
    assert_same(gradients(model), gradients(plain), 1e-12)


@pytest.mark.parametrize("rule", [equal, mgda, geometric_mean])
def test_a_model_without_heads_is_told_the_tasks(rule):
    """Two losses on one prediction of a model of one's own, the second absent."""

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.out = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

        def shared_parameters(self):
            return list(self.trunk.parameters())

    own, x = Own(), torch.ones(5, 3)
    loss = own.out(own.trunk(x)).square().mean()
    alpha = multitask_backward({"b": loss}, own, rule, tasks=["a", "b"])
    assert alpha[0] == 0 and alpha[1] > 0 and own.trunk.weight.grad is not None


def test_a_plain_function_of_the_gramian_is_a_rule():
    model, matrix = build(), jacobian(build())
    seen = []

    def mine(gramian):
        seen.append(gramian)
        return torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)

    assert multitask_backward(terms_of(model), model, mine).tolist() == [0.1, 0.2, 0.3]
    torch.testing.assert_close(seen[0], matrix @ matrix.T, rtol=1e-10, atol=1e-10)


@wrts
@pytest.mark.parametrize("answer", [[1.0, 2.0], [1.0, 2.0, math.nan], 1.0])
def test_an_answer_that_is_no_alpha_is_refused(wrt, answer):
    model = build()
    with pytest.raises(ValueError, match="a rule gives 3 finite weights"):
        multitask_backward(terms_of(model), model, lambda gramian: torch.tensor(answer), wrt)
    assert all(p.grad is None for p in model.parameters())


def test_bfloat16_parameters_are_summed_in_more_digits():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))

        def shared_parameters(self):
            return [self.w]

    model, seen = Two(), []
    multitask_backward([model.w.sum(), (2 * model.w).sum()], model, lambda g: seen.append(g) or torch.ones(2))
    assert seen[0].tolist() == [[4096, 8192], [8192, 16384]] and (model.w.grad == 3).all()


def penalised(model):
    terms = terms_of(model)
    terms["depth"] = terms["depth"] + 10 * sum(p.square().sum() for p in model.shared_parameters())
    return terms


def two_forwards(model):
    """A batch for some tasks, another for the rest."""
    early, late = terms_of(model), terms_of(model, {k: v.flip(0) for k, v in batch().items()})
    return early | {"depth": late["depth"]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("losses_of", [penalised, two_forwards])
def test_what_reaches_the_shared_part_past_the_representation_is_not_lost(kind, losses_of):
    model = build(kind)
    plain = copy.deepcopy(model)

    def ones(gramian):
        return torch.ones(len(gramian), dtype=torch.float64)

    multitask_backward(losses_of(model), model, ones)
    sum(losses_of(plain).values()).backward()
    assert_same(gradients(model), gradients(plain), 1e-9)
    with pytest.raises(ValueError, match="must reach what is shared through"):
        multitask_backward(losses_of(model), model, ones, "representation")


def test_tasks_that_do_not_fit_the_losses_are_refused():
    model = build()
    for wrong in (["semantics", "depth", "boundary"], ["semantic", "depth"]):
        with pytest.raises(ValueError, match="name all tasks"):
            multitask_backward(terms_of(model), model, mgda, tasks=wrong)
    extra = terms_of(model)
    with pytest.raises(ValueError, match="name all tasks"):
        multitask_backward(extra | {"more": extra["depth"] * 2}, model, mgda)


@wrts
def test_a_scale_that_was_too_high_gives_no_alpha_and_a_skipped_step(wrt):
    """float16's scaler begins high: the Gramian then is not finite, which is no fault of the losses."""
    model, scaler = build(dtype=torch.float32), torch.amp.GradScaler("cpu", init_scale=2.0**126)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    inputs = batch(torch.float32)
    terms = {name: 1e4 * loss for name, loss in losses(model(inputs["image"]), inputs, TASKS).items()}
    alpha = multitask_backward(terms, model, mgda, wrt, scaler)
    assert alpha.isnan().all()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 2.0**126
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if "running" not in name
               and "num_batches" not in name)  # fmt: skip
