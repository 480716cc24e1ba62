"""Every loss ignores what is unknown, stays finite, and gives the values worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from mtl_course import losses, tasks
from mtl_course.errors import CourseError

CLASSES = [losses.cross_entropy, losses.focal, losses.dice]
BINARY = [losses.binary_cross_entropy, losses.binary_dice, losses.boundary_loss]
DENSE = [losses.l1, losses.cosine]
ALL = CLASSES + BINARY + DENSE


def prediction_and_target(loss, seed=0, batch=2, size=6):
    generator = torch.Generator().manual_seed(seed)
    channels = 3 if loss in CLASSES + [losses.cosine] else 1
    prediction = torch.randn(batch, channels, size, size, generator=generator, dtype=torch.float64)
    if loss in DENSE:
        target = torch.randn(batch, channels, size, size, generator=generator, dtype=torch.float64)
        return prediction, F.normalize(target, dim=1) if loss is losses.cosine else target
    return prediction, torch.randint(0, max(channels, 2), (batch, size, size), generator=generator)


def hide(target, where):
    """Mark the pixels `where` (B, H, W) as unknown."""
    if target.is_floating_point():
        return target.masked_fill(where[:, None], math.nan)
    return target.masked_fill(where, losses.IGNORE_INDEX)


@pytest.mark.parametrize("loss", ALL)
def test_no_valid_pixel_gives_zero_with_zero_gradient(loss):
    prediction, target = prediction_and_target(loss)
    prediction.requires_grad_()
    value = loss(prediction, hide(target, torch.ones(2, 6, 6, dtype=torch.bool)))
    value.backward()
    assert value == 0 and (prediction.grad == 0).all()


@pytest.mark.parametrize("loss", ALL)
def test_gradient_equals_finite_differences(loss):
    prediction, target = prediction_and_target(loss, size=3)
    where = torch.zeros(2, 3, 3, dtype=torch.bool)
    where[0, 0] = True
    hidden = hide(target, where)
    assert torch.autograd.gradcheck(lambda p: loss(p, hidden), prediction.requires_grad_())


def test_cross_entropy_agrees_with_torch_and_where_torch_gives_nan():
    logits, masks = prediction_and_target(losses.cross_entropy)
    masks[0, 0] = 255
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    for w in (None, weights):
        expected = F.cross_entropy(logits, masks, w, ignore_index=255)
        torch.testing.assert_close(losses.cross_entropy(logits, masks, w), expected)
    nothing = torch.full_like(masks, 255)
    assert F.cross_entropy(logits, nothing, ignore_index=255).isnan()
    assert losses.cross_entropy(logits, nothing, weights) == 0


def test_a_class_weight_of_zero_for_all_that_is_there_is_refused():
    logits, masks = prediction_and_target(losses.cross_entropy)
    with pytest.raises(CourseError, match="class weight 0"):
        losses.cross_entropy(logits, torch.zeros_like(masks), torch.tensor([0.0, 1, 1], dtype=torch.float64))


def test_focal_with_gamma_zero_is_cross_entropy():
    logits, masks = prediction_and_target(losses.focal)
    torch.testing.assert_close(losses.focal(logits, masks, gamma=0.0), losses.cross_entropy(logits, masks))


def test_focal_worked_by_hand():
    """Two classes at p = 1/4 for the truth: (3/4)² ln 4."""
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1)
    assert losses.focal(logits, torch.zeros(1, 1, 1, dtype=torch.long)).item() == pytest.approx(9 / 16 * math.log(4))


def test_dice_worked_by_hand():
    """Four pixels, half of them class 1, all probabilities ½: both classes overlap 2·1/(2+2) = ½."""
    masks = torch.tensor([[[0, 0, 1, 1]]])
    assert losses.dice(torch.zeros(1, 2, 1, 4), masks).item() == pytest.approx(0.5)
    sure = F.one_hot(masks, 2).movedim(-1, 1) * 50.0
    assert losses.dice(sure, masks).item() == pytest.approx(0, abs=1e-6)
    assert losses.dice(-sure, masks).item() == pytest.approx(1, abs=1e-6)


def test_binary_dice_worked_by_hand():
    """p = ½ on four pixels, two of them true, smooth 1: 1 - (2·1 + 1)/(2 + 2 + 1)."""
    masks = torch.tensor([[[0, 0, 1, 1]]])
    assert losses.binary_dice(torch.zeros(1, 1, 1, 4), masks).item() == pytest.approx(1 - 3 / 5)


def test_boundary_loss_weighs_both_kinds_alike():
    """One boundary pixel among ten, all logits 0: each half weighs the same and the loss is 2·2·(1/10)(9/10) ln 2."""
    masks = torch.zeros(1, 1, 10, dtype=torch.long)
    masks[0, 0, 0] = 1
    logits = torch.zeros(1, 1, 1, 10, requires_grad=True)
    value = losses.boundary_loss(logits, masks)
    value.backward()
    assert value.item() == pytest.approx(4 * 0.1 * 0.9 * math.log(2))
    assert logits.grad[..., 0].sum().item() == pytest.approx(-logits.grad[..., 1:].sum().item())


def test_l1_and_cosine_worked_by_hand():
    target = torch.tensor([[1.0, math.nan, 3.0]]).reshape(1, 1, 1, 3)
    assert losses.l1(torch.zeros(1, 1, 1, 3), target).item() == pytest.approx(2)
    up, right = torch.tensor([0.0, 1, 0]).reshape(1, 3, 1, 1), torch.tensor([5.0, 0, 0]).reshape(1, 3, 1, 1)
    assert losses.cosine(right, up).item() == pytest.approx(1)
    assert losses.cosine(-7 * up, up).item() == pytest.approx(2)


def test_losses_hold_the_tasks_that_are_present():
    three = tasks.make(["semantic", "depth", "foreground"], ["a", "b"])
    predictions = {
        "semantic": torch.zeros(1, 2, 4, 4),
        "depth": torch.zeros(1, 1, 4, 4),
        "foreground": torch.zeros(1, 1, 4, 4),
    }
    batch = {"semantic": torch.zeros(1, 4, 4, dtype=torch.long), "depth": torch.full((1, 1, 4, 4), math.nan)}
    assert list(losses.losses(predictions, batch, three)) == ["semantic"]
    batch["depth"][..., 0, 0] = 2.0
    both = losses.losses(predictions, batch, three)
    assert list(both) == ["semantic", "depth"] and both["depth"] == 2
    assert losses.losses(predictions, {}, three) == {}


def test_losses_refuse_what_does_not_fit():
    one = tasks.make(["foreground"])
    batch = {"foreground": torch.zeros(1, 4, 4, dtype=torch.long)}
    with pytest.raises(CourseError, match=r"needs a prediction \(1, 1, 4, 4\).*is \(1, 2\)"):
        losses.losses({"foreground": torch.zeros(1, 2)}, batch, one)
    with pytest.raises(CourseError, match="did you mean 'forground'"):
        losses.losses({"forground": torch.zeros(1, 1, 4, 4)}, batch, one)


def test_regularisers_worked_by_hand():
    parameters = [torch.tensor([3.0, 4.0])]
    assert losses.l2(parameters, 0.2).item() == pytest.approx(2.5)
    groups = [[torch.tensor([0.0]), torch.tensor([1.0, 1.0])], [torch.tensor([2.0]), torch.tensor([1.0, 3.0])]]
    assert losses.tie(groups, 0.5).item() == pytest.approx(0.25 * (2 + 2))
    assert losses.tie([groups[0], groups[0]], 0.5).item() == 0
    with pytest.raises(CourseError, match="same parameter shapes"):
        losses.tie([[torch.zeros(1)], [torch.zeros(2)]], 1.0)


@pytest.mark.parametrize(("loss", "channels"), [(losses.l1, 2), (losses.cosine, 3)])
def test_a_pixel_with_nan_in_one_channel_is_unknown(loss, channels):
    target = torch.eye(channels)[0].reshape(1, channels, 1, 1).repeat(1, 1, 1, 2)
    target[0, 1, 0, 0] = math.nan
    prediction = torch.cat([torch.full((1, channels, 1, 1), 9.0), target[..., 1:]], -1).requires_grad_()
    value = loss(prediction, target)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6) and (prediction.grad[..., 0] == 0).all()


def test_l1_of_two_channels_is_the_mean_over_both():
    assert losses.l1(torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1)).item() == pytest.approx(2)


def test_class_weights_that_sum_below_one_agree_with_torch():
    logits, masks = torch.randn(1, 3, 1, 3), torch.tensor([[[0, 1, 255]]])
    weights = torch.tensor([0.1, 0.2, 0.3])
    expected = F.cross_entropy(logits, masks, weights, ignore_index=255)
    torch.testing.assert_close(losses.cross_entropy(logits, masks, weights), expected)


def test_dice_leaves_out_a_class_that_is_predicted_and_not_there():
    """All class 0; p = ½ for it and for class 2: 1 - 2·2/(2 + 4), and class 2 does not count."""
    logits = torch.tensor([0.0, -100, 0]).reshape(1, 3, 1, 1).expand(1, 3, 1, 4)
    assert losses.dice(logits, torch.zeros(1, 1, 4, dtype=torch.long)).item() == pytest.approx(1 / 3)


def test_focal_with_a_root_has_a_finite_gradient_at_certainty():
    logits = torch.tensor([100.0, -100]).reshape(1, 2, 1, 1).requires_grad_()
    losses.focal(logits, torch.zeros(1, 1, 1, dtype=torch.long), gamma=0.5).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", [0, 1])
def test_boundary_loss_of_one_kind_alone_is_the_cross_entropy(kind):
    value = losses.boundary_loss(torch.zeros(1, 1, 2, 3), torch.full((1, 2, 3), kind))
    assert value.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (2, 2, 4, 4), (2, 1, 3, 4), (2, 1, 4, 5)])
def test_losses_refuse_predictions_of_another_shape(shape):
    with pytest.raises(CourseError, match=r"needs a prediction \(2, 1, 4, 4\)"):
        batch = {"foreground": torch.zeros(2, 4, 4, dtype=torch.long)}
        losses.losses({"foreground": torch.zeros(shape)}, batch, tasks.make(["foreground"]))
