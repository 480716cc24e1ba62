"""Each loss rule against its formula by hand over several steps, its derivative, and its state."""

import io
import math

import pytest
import torch

from mtl_course.balancing import (
    LOSS_RULES,
    DynamicAverage,
    Famo,
    GradNorm,
    RandomWeights,
    SmoothTchebycheff,
    Uncertainty,
    geometric_mean,
    make,
)

MODULES = sorted(name for name, rule in LOSS_RULES.items() if isinstance(rule, type))
LOSSES = torch.tensor([1.0, 4.0], dtype=torch.float64)
SERIES = torch.rand(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1


def close(found, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-12)


def derivative(function, losses):
    values = losses.clone().requires_grad_()
    return torch.autograd.grad(function(values), values)[0]


# --- formulas


def test_geometric_mean_by_hand_and_by_autograd():
    close(geometric_mean(LOSSES), [1.0, 0.25])  # the mean is 2
    for losses in SERIES:
        close(geometric_mean(losses), derivative(lambda v: v.prod() ** (1 / 3), losses))


def test_smooth_tchebycheff_by_hand_and_by_autograd():
    e = math.exp(-3)
    close(SmoothTchebycheff(2).alpha(LOSSES), [e / (1 + e), 1 / (1 + e)])
    weights, ideal, mu = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([0.1, 0.0, 0.05]), 0.3
    rule = SmoothTchebycheff(3, mu, weights.tolist(), ideal.tolist())
    for losses in SERIES:
        formula = lambda v: mu * (weights * (v - ideal) / mu).exp().sum().log()  # noqa: E731
        torch.testing.assert_close(rule.alpha(losses), derivative(formula, losses), rtol=1e-6, atol=1e-8)
    close(SmoothTchebycheff(2, mu=1e-3).alpha(LOSSES), [0.0, 1.0])  # the worst task alone
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="mu > 0"):
            SmoothTchebycheff(2, mu=wrong)


def test_uncertainty_finds_its_optimum():
    rule = Uncertainty(2)
    close(rule.alpha(LOSSES), [0.5, 0.5])
    optimizer = torch.optim.LBFGS(rule.parameters(), max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

    def value():
        optimizer.zero_grad()
        total = rule.alpha(LOSSES) @ LOSSES + rule.penalty([0, 1])
        total.backward()
        return total

    optimizer.step(value)
    torch.testing.assert_close(
        rule.s.detach(), torch.tensor([0.0, 1.386294361], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert value().item() == pytest.approx(0.5 * (1 + 0 + 1 + math.log(4)), abs=1e-9)
    # For the model it is half the gradient of Σ log L.
    torch.testing.assert_close(
        rule.alpha(LOSSES).detach(), derivative(lambda v: v.log().sum(), LOSSES) / 2, atol=1e-6, rtol=0
    )


def test_dynamic_average_moves_once_an_epoch():
    rule = DynamicAverage(2, temperature=2.0)
    epochs = [[[1.0, 8.0], [3.0, 8.0]], [[1.0, 4.0], [1.0, 4.0]], [[0.5, 4.0], [0.3, 4.0]], [[1.0, 1.0]]]
    means = [(2.0, 8.0), (1.0, 4.0), (0.4, 4.0)]
    for number, epoch in enumerate(epochs):
        if number < 2:
            expected = [1.0, 1.0]
        else:
            ratios = [means[number - 1][i] / means[number - 2][i] for i in (0, 1)]
            powers = [math.exp(r / 2) for r in ratios]
            expected = [2 * p / sum(powers) for p in powers]
        for losses in epoch:
            close(rule.alpha(torch.tensor(losses, dtype=torch.float64)), expected)
        rule.after_epoch()
    assert expected[1] > expected[0]  # task 1 stood still
    with pytest.raises(ValueError, match="temperature > 0"):
        DynamicAverage(2, temperature=0.0)


def test_random_weights_are_softmax_of_normals_and_repeat():
    one, two, other = RandomWeights(3, seed=4), RandomWeights(3, seed=4), RandomWeights(3, seed=5)
    draws = torch.stack([one.alpha(SERIES[0]) for _ in range(4000)])
    assert torch.equal(draws[:50], torch.stack([two.alpha(SERIES[0]) for _ in range(50)]))
    assert not torch.equal(draws[0], other.alpha(SERIES[0]))
    close(draws.sum(1), torch.ones(4000))
    gaps = draws.log()[:, :2] - draws.log()[:, 2:]  # z₀ - z₂ and z₁ - z₂: N(0, 2), covariance 1
    covariance = torch.cov(gaps.T)
    expected = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(covariance, expected, atol=0.15, rtol=0)
    assert gaps.mean(0).abs().max() < 0.08
    assert ((gaps.abs() < math.sqrt(2)).double().mean(0) - 0.6827).abs().max() < 0.03


def adam(w, moments, gradient, lr, step):
    """One step of Adam by its formula."""
    m, v = moments
    m[:], v[:] = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    return w - lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)


def test_famo_by_hand():
    rule = Famo(2, lr=0.1, decay=0.01)
    close(rule.alpha(LOSSES), [0.8, 0.2])
    w, moments = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    steps = [(LOSSES, torch.tensor([0.9, 3.9])), (torch.tensor([0.8, 3.0]), torch.tensor([0.8, 2.0]))]
    for number, (before, after) in enumerate(steps, 1):
        z = torch.tensor([math.exp(w[0]), math.exp(w[1])], dtype=torch.float64)
        z /= z.sum()
        share = z / before.double()
        close(rule.alpha(before.double()), share / share.sum())
        gain = before.double().log() - after.double().log()
        jacobian = torch.diag(z) - torch.outer(z, z)
        w = adam(w, moments, jacobian @ gain + 0.01 * w, 0.1, number)
        rule.after_step(after.double())
        close(rule.w, w)
    first = Famo(2)
    first.alpha(LOSSES)
    first.after_step(torch.tensor([0.5, 4.0]))
    assert first.w[1] > first.w[0]  # task 1 did not fall


def test_famo_must_see_a_step_from_its_start():
    with pytest.raises(ValueError, match="before and after a step"):
        Famo(2).after_step(LOSSES)


def test_grad_norm_by_hand_with_a_detached_target():
    rule = GradNorm(3, asymmetry=1.5, lr=0.1)
    w, moments = torch.ones(3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    first = SERIES[0]
    for number, losses in enumerate(SERIES[:4], 1):
        close(rule.alpha(losses), w)
        rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        norms = rows.norm(dim=1)
        weights = w.clone().requires_grad_()
        scaled = weights * norms
        pace = (losses / first) / (losses / first).mean()
        target = (scaled.mean() * pace**1.5).detach()
        (gradient,) = torch.autograd.grad((scaled - target).abs().sum(), weights)
        w = adam(w, moments, gradient, 0.1, number).clamp(min=1e-3)
        w = 3 * w / w.sum()
        rule.observe(losses, rows @ rows.T, range(3))
        close(rule.w, w)
        assert rule.w.sum().item() == pytest.approx(3)


# --- what holds for all of them


def drive(rule, series):
    """α over a little training, with all that a rule may ask for."""
    found = []
    for number, losses in enumerate(series):
        found.append(rule.alpha(losses).detach().clone())
        if isinstance(rule, Uncertainty):
            with torch.no_grad():
                rule.s -= 0.1 * (0.5 - found[-1] * losses)
        rule.observe(losses, torch.diag(losses**2) + 0.1, range(3))
        rule.after_step(losses * torch.tensor([0.9, 0.8, 0.99]))
        if number % 2:
            rule.after_epoch()
    return torch.stack(found)


@pytest.mark.parametrize("name", MODULES)
def test_a_saved_rule_goes_on_bit_for_bit(name):
    whole, begun = make(name, 3), make(name, 3)
    expected = drive(whole, SERIES)
    drive(begun, SERIES[:4])
    file = io.BytesIO()
    torch.save(begun.state_dict(), file)
    file.seek(0)
    resumed = make(name, 3)
    drive(resumed, SERIES[5:7])  # a state of its own, which must go
    resumed.load_state_dict(torch.load(file, weights_only=True))
    found = drive(resumed, SERIES[4:])
    assert torch.equal(found, expected[4:])
    assert name in ("smooth_tchebycheff",) or not torch.equal(expected[4:], drive(make(name, 3), SERIES[4:]))


@pytest.mark.parametrize("name", MODULES)
def test_a_part_of_the_tasks(name):
    rule, alone = make(name, 3), make(name, 2)
    drive(rule, SERIES)
    alpha = rule.alpha(SERIES[0][[0, 2]], [0, 2])
    assert alpha.shape == (2,) and (alpha > 0).all()
    fresh = make(name, 3)
    if name != "random_weights":  # which draws one number a task
        close(fresh.alpha(SERIES[0][[0, 2]], [0, 2]), alone.alpha(SERIES[0][[0, 2]]).detach())
    before = {key: value.clone() for key, value in fresh.state_dict().items() if isinstance(value, torch.Tensor)}
    fresh.observe(SERIES[0][[0, 2]], torch.diag(SERIES[1][[0, 2]]), [0, 2])
    fresh.after_step(SERIES[1][[0, 2]], [0, 2])
    if name == "famo":
        assert fresh.w[1] == before["w"][1] == 0 and (fresh.w[[0, 2]] != 0).all()
    if name == "grad_norm":
        assert fresh.first.isnan().tolist() == [False, True, False] and fresh.w.sum().item() == pytest.approx(3)


@pytest.mark.parametrize("name", sorted(LOSS_RULES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_alpha_has_the_dtype_of_the_losses(name, dtype):
    rule = make(name, 2)
    alpha = (rule.alpha if name in MODULES else rule)(LOSSES.to(dtype))
    assert alpha.dtype == dtype and alpha.shape == (2,) and alpha.isfinite().all()
    assert alpha.requires_grad == (name == "uncertainty")


@pytest.mark.parametrize("name", sorted(LOSS_RULES))
@pytest.mark.parametrize("wrong", [[1.0, math.nan], [1.0, math.inf], [1.0, 2.0, 3.0], [1.0], [], [[1.0, 2.0]]])
def test_wrong_losses_are_refused(name, wrong):
    rule, losses = make(name, 2), torch.tensor(wrong)
    if name == "geometric_mean" and losses.ndim == 1 and len(losses) and losses.isfinite().all():
        return  # it takes any number of tasks
    with pytest.raises(ValueError, match="losses"):
        (rule.alpha if name in MODULES else rule)(losses)


@pytest.mark.parametrize("zero", [0.0, -1.0])
def test_who_takes_logarithms_refuses_zero(zero):
    losses = torch.tensor([1.0, zero])
    for refuse in (geometric_mean, Famo(2).alpha, lambda v: GradNorm(2).observe(v, torch.eye(2), [0, 1])):
        with pytest.raises(ValueError, match="needs losses > 0"):
            refuse(losses)
    famo = Famo(2)
    famo.alpha(LOSSES)
    with pytest.raises(ValueError, match="famo needs losses > 0"):
        famo.after_step(losses)


def test_a_rule_for_no_task_is_refused():
    for name in MODULES:
        with pytest.raises(ValueError, match="K >= 1"):
            make(name, 0)


@pytest.mark.parametrize("wrong", [{"asymmetry": -1.0}, {"lr": 0.0}, {"asymmetry": math.nan}])
def test_options_that_make_no_descent_are_refused(wrong):
    with pytest.raises(ValueError, match="grad_norm needs asymmetry >= 0 and lr > 0"):
        GradNorm(2, **wrong)
