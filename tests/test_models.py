"""Trunks and architectures: shapes, what is shared, and where gradients go."""

import copy
import pickle

import pytest
import torch

from mtl_course import models, tasks
from mtl_course.errors import CourseError
from mtl_course.losses import losses

TASKS = tasks.make(["semantic", "depth"], ["a", "b", "c"])
SMALL = {"channels": (4, 6, 8)}
TRUNKS = {"unet": SMALL, "resnet18": {}}
KINDS = [*models.sharing.ARCHITECTURES, "mixture:gate=pixel"]
WITH_FEATURES = [kind for kind in KINDS if kind not in ("single", "soft")]


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


@pytest.mark.parametrize("trunk, size", [*(("unet", s) for s in [(16, 16), (17, 30), (4, 4)]), ("resnet18", (32, 33))])
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_fit_the_picture(kind, trunk, size):
    model = models.build(kind, trunk, TASKS, **TRUNKS[trunk])
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


def test_a_unet_of_one_level_is_two_convolutions():
    trunk = models.UNet((5,))
    images = batch()["image"]
    assert torch.equal(trunk(images), trunk.down[0](images)) and trunk.out_channels == 5
    models.AttentionSharing(trunk, TASKS)(images)


@pytest.mark.parametrize("kind", WITH_FEATURES)
def test_mixed_precision_gives_finite_predictions_and_gradients(kind):
    model = models.build(kind, "unet", TASKS, **SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        predictions = model(batch()["image"])
    sum(losses({name: p.float() for name, p in predictions.items()}, batch(), TASKS).values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_one_task_alone_works(kind):
    alone = tasks.pick(TASKS, ["depth"])
    model = models.build(kind, "unet", alone, **SMALL)
    assert {name: tuple(p.shape) for name, p in model(batch()["image"]).items()} == {"depth": (2, 1, 16, 16)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_reaches_what_is_shared_and_no_task_what_is_another_s(kind):
    model = models.build(kind, "unet", TASKS, **SMALL)
    names = {id(p): name for name, p in model.named_parameters()}
    shared = {names[id(p)] for p in model.shared_parameters()}
    assert len(shared) == len(model.shared_parameters()) and set(model.heads) == set(TASKS)
    reached = [gradients(model, name) for name in TASKS]
    assert reached[0] & reached[1] - {"alpha"} == shared  # cross-stitch's α: a row a task, see test_sharing
    assert reached[0] | reached[1] == set(names.values())


@pytest.mark.parametrize(
    "kind, trunk",
    [*((kind, "unet") for kind in WITH_FEATURES), ("cross-stitch", "resnet18"), ("attention", "resnet18")],
)
def test_predictions_depend_on_the_shared_parameters_through_the_representation_alone(kind, trunk):
    """The gradient of Σ αᵢ Lᵢ by autograd equals one backward of the shared part with Σ αᵢ ∂Lᵢ/∂z."""
    model = models.build(kind, trunk, TASKS, **TRUNKS[trunk]).double()
    images = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    terms = [p.square().mean() for p in model(images).values()]
    shared, features = model.shared_parameters(), model.representation()
    alpha = torch.rand(len(terms), dtype=torch.float64)
    direct = torch.autograd.grad(alpha @ torch.stack(terms), shared, retain_graph=True)
    pulls = [torch.autograd.grad(term, features, retain_graph=True) for term in terms]
    combined = [sum(a * pull for a, pull in zip(alpha, same)) for same in zip(*pulls)]
    through = torch.autograd.grad(features, shared, combined, retain_graph=True)
    size = max(g.abs().max() for g in direct)
    assert size > 1e-6 and max((a - b).abs().max() for a, b in zip(direct, through)) < 1e-10 * size
    for z in features:  # no tensor depends on another, so that these are partial derivatives
        others = [other for other in features if other is not z]
        assert not others or torch.autograd.grad(z.sum(), others, retain_graph=True, allow_unused=True) == (
            (None,) * len(others)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_starts_without_the_features_of_the_last_pass(kind):
    model = models.build(kind, "unet", TASKS, **SMALL).eval()
    before = model(batch()["image"])
    assert kind not in WITH_FEATURES or model.representation()
    del model.recipe  # leaves nothing that pickle could not take
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert kind not in WITH_FEATURES or other.representation() == ()
        assert all(torch.equal(p, before[name]) for name, p in other(batch()["image"]).items())


@pytest.mark.parametrize(
    "kind, sentence",
    [
        ("soft:strength=-1", "strength must be finite, >= 0, and not -1"),
        ("soft:strength=inf", "strength must be finite"),
        ("soft:strength=nan", "strength must be finite"),
        ("soft:strength=much", "strength is a float, and not 'much'"),
        ("cross-stitch:own=1.5", "own must be finite, >= 0 and <= 1, and not 1.5"),
        ("mixture:experts=0", "experts must be finite, >= 1 and <= 100, and not 0"),
        ("mixture:gate=pixle", "unknown gate 'pixle': did you mean 'pixel'"),
        ("mixture:expert=2", "unknown option of mixture 'expert': did you mean 'experts'"),
        ("hard:strength=1", "'hard' takes no options"),
    ],
)
def test_wrong_options_are_refused(kind, sentence):
    with pytest.raises(CourseError, match=sentence):
        models.build(kind, "unet", TASKS, **SMALL)


def test_options_reach_the_architecture_and_the_trunk():
    model = models.build("mixture:experts=4,gate=pixel", "unet:in_channels=4", TASKS, **SMALL)
    assert len(model.experts) == 4 and model.gates["depth"].pixels
    assert model.experts[0](torch.rand(2, 4, 8, 8)).shape == (2, 4, 8, 8)
    assert model.recipe["trunk_options"] == SMALL | {"in_channels": 4}
    again = models.build(model.recipe["model"], model.recipe["trunk"], TASKS, **model.recipe["trunk_options"])
    again.load_state_dict(model.state_dict())
    assert models.build("soft:strength=0.5", "unet", TASKS, **SMALL).strength == 0.5
    assert isinstance(models.build("cross_stitch", "unet", TASKS, **SMALL), models.CrossStitch)


def test_wrong_trunks_are_refused():
    plain = torch.nn.Conv2d(3, 4, 1)
    plain.out_channels = 4
    for kind in (models.CrossStitch, models.AttentionSharing):
        with pytest.raises(CourseError, match=f"{kind.__name__} shares between stages: derive Conv2d from"):
            kind(lambda: plain, TASKS)
    for kind in (models.CrossStitch, models.Mixture):
        with pytest.raises(CourseError, match=f"{kind.__name__} needs . trunks: pass a function"):
            kind(models.UNet((4, 6)), TASKS)
    for kind in (models.HardSharing, models.SoftSharing, models.AttentionSharing):
        kind(models.UNet((4, 6)), TASKS)


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


def test_the_known_architecture_of_the_shipped_checkpoint_is_unchanged():
    """Names in the state dict of a U-Net and of hard sharing, as files in the world have them."""
    names = list(models.build("hard", "unet", TASKS, **SMALL).state_dict())
    assert names[:2] == ["trunk.down.0.0.0.weight", "trunk.down.0.0.1.weight"]
    assert {"trunk.up.0.0.weight", "trunk.up.1.1.bias", "heads.depth.0.0.weight", "heads.depth.1.bias"} <= set(names)
