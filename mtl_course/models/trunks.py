"""Trunks: networks that turn a picture into one vector of features a pixel."""

from collections.abc import Sequence

from torch import Tensor, cat, nn

from mtl_course.errors import CourseError


def conv_block(in_channels: int, out_channels: int, size: int = 3) -> nn.Sequential:
    """Convolution size×size, batch norm, ReLU, keeping height and width."""
    convolution = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def way_up(widths: Sequence[int], up_widths: Sequence[int]) -> nn.ModuleList:
    """The blocks of `Trunk.decode`, a level each: what comes from below and the skip of that level give a new width."""
    deep = [widths[-1], *up_widths]
    return nn.ModuleList(conv_block(skip + below, w) for skip, below, w in zip(widths[-2::-1], deep, up_widths))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """x at another height and width, bilinear, so that no checkerboard appears."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return nn.functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class Trunk(nn.Module):
    """g(x, θ): down stage by stage, then back up to one vector of features a pixel.

    Architectures that share inside the trunk call `stage` and `decode` themselves. A trunk of your own sets the
    attributes, gives `stage`, and inherits the rest.

    Attributes:
        widths: a tuple, the channels of each stage's output, from fine to coarse.
        up_widths: a tuple, the channels of each level of the way up, from coarse to fine.
        up: an nn.ModuleList, the blocks of the way up, see `way_up`.
        full_size: whether the way up ends with features of the picture's own size; else predictions are enlarged.
    """

    full_size = True

    @property
    def out_channels(self) -> int:
        """Channels of the features of a pixel."""
        return self.up_widths[-1]

    def stage(self, level: int, x: Tensor) -> Tensor:
        """One stage of the way down: of the images for level 0, else of the stage before."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> list[Tensor]:
        """The outputs of all stages, from fine to coarse."""
        outputs = [images]
        for level in range(len(self.widths)):
            outputs.append(self.stage(level, outputs[-1]))
        return outputs[1:]

    def decode(self, skips: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
        """The way up: enlarge, join with what was seen at that size on the way down, convolve.

        Args:
            skips: the outputs of all stages, (B, widths[level], H', W').
            size: height and width of the picture.

        Returns:
            All levels, (B, up_widths[level], H', W'); the last is (B, out_channels, *size) if `full_size`.
        """
        levels = [skips[-1]]
        for block, skip in zip(self.up, skips[-2::-1]):
            levels.append(block(cat([skip, resize(levels[-1], skip.shape[-2:])], dim=1)))
        levels[-1] = resize(levels[-1], size) if self.full_size else levels[-1]
        return levels[1:] or levels

    def forward(self, images: Tensor) -> Tensor:
        """Features of every pixel.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, out_channels, H, W), or smaller where the trunk is not `full_size`.
        """
        return self.decode(self.encode(images), images.shape[-2:])[-1]


class UNet(Trunk):
    """A small U-Net: halve the picture while the channels grow, then climb back and join what was seen on the way down.

    Any height and width of at least 2^(levels - 1) pixels will do (twice that to train on a single picture).

    Args:
        channels: of each level, from full resolution down.
        in_channels: of the picture.

    Source: Ronneberger et al., arXiv:1505.04597 (here with padding, batch norm, and one block a level on the way up).
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 96), in_channels: int = 3):
        super().__init__()
        self.widths = tuple(channels)
        self.up_widths = self.widths[-2::-1] or self.widths
        pairs = zip((in_channels, *channels), channels)
        self.down = nn.ModuleList(nn.Sequential(conv_block(a, b), conv_block(b, b)) for a, b in pairs)
        self.up = way_up(self.widths, self.up_widths)

    def stage(self, level: int, x: Tensor) -> Tensor:
        """(B, channels[level], H/2^level, W/2^level)."""
        if level:
            return self.down[level](nn.functional.max_pool2d(x, 2))
        least = 2 ** (len(self.down) - 1 + (self.training and len(x) == 1))  # batch norm learns from two values or more
        if min(x.shape[-2:]) < least:
            raise CourseError(f"U-Net needs {least} or more pixels a side here, and the pictures are {tuple(x.shape)}")
        return self.down[0](x)
