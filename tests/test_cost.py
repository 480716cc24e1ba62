"""What a model costs: values worked by hand, and models that are left as they were."""

import copy

import pytest
import torch
from torch import nn

from mtl_course import models, tasks

TASKS = tasks.make(["semantic", "depth", "normals"], ["a", "b", "c"])
IMAGES = torch.rand(2, 3, 16, 16)
PIXELS = 2 * 16 * 16  # of the batch


class OneConvolution(nn.Module):
    """3 to 5 channels by 3×3; `again` reads the features once more, without memory of its own."""

    def __init__(self, again=False):
        super().__init__()
        self.layer, self.again = nn.Conv2d(3, 5, 3, padding=1, bias=False), again

    def forward(self, images):
        features = self.layer(images)
        return {"a": features, "b": features.flip(0).view(-1).view_as(features)} if self.again else {"a": features}


def test_one_convolution_by_hand():
    (row,) = models.cost({"one": OneConvolution()}, IMAGES, repeats=0).values()
    work = 2 * PIXELS * 5 * 3 * 9
    assert row["parameters"] == 5 * 3 * 9
    assert row["flops"] == work
    assert row["step_flops"] == 2 * work  # backward: the gradient of the weights; that of the images is not needed
    assert row["activations"] == 4 * PIXELS * (3 + 5)  # the images for the weights' gradient, the features for ½∂x²
    assert set(row) == {"parameters", "flops", "step_flops", "activations"}


def test_a_tensor_kept_twice_needs_its_memory_once():
    class Twice(OneConvolution):
        def forward(self, images):
            features = self.layer(images)
            return {"a": features, "b": features, "c": features.view(-1)}

    once, twice = (models.cost({"m": m()}, IMAGES, 0)["m"]["activations"] for m in (OneConvolution, Twice))
    assert once == twice
    flipped = models.cost({"m": OneConvolution(again=True)}, IMAGES, 0)["m"]["activations"]
    assert flipped == once + 4 * PIXELS * 5  # a new tensor, and its two views


def test_batch_norm_s_statistics_and_weights_are_not_counted():
    model = nn.Sequential(nn.Conv2d(3, 5, 1, bias=False), nn.BatchNorm2d(5))

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model

        def forward(self, images):
            return {"a": self.layers(images)}

    kept = models.cost({"m": Normed()}, IMAGES, 0)["m"]["activations"]
    # images, features before and after the norm, and the batch's own mean and inverse deviation
    assert kept == 4 * (PIXELS * (3 + 5 + 5) + 2 * 5)


def test_three_tasks_on_one_trunk_against_three_networks():
    made = {kind: models.build(kind, "unet", TASKS, channels=(4, 6)) for kind in ("single", "hard", "soft")}
    costs = models.cost(made, IMAGES, repeats=0)
    trunk = models.UNet((4, 6))
    alone = {"parameters": sum(p.numel() for p in trunk.parameters())}
    assert costs["single"]["parameters"] - costs["hard"]["parameters"] == 2 * alone["parameters"]

    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = trunk

        def forward(self, images):
            return {"z": self.trunk(images)}

    bare = models.cost({"trunk": Bare()}, IMAGES, 0)["trunk"]
    for key in ("flops", "step_flops"):
        assert costs["single"][key] - costs["hard"][key] == 2 * bare[key]
        assert costs["soft"][key] == costs["single"][key]  # Ω has no convolution
    assert costs["soft"]["activations"] >= costs["single"]["activations"] + 3 * 4 * alone["parameters"]
    ratios = models.ratios(costs)
    assert set(ratios["single"].values()) == {1}
    assert ratios["hard"]["flops"] == costs["hard"]["flops"] / costs["single"]["flops"] < 0.6


def test_the_models_are_left_as_they_are():
    model = models.build("hard", "unet", TASKS, channels=(4, 6)).eval()
    sum(p.sum() for p in model(IMAGES).values()).backward()
    model.heads.train()
    before = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters()]
    features, modes = model.representation(), [m.training for m in model.modules()]
    models.cost({"m": model}, IMAGES, repeats=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(model.parameters(), gradients))
    assert [m.training for m in model.modules()] == modes and model.representation() is features


def test_models_take_turns_and_the_median_is_reported(monkeypatch):
    calls = []

    class Noted(OneConvolution):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, images):
            calls.append((self.name, self.training, torch.is_grad_enabled()))
            return super().forward(images)

    ticks = iter([0, 1, 10, 12, 20, 23, 30, 34] + [0, 101, 0, 102, 0, 103, 0, 104] + [0, 2, 0, 3, 0, 4, 0, 5])
    monkeypatch.setattr(models.costs.time, "perf_counter", lambda: next(ticks))
    rows = models.cost({"a": Noted("a"), "b": Noted("b")}, IMAGES, repeats=3)
    turns = [(name, *how) for name in "ab" for how in ((False, False), (True, True))]
    assert calls == [("a", True, True), ("b", True, True)] + 3 * turns
    assert [rows["a"][key] for key in ("seconds", "step_seconds")] == [2, 3]
    assert [rows["b"][key] for key in ("seconds", "step_seconds")] == [4, 5]


@pytest.mark.parametrize("kind", models.sharing.ARCHITECTURES)
def test_every_architecture_has_a_price(kind):
    row = models.cost({kind: models.build(kind, "unet", TASKS, channels=(4, 6))}, IMAGES, repeats=1)[kind]
    assert len(row) == 6 and all(value > 0 for value in row.values())
    assert 2 * row["flops"] < row["step_flops"] < 3 * row["flops"]
