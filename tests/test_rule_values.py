"""Each gradient rule against values worked by hand, the conditions that define it, and an independent solution."""

import functools
import itertools

import numpy as np
import pytest
import torch

from mtl_course import balancing
from mtl_course.balancing import (
    FURTHER_RULES,
    GRADIENT_RULES,
    aligned,
    cagrad,
    dual_projection,
    equal,
    fairgrad,
    imtl_g,
    mgda,
    nash,
    pcgrad,
    upgrad,
)

RULES = {name: rule for name, rule in (GRADIENT_RULES | FURTHER_RULES).items() if hasattr(rule, "never_conflicts")}
WORKED = np.array([[1.0, 0.0], [-0.5, 1.0]])  # the gradients of the worked example
TABLE = {
    "equal": ((1, 1), (0.5, 1)),
    "pcgrad": ((1.5, 1.4), (0.8, 1.4)),
    "mgda": ((7 / 13, 6 / 13), (4 / 13, 6 / 13)),
    "cagrad": ((0.801306, 0.686834), (0.457889, 0.686834)),
    "nash": ((1.344997, 1.203002), (0.743496, 1.203002)),
    "imtl_g": ((0.527864, 0.472136), (0.291796, 0.472136)),
    "aligned": ((0.520757, 0.473415), (0.284049, 0.473415)),
    "upgrad": ((0.75, 0.7), (0.4, 0.7)),
    "dual_projection": ((0.5, 0.5), (0.25, 0.5)),
    "fairgrad": ((1.470635, 1.292055), (0.824608, 1.292055)),
}
FRACTIONS = ("equal", "pcgrad", "mgda", "upgrad", "dual_projection")
FEW = [np.random.default_rng(seed).standard_normal((k, 9)) for seed in range(6) for k in (2, 3, 5, 8)]
MANY = FEW + [matrix * np.logspace(-1, 1, len(matrix))[:, None] for matrix in FEW]  # unequal lengths


def weights(rule, matrix, **options):
    return rule(torch.as_tensor(matrix @ matrix.T), **options).numpy()


def close(found, expected, digits=10):
    np.testing.assert_allclose(found, expected, rtol=10.0**-digits, atol=10.0**-digits * np.abs(expected).max())


def test_every_rule_has_a_worked_value_and_can_be_imported():
    assert set(TABLE) == set(RULES) and set(RULES) <= set(balancing.__all__)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("name", TABLE)
def test_the_worked_example_at_every_scale(name, scale):
    power = {"nash": 1, "fairgrad": 4 / 3}.get(name, 0)
    alpha = weights(RULES[name], scale * WORKED) * scale**power
    for found, expected in zip((alpha, alpha @ WORKED), TABLE[name]):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 if name in FRACTIONS else 5.01e-7)


@pytest.mark.parametrize("name", TABLE)
def test_orthonormal_gradients(name):
    halves = ("mgda", "imtl_g", "aligned", "upgrad", "dual_projection")
    cagrad_each = 0.5 + 0.5 * np.sqrt(0.5) / np.sqrt(2)  # 1/K + c‖g₀‖/‖g₁ + g₂‖
    expected = 0.5 if name in halves else cagrad_each if name == "cagrad" else 1.0
    close(weights(RULES[name], np.eye(2)), np.full(2, expected))


def two(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((2, 3)) * 10 ** rng.uniform(-2, 2, (2, 1))
    return matrix, *(matrix @ matrix.T)[[0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("seed", range(12))
def test_closed_forms_for_two_tasks(seed):
    matrix, a, b, c = two(seed)  # G = [[a, b], [b, c]]
    n1, n2 = np.sqrt([a, c])
    first = np.clip((c - b) / (a + c - 2 * b), 0, 1)
    close(weights(mgda, matrix), np.array([first, 1 - first]))
    surgery = np.array([1 - min(b, 0) / a, 1 - min(b, 0) / c])
    close(weights(pcgrad, matrix), surgery)
    close(weights(upgrad, matrix), surgery / 2)
    close(weights(imtl_g, matrix), np.array([n2, n1]) / (n1 + n2))
    close(weights(nash, matrix), 1 / np.sqrt(1 + b / (n1 * n2)) / np.array([n1, n2]))
    # The mean, plus what lifts the one that it harms up to 0.
    short = np.maximum(-np.array([a + b, b + c]) / 2, 0) / [a, c]
    close(weights(dual_projection, matrix), 0.5 + short)
    area = np.sqrt(a * c - b * b)
    root = (np.array([[a, b], [b, c]]) + np.eye(2) * area) / np.sqrt(a + c + 2 * area)  # G^½
    low = np.linalg.eigvalsh([[a, b], [b, c]])[0]
    np.testing.assert_allclose(weights(aligned, matrix), np.sqrt(low) * np.linalg.inv(root) @ [0.5, 0.5], rtol=1e-8)


@pytest.mark.parametrize("matrix", MANY)
def test_mgda_is_the_shortest_of_the_simplex(matrix):
    alpha, gains = weights(mgda, matrix), matrix @ (weights(mgda, matrix) @ matrix)
    shortest = alpha @ gains  # ‖d‖²
    assert (alpha >= 0).all() and alpha.sum() == pytest.approx(1, abs=1e-12)
    assert (gains >= shortest * (1 - 1e-9)).all()  # so no other is shorter
    close(gains[alpha > 0], np.full((alpha > 0).sum(), shortest), 9)


@pytest.mark.parametrize("corner", [[[1, 0], [3, 1]], [[3, 1], [1, 0]]])
def test_mgda_gives_a_corner_exactly(corner):
    alpha = weights(mgda, np.array(corner, dtype=float))
    assert sorted(alpha.tolist()) == [0.0, 1.0]


@pytest.mark.parametrize("matrix", MANY)
def test_nash_and_fairgrad_solve_their_equation(matrix):
    gramian, alpha = matrix @ matrix.T, weights(nash, matrix)
    assert (alpha > 0).all()
    close(alpha * (gramian @ alpha), np.ones(len(matrix)))
    assert ((alpha @ matrix) ** 2).sum() == pytest.approx(len(matrix), rel=1e-10)
    close(weights(fairgrad, matrix, a=1.0), alpha)
    for a in (0.3, 0.5, 2.0, 10.0):
        alpha = weights(fairgrad, matrix, a=a)
        assert (alpha > 0).all()
        close(gramian @ alpha, alpha ** (-1 / a), 9)


@pytest.mark.parametrize("matrix", MANY)
@pytest.mark.parametrize("c", [0.1, 0.5, 0.9, 1.5])
def test_cagrad_stays_in_its_ball_and_no_step_there_is_better(matrix, c):
    gramian, tasks = matrix @ matrix.T, len(matrix)
    alpha, mean = weights(cagrad, matrix, c=c), matrix.mean(0)
    radius = c * np.linalg.norm(mean)
    assert np.linalg.norm(alpha @ matrix - mean) <= radius * (1 + 1e-9)
    extra = alpha - 1 / tasks
    assert (extra >= -1e-12).all()
    # Weak duality: over the ball, worst gᵢ·d <= g_w·g₀ + c‖g₀‖‖g_w‖ for every w of the simplex. Equal: the best.
    w = extra / extra.sum()
    bound = w @ gramian.mean(1) + radius * np.sqrt(max(w @ gramian @ w, 0))
    size = np.sqrt(np.diagonal(gramian).min()) * np.linalg.norm(mean)
    assert (gramian @ alpha).min() == pytest.approx(bound, rel=1e-8, abs=1e-6 * size)


def test_cagrad_without_a_ball_is_the_mean():
    for matrix in MANY:
        close(weights(cagrad, matrix, c=0.0), np.full(len(matrix), 1 / len(matrix)))


def test_cagrad_of_collinear_gradients_lifts_the_shorter_alone():
    """The w of the paper is the corner of the shorter gradient: d = g₀ + r g₂/‖g₂‖."""
    alpha = weights(cagrad, np.array([[-2.0], [-0.5]]), c=0.5)
    close(alpha, np.array([0.5, 0.5 + 0.5 * 1.25 / 0.5]))


CYCLING = [  # found at random: duplicates and opposites that the exchange of tight tasks once ran in circles for
    ([[0.66, 0.66, 0.56], [-1.19, 1.54, -0.057], [21.3, -8.28, -4.42], [21.3, -8.28, -4.42],
      [-0.46, 0.135, 0.145], [0.283, -0.398, 0.057]], 1.5),
    ([[0.7815658633100256, -2.027000858099879], [-0.0043275242936657, 0.008898982367961054],
      [-0.12044623777129596, 0.026512363182964196], [0.7815658633100256, -2.027000858099879]], 1.5),
    ([[0.01, -0.01, 0.05, 0.01], [2.5, 2.1, -2.75, 2.1], [-2.5, -2.1, 2.75, -2.1], [0.3, -0.4, -5.2, -1.1]], 0.5),
]  # fmt: skip


@pytest.mark.parametrize("rows, c", CYCLING)
def test_cagrad_with_dependent_gradients_ends(rows, c):
    matrix = np.array(rows)
    alpha, mean = weights(cagrad, matrix, c=c), matrix.mean(0)
    assert np.linalg.norm(alpha @ matrix - mean) <= c * np.linalg.norm(mean) * (1 + 1e-9)


def test_cagrad_where_the_mean_is_zero_or_a_task_is():
    close(weights(cagrad, np.array([[1.0, 0], [-1, 0]])), np.array([0.5, 0.5]))
    close(weights(cagrad, np.array([[1.0, 0], [0, 0]])), np.array([0.5, 0.5]))


@pytest.mark.parametrize("matrix", [m for m in MANY if np.linalg.cond(m) < 1e4])
def test_imtl_g_goes_equally_far_along_each(matrix):
    alpha = weights(imtl_g, matrix)
    along = matrix @ (alpha @ matrix) / np.linalg.norm(matrix, axis=1)
    np.testing.assert_allclose(along, along.mean(), rtol=1e-7, atol=1e-9 * np.abs(alpha).max())
    assert alpha.sum() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("matrix", MANY + [np.random.default_rng(3).standard_normal((6, 4))])
def test_aligned_is_the_mean_of_the_nearest_orthogonal_gradients(matrix):
    """From the singular values of J itself: J = UΣVᵀ becomes σ_min UVᵀ."""
    u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
    kept = sigma**2 > 1e-14 * sigma[0] ** 2
    d = sigma[kept].min() * (u[:, kept] @ v[kept]).mean(0)
    np.testing.assert_allclose(weights(aligned, matrix) @ matrix, d, rtol=1e-6, atol=1e-9 * np.abs(d).max())


def project(gramian, low):
    """min vᵀGv over v >= low, by trying every set of entries that stay at their bound."""
    best, shortest = None, np.inf
    for free in itertools.product([False, True], repeat=len(low)):
        free, v = np.array(free), low.astype(float).copy()
        if free.any():
            v[free] = -np.linalg.solve(gramian[free][:, free], gramian[free][:, ~free] @ low[~free])
        if (v >= low - 1e-12).all() and v @ gramian @ v < shortest:
            best, shortest = v, v @ gramian @ v
    return best


@pytest.mark.parametrize("matrix", [m for m in MANY if len(m) < 6])
def test_projections_against_trying_every_case(matrix):
    gramian, tasks = matrix @ matrix.T, len(matrix)
    close(weights(dual_projection, matrix), project(gramian, np.full(tasks, 1 / tasks)), 8)
    close(weights(upgrad, matrix), sum(project(gramian, row) for row in np.eye(tasks) / tasks), 8)


def test_pcgrad_takes_random_orders_and_repeats_them():
    matrix = np.random.default_rng(12).standard_normal((5, 3))
    draws = {tuple(weights(pcgrad, matrix, generator=torch.Generator().manual_seed(s))) for s in range(8)}
    assert len(draws) > 1
    one, two = (weights(pcgrad, matrix, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert (one == two).all()


def test_pcgrad_by_hand_for_three_tasks():
    """Every order by the algorithm on the gradients themselves; what is drawn is one of them."""
    matrix = np.array([[1.0, 0.2, 0], [-1, 0.5, 0.3], [-0.2, -1, 0.4]])
    choices = []
    for i in range(3):
        options = []
        for order in itertools.permutations([j for j in range(3) if j != i]):
            p = matrix[i].copy()
            for j in order:
                p -= min(p @ matrix[j], 0) / (matrix[j] @ matrix[j]) * matrix[j]
            options.append(p)
        choices.append(options)
    possible = {tuple(np.round(sum(ps), 9)) for ps in itertools.product(*choices)}
    generator = torch.Generator().manual_seed(0)
    drawn = {tuple(np.round(weights(pcgrad, matrix, generator=generator) @ matrix, 9)) for _ in range(200)}
    assert drawn == possible and len(possible) > 1


def test_who_can_harm_a_task():
    """Rules without the promise, where they break it."""
    gramian = torch.tensor([[1.0, -9.0], [-9.0, 100.0]], dtype=torch.float64)
    assert (gramian @ aligned(gramian))[0] < 0 < (gramian @ aligned(gramian))[1]
    matrix = np.array([[-1.0, 3, -2], [1, -2, -2], [0, 0, -1]])
    assert (matrix @ (weights(imtl_g, matrix) @ matrix) < 0).all()
    assert weights(equal, WORKED * [[10], [0.1]]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", TABLE)
def test_duplicates_share(name):
    """Two tasks with one gradient get the same, or the rule says that it is not defined."""
    matrix = np.array([[1.0, 0], [1, 0], [-0.5, 1]])
    if name == "imtl_g":
        with pytest.raises(ValueError, match="singular"):
            weights(imtl_g, matrix)
    elif name != "pcgrad":  # whose orders are drawn
        alpha = weights(RULES[name], matrix)
        assert alpha[0] == pytest.approx(alpha[1], rel=1e-9)


def test_options_travel_by_partial():
    matrix = FEW[1]
    assert (weights(functools.partial(cagrad, c=0.3), matrix) == weights(cagrad, matrix, c=0.3)).all()
    assert not np.allclose(weights(cagrad, matrix, c=0.3), weights(cagrad, matrix))


@pytest.mark.parametrize("e", [1e-3, 1e-5, 1e-6])
def test_cagrad_where_the_gradients_are_nearly_opposed(e):
    """g₁ = (1, 0), g₂ = (-1, e), c = ½: d = (ex, ¾e) with both gᵢ·d equal, so α = (¾, ¾) in the limit."""
    matrix = torch.tensor([[1.0, 0.0], [-1.0, e]], dtype=torch.float64)
    torch.testing.assert_close(cagrad(matrix @ matrix.T), torch.tensor([0.75, 0.75]).double(), rtol=2e-3, atol=0)
