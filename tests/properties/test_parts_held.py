"""What holds for loaders, splits, intervals and the multi-task backward pass, whatever is drawn."""

import math
import statistics
from unittest.mock import patch

import pytest
import torch
from drawn import generator, held, seeds
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from mtl_course import records
from mtl_course.balancing import (
    GRADIENT_RULES,
    DynamicAverage,
    Famo,
    RandomWeights,
    SmoothTchebycheff,
    geometric_mean,
    multitask_backward,
)
from mtl_course.balancing.backward import RuleNotDefined
from mtl_course.datasets import loader, loading, split
from mtl_course.datasets.photos import PARTS, part

sizes = st.integers(1, 40)


def batches(n, batch_size, rank, world, train, seed):
    with patch.object(loading, "world", lambda: world), patch.object(loading, "rank", lambda: rank):
        made = loader(TensorDataset(torch.arange(n)), batch_size, train=train, seed=seed)
        found = [batch[0].tolist() for batch in made]
        assert len(found) == len(made)
    return found


@held(60)
@given(sizes, sizes, st.integers(1, 4), seeds)
def test_all_processes_together_score_every_picture_once_in_order(n, batch_size, world, seed):
    assume(batch_size >= world)
    each = [batches(n, batch_size, rank, world, False, seed) for rank in range(world)]
    assert sorted(i for one in each for batch in one for i in batch) == list(range(n))
    if world == 1:
        assert [i for batch in each[0] for i in batch] == list(range(n))
    for step in range(max(map(len, each))):
        together = sorted(i for one in each if step < len(one) for i in one[step])
        assert together == list(range(step * batch_size, min((step + 1) * batch_size, n)))


@held(60)
@given(sizes, sizes, st.integers(1, 4), seeds)
def test_to_learn_each_epoch_has_every_picture_at_most_once_and_equally_many_batches(n, batch_size, world, seed):
    assume(batch_size >= world)
    each = [batches(n, batch_size, rank, world, True, seed) for rank in range(world)]
    seen = [i for one in each for batch in one for i in batch]
    assert len(set(seen)) == len(seen) and set(seen) <= set(range(n))
    assert len({len(one) for one in each}) == 1, "no process waits for another"
    left = n - len(seen)
    assert left < world and (left == 0 or left == n % batch_size)
    assert each == [batches(n, batch_size, rank, world, True, seed) for rank in range(world)]


@held(60)
@given(st.integers(0, 300), seeds, st.floats(0, 1))
def test_a_split_is_two_disjoint_parts_of_all(n, seed, share):
    fit, select = split(n, seed, share)
    assert sorted(fit + select) == list(range(n)) and fit == sorted(fit) and select == sorted(select)
    assert abs(len(fit) - share * n) <= 0.5 and (fit, select) == split(n, seed, share)
    names = [f"p{i}" for i in range(n)]
    parts = [part(names, which) for which in PARTS]
    assert sorted(parts[0] + parts[1]) == sorted(names) and not set(parts[0]) & set(parts[1])


numbers = st.floats(-1e6, 1e6)
repeats = st.lists(numbers, min_size=2, max_size=8)


@held(30)
@given(repeats, st.floats(-1e3, 1e3), st.floats(0.01, 100), st.integers(1, 20))
def test_intervals_move_with_their_numbers(values, shift, scale, comparisons):
    one = records.mean_interval(values, comparisons)
    other = records.mean_interval([scale * v + shift for v in values], comparisons)
    size = max(1.0, *map(abs, values)) * max(scale, 1) + abs(shift)
    assert other["mean"] == pytest.approx(scale * one["mean"] + shift, abs=1e-9 * size)
    assert other["half_width"] == pytest.approx(scale * one["half_width"], abs=1e-7 * size)
    assert one["half_width"] >= records.mean_interval(values)["half_width"] or comparisons == 1
    assert one["mean"] == pytest.approx(statistics.fmean(values)) and one["n"] == len(values)
    there = records.paired_difference(values, [2 * v for v in values])
    back = records.paired_difference([2 * v for v in values], values)
    assert there["mean"] == -back["mean"] and there["half_width"] == back["half_width"]


@held(8)
@given(repeats)
def test_a_bootstrap_interval_lies_within_the_numbers_and_in_any_order(values):
    found = records.bootstrap_interval(values)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= found["low"] <= found["value"] + slack and found["low"] <= found["high"]
    assert found["value"] - slack <= found["high"] <= max(values) + slack


@held(15)
@given(st.dictionaries(st.sampled_from("abc"), repeats, min_size=1))
def test_a_verdict_follows_from_the_lower_ends(gains):
    judged = records.judge(gains, "points")
    shown = [effect["mean"] - effect["half_width"] > 0 for effect in judged["effects"].values()]
    assert judged["verdict"] == ("holds" if all(shown) else "depends" if any(shown) else "fails")


# The backward pass, on a model whose gradients are known: Lᵢ = ‖Aᵢθ + hᵢ - bᵢ‖² / 2.


class Linear(nn.Module):
    """Shared θ, and an own vector hᵢ a task."""

    def __init__(self, count, g):
        super().__init__()
        self.theta = nn.Parameter(torch.randn(5, generator=g, dtype=torch.float64))
        self.heads = nn.ParameterDict({f"t{i}": torch.randn(3, generator=g, dtype=torch.float64) for i in range(count)})
        self.maps = torch.randn(count, 3, 5, generator=g, dtype=torch.float64)

    def shared_parameters(self):
        return [self.theta]

    def losses(self, present):
        rests = {name: self.maps[int(name[1:])] @ self.theta + self.heads[name] for name in present}
        return {name: rest.square().sum() / 2 for name, rest in rests.items()}


@pytest.mark.parametrize("name", sorted(GRADIENT_RULES))
@held(12)
@given(seeds, st.integers(1, 4), st.data())
def test_backward_gives_the_weighted_sum_for_any_part_of_the_tasks(name, seed, count, data):
    model = Linear(count, generator(seed))
    every = list(model.heads)
    present = data.draw(st.lists(st.sampled_from(every), min_size=1, unique=True))
    rests = {t: (model.maps[int(t[1:])] @ model.theta + model.heads[t]).detach() for t in present}
    rows = {t: model.maps[int(t[1:])].T @ rest for t, rest in rests.items()}  # ∂Lᵢ/∂θ by hand
    try:
        alpha = multitask_backward(model.losses(present), model, GRADIENT_RULES[name])
    except RuleNotDefined:
        assert model.theta.grad is None and all(h.grad is None for h in model.heads.values())
        return
    assert alpha.shape == (count,) and alpha.isfinite().all()
    assert all(alpha[i] == 0 for i, t in enumerate(every) if t not in present)
    expected = sum(alpha[every.index(t)] * row for t, row in rows.items())
    torch.testing.assert_close(model.theta.grad, expected, rtol=1e-9, atol=1e-9)
    for i, t in enumerate(every):
        if t not in present:
            assert model.heads[t].grad is None
        else:  # rules that read no gradients weigh the heads too
            own = alpha[i] if GRADIENT_RULES[name].reads == "nothing" else 1
            torch.testing.assert_close(model.heads[t].grad, own * rests[t], rtol=1e-9, atol=1e-9)


RULES = {
    "dynamic_average": DynamicAverage, "random": RandomWeights, "smooth_tchebycheff": SmoothTchebycheff, "famo": Famo,
    "geometric_mean": lambda count: geometric_mean,
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
@held(25)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6), seeds)
def test_weights_from_losses_are_finite_not_negative_and_go_with_their_task(name, values, seed):
    losses = torch.tensor(values, dtype=torch.float64)
    rule = RULES[name](len(values))
    found = (rule.alpha if isinstance(rule, nn.Module) else rule)(losses)
    assert found.shape == losses.shape and found.isfinite().all() and (found >= 0).all() and found.sum() > 0
    if name != "random":
        order = torch.randperm(len(values), generator=generator(seed))
        again = RULES[name](len(values))
        mixed = (again.alpha if isinstance(again, nn.Module) else again)(losses[order])
        torch.testing.assert_close(mixed, found[order])
    assert not math.isnan(float(found.sum()))
