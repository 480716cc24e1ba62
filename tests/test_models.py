"""Trunks and sharing: shapes, what is shared, and where gradients go."""

import copy

import pytest
import torch

from mtl_course import models, tasks
from mtl_course.errors import CourseError
from mtl_course.losses import losses

TASKS = tasks.make(["semantic", "depth"], ["a", "b", "c"])
SMALL = {"channels": (4, 6, 8)}


def batch(size=(16, 16)):
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(2, 3, *size, generator=generator),
        "semantic": torch.randint(0, 3, (2, *size), generator=generator),
        "depth": torch.rand(2, 1, *size, generator=generator),
    }


def gradients(model, name):
    """Parameters that the loss of one task reaches."""
    model.zero_grad()
    losses(model(batch()["image"]), batch(), TASKS)[name].backward()
    return {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (4, 4)])
@pytest.mark.parametrize("kind", models.sharing.ARCHITECTURES)
def test_predictions_fit_the_picture(kind, size):
    model = models.build(kind, "unet", TASKS, **SMALL)
    predictions = model(torch.rand(2, 3, *size))
    assert {name: tuple(p.shape) for name, p in predictions.items()} == {
        "semantic": (2, 3, *size),
        "depth": (2, 1, *size),
    }


def test_unet_sees_far_and_keeps_the_place():
    """A change of one pixel reaches far away, and a shift of the picture by 2^levels shifts the features."""
    torch.manual_seed(0)
    trunk = models.UNet((4, 6, 8)).eval()
    image = torch.rand(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 32, 32] += 1
    reach = (trunk(image) - trunk(changed)).abs().sum(1)[0].nonzero()
    assert (reach - 32).abs().max() >= 12
    shifted = trunk(image.roll(8, -1))
    torch.testing.assert_close(shifted[..., 20:44, 28:44], trunk(image)[..., 20:44, 20:36], rtol=1e-4, atol=1e-5)


def test_hard_sharing_sends_every_loss_into_the_trunk_and_its_own_head():
    model = models.build("hard", "unet", TASKS, **SMALL)
    trunk = {name for name, _ in model.named_parameters() if name.startswith("trunk.")}
    for name in TASKS:
        reached = gradients(model, name)
        assert trunk <= reached
        assert {key.split(".")[1] for key in reached if key.startswith("heads.")} == {name}
    assert {id(p) for p in model.shared_parameters()} == {id(p) for p in model.trunk.parameters()}


def test_single_task_shares_nothing():
    model = models.build("single", "unet", TASKS, **SMALL)
    assert not gradients(model, "semantic") & gradients(model, "depth")
    assert model.shared_parameters() == []
    with pytest.raises(CourseError, match="pass a function that makes one"):
        models.SingleTask(models.UNet(), TASKS)
    models.SingleTask(models.UNet((4, 6)), tasks.pick(TASKS, ["depth"]))


def test_representation_is_what_the_heads_read():
    model = models.build("hard", "unet", TASKS, **SMALL).eval()
    predictions = model(batch()["image"])
    (features,) = model.representation()
    for name, head in model.heads.items():
        assert torch.equal(head(features), predictions[name])
    assert copy.deepcopy(model).representation() == ()


def test_build_refuses_unknown_names():
    with pytest.raises(CourseError, match="unknown model 'hrad': did you mean 'hard'"):
        models.build("hrad", "unet", TASKS)
    with pytest.raises(CourseError, match="unknown trunk 'unit': did you mean 'unet'"):
        models.build("hard", "unit", TASKS)


def test_unet_skips_carry_a_pixel_past_the_deeper_levels():
    trunk = models.UNet((4, 6, 8)).eval()
    for block in trunk.down[1:]:
        block.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    image = torch.rand(1, 3, 16, 16)
    changed = image.clone()
    changed[..., 5, 6] += 1
    assert (trunk(image) != trunk(changed))[..., 5, 6].any()


def test_unet_keeps_the_largest_of_four():
    seen = []
    trunk = models.UNet((4, 6)).eval()
    trunk.down[0].register_forward_hook(lambda module, args, output: seen.append(output))
    trunk.down[1].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    trunk(torch.rand(1, 3, 8, 8))
    fine, coarse = seen
    assert torch.equal(coarse, fine.reshape(1, 4, 4, 2, 4, 2).amax((3, 5)))


def test_pictures_too_small_for_the_levels_are_refused():
    model = models.UNet((4, 6, 8))
    with pytest.raises(CourseError, match="needs 4 or more pixels a side"):
        model(torch.rand(2, 3, 3, 8))
    with pytest.raises(CourseError, match="needs 8 or more pixels a side"):
        model(torch.rand(1, 3, 4, 4))
    assert model.eval()(torch.rand(1, 3, 4, 4)).shape == (1, 4, 4, 4)
