"""Every gradient rule against the properties that all of them have; a new rule is found through the lists of rules."""

import functools
import inspect
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtl_course.balancing import FURTHER_RULES, GRADIENT_RULES, cagrad, fairgrad, fixed
from mtl_course.balancing.gradient_rules import _surgery

RULES = {name: rule for name, rule in (GRADIENT_RULES | FURTHER_RULES).items() if hasattr(rule, "never_conflicts")}
every_rule = pytest.mark.parametrize("name", sorted(RULES))
quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@st.composite
def jacobians(draw):
    """K = 2..8 gradients of unequal length: dense ones, and small whole numbers full of ties, zeros and opposites."""
    shape = draw(st.integers(2, 8)), draw(st.integers(1, 9))
    if draw(st.booleans()):
        return draw(arrays.arrays(np.float64, shape, elements=st.integers(-2, 2).map(float)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    matrix = rng.standard_normal(shape) * 10 ** rng.uniform(-1.5, 1.5, (shape[0], 1))
    i, j = rng.permutation(shape[0])[:2]
    change = draw(st.sampled_from(["none", "none", "duplicate", "opposite", "collinear", "zero"]))
    factor = {"duplicate": 1.0, "opposite": -1.0, "collinear": 3.7, "zero": 0.0}.get(change)
    if factor is not None:
        matrix[i] = factor * matrix[j]
    return matrix


def call(rule, matrix):
    """α of the Jacobian, NumPy, or None where the rule says that it is not defined there."""
    options = {}
    if "generator" in inspect.signature(rule).parameters:
        options["generator"] = torch.Generator().manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            alpha = rule(torch.as_tensor(matrix @ matrix.T), **options)
    except ValueError as error:
        assert not isinstance(error, np.linalg.LinAlgError) and len(str(error).split()) > 5, repr(error)
        return None
    assert alpha.shape == (len(matrix),) and alpha.dtype == torch.float64 and not alpha.requires_grad
    assert alpha.isfinite().all()
    return alpha.numpy()


def sizes(matrix, alpha):
    """Σ |αᵢ| ‖gᵢ‖, what rounding of d is to be measured by."""
    return np.abs(alpha) @ np.linalg.norm(matrix, axis=1)


def same_step(matrix, alpha, other, tolerance, power=0.0):
    """Whether two α, or none, give the same d; α is of the order of lengths ** -power."""
    if alpha is None or other is None:
        return alpha is other
    usual = 1e-3 * max(np.linalg.norm(matrix, axis=1).max(), 1e-300) ** (1 - power)  # where both d are nearly 0
    return np.linalg.norm((alpha - other) @ matrix) <= tolerance * max(
        sizes(matrix, alpha), sizes(matrix, other), usual
    )


def accuracy(matrix):
    """How many digits a rule can promise: 1e-9, less where the gradients nearly depend on each other."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    values = np.linalg.svd(matrix / np.where(norms > 0, norms, 1), compute_uv=False)
    kept = values[values > 1e-7 * max(values[0], 1e-300)]
    return 1e-9 * (kept[0] / kept[-1]) ** 2 if len(kept) else 1e-9


# --- what holds for every rule


@every_rule
@quick
@given(matrix=jacobians(), seed=st.integers(0, 99))
def test_permuting_the_tasks_permutes_alpha(name, matrix, seed):
    rule, order = RULES[name], np.random.default_rng(seed).permutation(len(matrix))
    if "generator" in inspect.signature(rule).parameters and len(matrix) > 2:
        return  # what it draws is permuted along in the test after this one
    alpha, permuted = call(rule, matrix), call(rule, matrix[order])
    assert same_step(matrix[order], None if alpha is None else alpha[order], permuted, accuracy(matrix), exponent(rule))
    if alpha is not None and np.linalg.matrix_rank(matrix) == len(matrix):  # else several α can give one d
        np.testing.assert_allclose(permuted, alpha[order], rtol=1e-5, atol=1e-7 * np.abs(alpha).max())


@quick
@given(matrix=jacobians(), seed=st.integers(0, 10**6))
def test_pcgrad_permutes_when_its_orders_are_permuted_along(matrix, seed):
    rng, tasks = np.random.default_rng(seed), len(matrix)
    orders, order = [rng.permutation(tasks) for _ in range(tasks)], rng.permutation(tasks)
    place = np.argsort(order)  # task i is now called place[i]
    gramian = matrix @ matrix.T
    permuted = _surgery(gramian[order][:, order], [place[orders[i]] for i in order])
    np.testing.assert_allclose(permuted, _surgery(gramian, orders)[order], rtol=1e-9, atol=1e-9)


@functools.cache
def exponent(rule):
    """p of α(s²G) sᵖ = α(G), measured at one matrix and one s."""
    matrix = np.array([[1.0, 0.2, 0.0], [-0.5, 1.0, 0.1], [0.3, -2.0, 1.0]])
    return np.log(np.abs(call(rule, matrix)).sum() / np.abs(call(rule, 100 * matrix)).sum()) / np.log(100)


@every_rule
@quick
@given(matrix=jacobians(), power=st.sampled_from([-6, -4, -2, -1, 1, 3, 6]))
def test_scaling_the_gradients_scales_alpha_by_one_power(name, matrix, power):
    rule, s = RULES[name], 10.0**power
    p, alpha, scaled = exponent(rule), call(rule, matrix), call(rule, s * matrix)
    assert same_step(matrix, alpha, None if scaled is None else scaled * s**p, accuracy(matrix), p)


def test_the_known_exponents():
    known = dict.fromkeys(["equal", "pcgrad", "mgda", "cagrad", "imtl_g", "aligned", "upgrad", "dual_projection"], 0.0)
    for name, power in (known | {"nash": 1.0, "fairgrad": 4 / 3}).items():  # 2a/(a + 1), a = 2
        assert exponent(RULES[name]) == pytest.approx(power, abs=1e-8), name
    for a in (0.5, 1.0, 5.0):
        assert exponent(functools.partial(fairgrad, a=a)) == pytest.approx(2 * a / (a + 1), abs=1e-8)


@every_rule
@quick
@given(matrix=jacobians())
@example(matrix=np.array([[1.0, 2.0], [0.0, 0.0]]))  # the gradient of a task is zero
def test_it_is_finite_or_says_why_not(name, matrix):
    alpha = call(RULES[name], matrix)
    norms = np.linalg.norm(matrix, axis=1)
    unit = matrix / np.where(norms > 0, norms, 1)[:, None]
    if len(matrix) <= matrix.shape[1] and np.linalg.svd(unit, compute_uv=False)[-1] > 1e-3:
        assert alpha is not None  # every rule is defined where the gradients are independent


@pytest.mark.parametrize("name", sorted(n for n, rule in RULES.items() if rule.never_conflicts))
@quick
@given(matrix=jacobians())
def test_who_promises_it_harms_no_task(name, matrix):
    alpha = call(RULES[name], matrix)
    if alpha is not None:
        gains = matrix @ (alpha @ matrix)
        assert (gains >= -1e-9 * np.linalg.norm(matrix, axis=1) * sizes(matrix, alpha)).all()


def test_four_rules_promise_it():
    promising = {name for name, rule in RULES.items() if rule.never_conflicts}
    assert {"mgda", "nash", "upgrad", "dual_projection"} <= promising
    assert not {"equal", "pcgrad", "cagrad", "imtl_g", "aligned"} & promising


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_alpha_has_the_dtype_and_device_of_the_gramian_and_no_gradient(name, dtype):
    exact = torch.tensor([[1.0, -0.5], [-0.5, 1.25]], dtype=torch.float64)  # exact in each of these dtypes
    alpha = RULES[name](exact.to(dtype).requires_grad_())
    assert alpha.dtype == dtype and alpha.device == exact.device and not alpha.requires_grad
    torch.testing.assert_close(alpha, RULES[name](exact).to(dtype), rtol=0, atol=0)


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_rounding_of_a_short_dtype_is_no_mistake(name, dtype):
    """Three collinear gradients have a Gramian of rank 1, which rounding leaves with a negative eigenvalue."""
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.7, 1.4]], dtype=torch.float64)
    try:
        assert RULES[name]((rows @ rows.T).to(dtype)).isfinite().all()
    except ValueError as error:
        assert "negative" not in str(error) and "symmetric" not in str(error)


GARBAGE = {
    "nan": [[1.0, math.nan], [math.nan, 1.0]],
    "nan on the diagonal": [[math.nan, 0.0], [0.0, 1.0]],
    "infinite": [[math.inf, 0.0], [0.0, 1.0]],
    "not square": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    "a vector": [1.0, 2.0],
    "a scalar": 1.0,
    "empty": np.zeros((0, 0)),
    "asymmetric": [[1.0, 0.5], [-0.5, 1.0]],
    "negative eigenvalue": [[1.0, 2.0], [2.0, 1.0]],
    "negative diagonal": [[-1.0, 0.0], [0.0, 1.0]],
    "small and indefinite": [[1e-12, 2e-12], [2e-12, 1e-12]],
}
INDEFINITE = "negative eigenvalue", "small and indefinite"


@every_rule
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused_in_a_sentence(name, garbage):
    if RULES[name].reads == "nothing" and garbage in ("asymmetric", "negative diagonal") + INDEFINITE:
        return  # it looks at shape and NaN alone
    for dtype in (torch.float64, torch.float32):
        with pytest.raises(ValueError, match=r"\w+ \w+ \w+ \w+") as caught:
            RULES[name](torch.as_tensor(GARBAGE[garbage], dtype=dtype))
        assert not isinstance(caught.value, np.linalg.LinAlgError)


@every_rule
def test_one_task_is_defined_and_goes_down_its_gradient(name):
    for square in (1e-12, 4.0, 1e12):
        alpha = RULES[name](torch.tensor([[square]], dtype=torch.float64))
        assert alpha.shape == (1,) and alpha.isfinite().all() and alpha > 0


# --- where a rule is not defined, and options


@pytest.mark.parametrize("names, rows", [
    (["imtl_g"], [[1, 0], [0, 1], [1, 1]]),
    (["imtl_g"], [[1, 2], [2, 4]]),
    (["nash", "imtl_g", "fairgrad"], [[1, 0], [0, 0]]),
    (["nash", "fairgrad", "imtl_g"], [[1, 0], [-1, 0]]),
    (["nash", "fairgrad"], [[1, 0], [-0.5, 1], [-0.5, -1]]),
    (["aligned", "nash", "imtl_g", "fairgrad"], [[0, 0], [0, 0]]),
])  # fmt: skip
def test_where_a_rule_is_not_defined(names, rows):
    for scale in (1e-6, 1.0, 1e6):
        for name in names:
            assert call(RULES[name], scale * np.array(rows, dtype=float)) is None, (name, scale)


def test_a_length_of_zero_with_a_product_of_rounding_divides_by_nothing():
    gramian = torch.tensor([[4.0, -1e-9], [-1e-9, 0.0]], dtype=torch.float64)
    for name, rule in RULES.items():
        try:
            assert rule(gramian).isfinite().all(), name
        except ValueError as error:
            assert "not defined" in str(error), name


def test_options_are_checked():
    gramian = torch.eye(2)
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="cagrad needs"):
            cagrad(gramian, c=wrong)
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="fairgrad needs"):
            fairgrad(gramian, a=wrong)
    for wrong in ([], [-1, 1], [0, 0], [math.nan, 1], [[1, 2]]):
        with pytest.raises(ValueError, match="loss weights"):
            fixed(wrong)
    assert fixed([1, 0.2])(gramian).tolist() == pytest.approx([1, 0.2])
    with pytest.raises(ValueError, match="2 tasks, and there are 3"):
        fixed([1, 0.2])(torch.eye(3))


# --- a rule that is added is held to all of this

NEW_RULES = '''
import numpy as np
from mtl_course.balancing import gradient_rule

@gradient_rule
def new_and_right(gramian):
    """The inverse lengths."""
    return 1 / np.sqrt(np.diagonal(gramian).clip(np.diagonal(gramian).max() * 1e-20 + 1e-300))

@gradient_rule
def new_absolute_epsilon(gramian):
    return 1 / (np.sqrt(np.diagonal(gramian)) + 1e-3)

@gradient_rule
def new_first_task_only(gramian):
    return np.eye(len(gramian))[0]

@gradient_rule(never_conflicts=True)
def new_false_promise(gramian):
    return np.ones(len(gramian))

@gradient_rule
def new_nan(gramian):
    return 0 / np.diagonal(gramian)
'''


def test_a_rule_that_is_added_is_found_by_these_tests_and_a_wrong_one_fails(tmp_path):
    (tmp_path / "new_rules.py").write_text(NEW_RULES)
    options = ["-p", "new_rules", "-p", "no:cacheprovider", "-q", "-rA", "-k", "new_", "--tb=no", "-x", "--maxfail=99"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-m", "pytest", *options, __file__], env=os.environ | {"PYTHONPATH": path},
                          capture_output=True, text=True)  # fmt: skip
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    assert sum("new_and_right" in line for line in passed) >= 10 and not any("new_and_right" in x for x in failed)
    for rule, test in {
        "new_absolute_epsilon": "test_scaling",
        "new_first_task_only": "test_permuting",
        "new_false_promise": "test_who_promises",
        "new_nan": "test_it_is_finite",
    }.items():
        assert any(rule in line and test in line for line in failed), done.stdout[-3000:]
