"""Each architecture against its formula, its limits, and a day of training and keeping."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mtl_course import models, tasks, training
from mtl_course.errors import CourseError
from mtl_course.losses import losses

TASKS = tasks.make(["semantic", "depth"], ["a", "b", "c"])
KINDS = ["single", "hard", "soft:strength=0.1", "cross-stitch:own=0.7", "attention", "mixture:experts=2,gate=pixel"]


def small():
    return models.UNet((4, 6))


def samples(count=2, size=16):
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "image": torch.rand(3, size, size, generator=generator),
            "semantic": torch.randint(0, 3, (size, size), generator=generator),
            "depth": torch.rand(1, size, size, generator=generator),
        }
        for _ in range(count)
    ]


def batch():
    return next(iter(DataLoader(samples(), 2)))


IMAGES = batch()["image"]


# --- each formula by hand


def test_cross_stitch_that_keeps_its_own_equals_single_networks():
    stitched, single = models.CrossStitch(small, TASKS, own=1), models.SingleTask(small, TASKS)
    for own, name in zip(stitched.trunks, TASKS):
        single.trunks[name].load_state_dict(own.state_dict())
    single.heads.load_state_dict(stitched.heads.state_dict())
    for name, prediction in single(IMAGES).items():
        assert torch.equal(stitched(IMAGES)[name], prediction)


def test_cross_stitch_by_hand():
    """With every mix another matrix, in the order: stage 0, stage 1, decoded features; row t makes what task t gets."""
    model = models.CrossStitch(small, TASKS).eval()
    matrices = torch.randn(3, 2, 2)
    for parameter, value in zip([*model.stitches, model.alpha], matrices, strict=True):
        parameter.data.copy_(value)
    a, b = model.trunks

    def stitch(matrix, x, y):
        return [row[0] * x + row[1] * y for row in matrix]

    fine = stitch(matrices[0], a.stage(0, IMAGES), b.stage(0, IMAGES))
    coarse = stitch(matrices[1], a.stage(1, fine[0]), b.stage(1, fine[1]))
    decoded = [t.decode([f, c], (16, 16))[-1] for t, f, c in zip((a, b), fine, coarse)]
    answers = model(IMAGES)
    for name, features in zip(TASKS, stitch(matrices[2], *decoded)):
        torch.testing.assert_close(answers[name], model.heads[name](features))
    for own, z in zip(decoded, model.representation(), strict=True):
        torch.testing.assert_close(own, z)


@pytest.mark.parametrize("names", [["depth"], ["depth", "normals"], ["depth", "normals", "boundary"]])
def test_cross_stitch_starts_with_rows_that_sum_to_one(names):
    model = models.CrossStitch(small, tasks.make(names), own=0.7)
    for matrix in [*model.stitches, model.alpha]:
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(names)))
        torch.testing.assert_close(matrix.diagonal(), torch.full((len(names),), 0.7 if len(names) > 1 else 1.0))
        assert (matrix > 0).all()
    assert model.alpha is not model.stitches[0] and model.alpha.data_ptr() != model.stitches[0].data_ptr()


def test_the_last_mix_of_cross_stitch_has_a_row_a_task():
    model = models.CrossStitch(small, TASKS)
    assert not {id(model.alpha)} & {id(p) for p in model.shared_parameters()}
    for row, name in enumerate(TASKS):
        (gradient,) = torch.autograd.grad(model(IMAGES)[name].square().mean(), model.alpha)
        assert (gradient[row] != 0).all() and (gradient[1 - row] == 0).all()


@pytest.mark.parametrize("gate, shape", [("picture", (3, 2)), ("pixel", (3, 2, 16, 16))])
def test_mixture_is_its_formula_to_the_letter(gate, shape):
    model = models.Mixture(small, TASKS, gate=gate).eval()
    for own in model.gates.values():
        nn.init.normal_(own.scores[-1].weight)  # gates far from uniform
    alpha, answers = model.alpha(IMAGES), model(IMAGES)
    assert not torch.allclose(alpha["semantic"], alpha["depth"])
    for name in TASKS:
        assert alpha[name].shape == shape and (alpha[name] > 0).all()
        torch.testing.assert_close(alpha[name].sum(0), torch.ones(shape[1:]))
        features = torch.zeros(2, 4, 16, 16)
        for i, expert in enumerate(model.experts):
            features += alpha[name][i].reshape(2, 1, *(shape[2:] or (1, 1))) * expert(IMAGES)
        torch.testing.assert_close(answers[name], model.heads[name](features))


def test_a_gate_sees_its_own_picture_and_near_pixels():
    model = models.Mixture(small, TASKS, gate="pixel")
    images = torch.rand(2, 3, 64, 64)
    changed = images.clone()
    changed[0, :, :8, :8] += 1
    difference = (model.alpha(images)["depth"] - model.alpha(changed)["depth"]).abs().sum(0)
    assert difference[0, :8, :8].max() > 0 and difference[0, 32:, 32:].max() == 0 and difference[1].max() == 0
    picture = models.Mixture(small, TASKS, gate="picture")
    difference = (picture.alpha(images)["depth"] - picture.alpha(changed)["depth"]).abs().sum(0)
    assert difference[0] > 0 and difference[1] == 0


@pytest.mark.parametrize("gate", ["picture", "pixel"])
def test_mixture_of_one_expert_equals_hard_sharing(gate):
    mixture, hard = models.Mixture(small, TASKS, experts=1, gate=gate), models.HardSharing(small, TASKS)
    hard.trunk.load_state_dict(mixture.experts[0].state_dict())
    hard.heads.load_state_dict(mixture.heads.state_dict())
    for name, prediction in hard(IMAGES).items():
        assert torch.equal(mixture(IMAGES)[name], prediction)


def set_masks(attention, value):
    """Make the masks of one task's module this constant, 0 or 1."""
    norm = attention.mask[1][1]
    nn.init.zeros_(norm.weight)
    nn.init.constant_(norm.bias, 200.0 if value else -200.0)


def test_attention_masks_choose_from_the_shared_features():
    model = models.AttentionSharing(small, TASKS)
    masks = model.masks(IMAGES)
    levels = [(2, 4, 16, 16), (2, 6, 8, 8), (2, 4, 16, 16)]  # two stages down, one level up
    for name in TASKS:
        assert [tuple(mask.shape) for mask in masks[name]] == levels
        assert all(0 <= mask.min() < mask.max() <= 1 for mask in masks[name])
    set_masks(model.attention["depth"][-1], 1)  # reads all of the last level: hard sharing
    torch.testing.assert_close(model(IMAGES)["depth"], model.heads["depth"](model.trunk(IMAGES)))
    set_masks(model.attention["depth"][-1], 0)  # reads nothing
    answer = model.eval()(IMAGES)["depth"]
    assert torch.equal(answer, model(IMAGES.flip(0))["depth"]) and answer[0].equal(answer[1])


def test_attention_carries_from_level_to_level_within_a_task():
    model = models.AttentionSharing(small, TASKS)
    before = model.masks(IMAGES)
    set_masks(model.attention["depth"][0], 0)
    after = model.masks(IMAGES)
    for level in range(1, 3):
        assert not torch.allclose(before["depth"][level], after["depth"][level])
    assert all(torch.equal(a, b) for a, b in zip(before["semantic"], after["semantic"]))


# --- the limits of the tie Ω


class LinearTrunk(nn.Module):
    """g(x) = w·x at every pixel: with losses that are squares, L is quadratic in w."""

    out_channels = 1

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, dtype=torch.float64))

    def forward(self, images):
        return torch.einsum("c,bchw->bhw", self.w, images)[:, None]


def linear_case(kind, **options):
    """A model of two tasks with nothing after the trunk, and its optimum by one Newton step, exact for a quadratic."""
    model = kind(LinearTrunk, tasks.make(["depth", "normals"]), **options)
    model.heads = nn.ModuleDict({name: nn.Identity() for name in model.heads})
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    wanted = torch.randn(2, 2, 1, 4, 4, generator=generator, dtype=torch.float64)
    parameters = list(model.parameters())
    total = sum((p - y).square().mean() for p, y in zip(model(images).values(), wanted))
    total = total + model.omega() if hasattr(model, "omega") else total
    slope = torch.cat(torch.autograd.grad(total, parameters, create_graph=True))
    curve = torch.stack([torch.cat(torch.autograd.grad(s, parameters, retain_graph=True)) for s in slope])
    flat = torch.cat([p.detach() for p in parameters])
    return (flat - torch.linalg.solve(curve, slope.detach())).reshape(-1, 3), images, wanted


def test_a_weak_tie_gives_single_networks_and_a_strong_one_hard_sharing():
    single, hard = linear_case(models.SingleTask)[0], linear_case(models.HardSharing)[0]
    assert (single[0] - single[1]).norm() > 0.1  # the tasks disagree
    weak = [(linear_case(models.SoftSharing, strength=s)[0] - single).norm() for s in (1e-8, 1e-7, 1e-4, 1e-3)]
    strong = [(linear_case(models.SoftSharing, strength=s)[0] - hard).norm() for s in (1e8, 1e7, 1e4, 1e3)]
    for distance in (weak, strong):
        assert distance[0] < 1e-6
        assert 9.5 < distance[3] / distance[2] < 10.5  # it falls in proportion to λ, or to 1/λ


def test_the_tied_optimum_equals_the_closed_form():
    """(A_t + λ(I - J/T)) w = b_t for all t at once, A_t = 2/n Σ x xᵀ, b_t = 2/n Σ x y."""
    found, images, wanted = linear_case(models.SoftSharing, strength=0.7)
    x = images.movedim(1, -1).reshape(-1, 3)
    a = 2 / len(x) * x.T @ x
    b = torch.stack([2 / len(x) * x.T @ y.reshape(-1) for y in wanted])
    centre = torch.eye(2, dtype=torch.float64) - 1 / 2
    system = torch.kron(torch.eye(2, dtype=torch.float64), a) + 0.7 * torch.kron(centre, torch.eye(3, dtype=a.dtype))
    torch.testing.assert_close(found, torch.linalg.solve(system, b.reshape(-1)).reshape(2, 3), rtol=1e-10, atol=1e-10)


def descend(model, groups, steps):
    """Plain gradient descent on Σ L_i + Ω."""
    optimizer = torch.optim.SGD(groups)
    data = {name: x.double() if x.is_floating_point() else x for name, x in batch().items()}
    for _ in range(steps):
        total = sum(losses(model(data["image"]), data, TASKS).values())
        optimizer.zero_grad()
        (total + model.omega() if hasattr(model, "omega") else total).backward()
        optimizer.step()


def flat(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_u_nets_without_a_tie_train_as_single_networks_do():
    soft = models.SoftSharing(small, TASKS, strength=0).double()
    assert all(torch.equal(flat(trunk), flat(soft.trunks["depth"])) for trunk in soft.trunks.values())
    assert soft.omega() == 0
    single = models.SingleTask(small, TASKS).double()
    single.load_state_dict(soft.state_dict())
    for model in (soft, single):
        descend(model, [{"params": model.parameters(), "lr": 0.1}], steps=4)
    assert all(torch.equal(a, b) for a, b in zip(soft.state_dict().values(), single.state_dict().values()))
    assert not torch.equal(flat(soft.trunks["depth"]), flat(soft.trunks["semantic"]))


def distance_to_hard_sharing(rate, strength):
    """How far tied U-Nets end from hard sharing that moves by the mean gradient; and how far that moved.

    All go on for the same time, steps · η = 0.08.
    """
    torch.manual_seed(0)
    soft = models.SoftSharing(small, TASKS, strength).double()
    hard = models.HardSharing(copy.deepcopy(soft.trunks["depth"]), TASKS).double()
    hard.heads.load_state_dict(soft.heads.state_dict())
    start, steps = flat(hard.trunk), round(0.08 / rate)
    descend(soft, [{"params": soft.parameters(), "lr": rate}], steps)
    mean = {"params": hard.trunk.parameters(), "lr": rate / 2}  # of two tasks
    descend(hard, [mean, {"params": hard.heads.parameters(), "lr": rate}], steps)
    away = [(flat(trunk) - flat(hard.trunk)).norm() for trunk in soft.trunks.values()]
    return max(away), (flat(hard.trunk) - start).norm()


def test_u_nets_with_a_strong_tie_train_as_hard_sharing_does():
    """At λ = 1/η a step is θ_t ← θ̄ - η∇L_t: all trunks stay near their mean, which moves as hard sharing does."""
    away, moved = zip(*(distance_to_hard_sharing(rate, 1 / rate) for rate in (0.02, 0.01, 0.005)))
    assert all(1.8 < a / b < 2.2 for a, b in zip(away, away[1:]))  # in proportion to η = 1/λ
    assert away[-1] < moved[-1] / 10
    free, moved = distance_to_hard_sharing(0.01, 0)
    assert free > moved  # without a tie they part


# --- training and keeping


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_trains_and_comes_back_from_a_checkpoint(kind, tmp_path):
    model = models.build(kind, "unet", TASKS, channels=(4, 6))
    before = copy.deepcopy(model.state_dict())
    loader = DataLoader(samples(4), 2)
    (row,) = training.fit(model, TASKS, loader, loader, epochs=1, device="cpu", progress=False)
    assert all(math.isfinite(row[f"loss/{name}"]) for name in TASKS) and math.isfinite(row["semantic.miou"])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed >= {name for name, _ in model.named_parameters()}  # every parameter learns
    again, _ = training.load(training.save(tmp_path / "model.safetensors", model, TASKS))
    assert type(again) is type(model) and again.recipe["model"] == kind
    for name, prediction in model.eval()(IMAGES).items():
        assert torch.equal(again(IMAGES)[name], prediction)
    with pytest.raises(CourseError, match="weights of another model"):
        training.load(
            tmp_path / "model.safetensors", models.build("hard" if kind != "hard" else "single", "unet", TASKS)
        )
