"""Trunks: networks that turn a picture into one vector of features a pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_course.errors import CourseError


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution 3×3, batch norm, ReLU, keeping height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """A small U-Net: halve the picture while the channels grow, then climb back and join what was seen on the way down.

    Any height and width of at least 2^(levels - 1) pixels will do (twice that to train on a single picture).
    Up-sampling is bilinear, so that no checkerboard appears.

    Args:
        channels: of each level, from full resolution down.
        in_channels: of the picture.

    Source: Ronneberger et al., arXiv:1505.04597 (here with padding, batch norm, and one block a level on the way up).
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 96), in_channels: int = 3):
        super().__init__()
        widths = [in_channels, *channels]
        self.down = nn.ModuleList(nn.Sequential(conv_block(a, b), conv_block(b, b)) for a, b in zip(widths, widths[1:]))
        self.up = nn.ModuleList(conv_block(a + b, a) for a, b in zip(channels[-2::-1], channels[:0:-1]))
        self.out_channels = channels[0]

    def forward(self, images: Tensor) -> Tensor:
        """Features of every pixel.

        Args:
            images: (B, in_channels, H, W).

        Returns:
            (B, channels[0], H, W).
        """
        # Batch norm needs two values a channel to learn from.
        least = 2 ** (len(self.down) - 1 + (self.training and len(images) == 1))
        if min(images.shape[-2:]) < least:
            raise CourseError(
                f"U-Net needs {least} or more pixels a side here, and the pictures are {tuple(images.shape)}"
            )
        skips = []
        x = images
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)  # (B, channels[level], H/2^level, W/2^level)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1]):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([skip, x], dim=1))
        return x
