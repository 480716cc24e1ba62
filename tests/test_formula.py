"""f(x) = Σ αᵢ gᵢ(x), against loops and linear algebra."""

import pytest
import torch
from torch import nn

from mtl_course import formula
from mtl_course.errors import CourseError

OUTPUTS = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))  # (N, B, C, H, W)


def parts(n=3):
    torch.manual_seed(1)
    return [nn.Conv2d(3, 2, 1) for _ in range(n)]


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 5, 6)])
def test_mix_equals_the_loop(shape):
    alpha = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    everywhere = alpha.reshape(*shape, *[1] * (4 - len(shape))).expand(3, 2, 5, 6)
    for b in range(2):
        for c in range(4):
            expected = sum(everywhere[i, b] * OUTPUTS[i, b, c] for i in range(3))
            torch.testing.assert_close(formula.mix(alpha, OUTPUTS)[b, c], expected)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (3, 2, 6, 5), ()])
def test_mix_refuses_other_shapes(shape):
    with pytest.raises(CourseError, match="alpha has shape"):
        formula.mix(torch.zeros(shape), OUTPUTS)


def test_vector_mix_starts_as_the_mean_and_learns_alpha():
    images = torch.randn(2, 3, 4, 4)
    model = formula.VectorMix(parts())
    torch.testing.assert_close(model(images), formula.evaluate_parts(model.parts, images).mean(0))
    model(images).sum().backward()
    expected = formula.evaluate_parts(model.parts, images).sum((1, 2, 3, 4))
    torch.testing.assert_close(model.alpha.grad, expected)  # df/dαᵢ = gᵢ
    assert not formula.VectorMix(parts(), [1, 2, 3], learn=False).alpha.requires_grad


def test_matrix_mix_shares_parts_and_has_a_row_a_task():
    images = torch.randn(2, 3, 4, 4)
    model = formula.MatrixMix(parts(), ["a", "b"])
    with torch.no_grad():
        model.alpha.copy_(torch.tensor([[1.0, 0, 0], [0, 2.0, -1.0]]))
    outputs = model(images)
    torch.testing.assert_close(outputs["a"], model.parts[0](images))
    torch.testing.assert_close(outputs["b"], 2 * model.parts[1](images) - model.parts[2](images))


@pytest.mark.parametrize("per_pixel", [False, True])
def test_gated_mix_weights_sum_to_one_and_follow_the_gate(per_pixel):
    gate = nn.Conv2d(3, 3, 1) if per_pixel else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    model = formula.GatedMix(parts(), gate)
    images = torch.randn(2, 3, 4, 4)
    alpha = model.alpha(images)
    assert alpha.shape == ((3, 2, 4, 4) if per_pixel else (3, 2))
    torch.testing.assert_close(alpha.sum(0), torch.ones_like(alpha[0]))
    torch.testing.assert_close(model(images), formula.mix(alpha, formula.evaluate_parts(model.parts, images)))


def test_matrix_mix_starts_as_the_mean_of_the_parts():
    images = torch.randn(2, 3, 4, 4)
    model = formula.MatrixMix(parts(3), ["a", "b"])
    torch.testing.assert_close(model(images)["b"], formula.evaluate_parts(model.parts, images).mean(0))
