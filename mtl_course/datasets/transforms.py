"""Joint transforms: whatever moves a picture's pixels moves its masks' pixels in the same way.

The rules, in this one place: pictures are resized bilinearly with antialiasing, masks by the nearest pixel, so that no
class id is invented; around a picture there is 0, around a mask 255 = ignored.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from mtl_course.errors import CourseError
from mtl_course.losses import IGNORE_INDEX

ROOM = 1.25  # a picture is resized to this much more than the crop, so that a crop is hardly ever enlarged
CROP_AREA = (0.5, 1.0)  # share of the resized picture
KINDS = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}  # what moves together, and its dtype at the end


def fitted_size(height: int, width: int, size: int, augment: bool) -> tuple[int, int]:
    """Height and width of a picture after its resize.

    For training the shorter side becomes 1.25 · `size`, with room for random crops; for evaluation the longer side
    becomes `size`, so that the whole picture is scored.
    """
    ratio = size * ROOM / min(height, width) if augment else size / max(height, width)
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def resize(pixels: Tensor, shape: tuple[int, int]) -> Tensor:
    """A picture resized bilinearly, or a `tv_tensors.Mask` by the nearest pixel, to `shape` = (H, W).

    `NEAREST_EXACT` looks at the middle of a pixel, as the bilinear resize does; plain `NEAREST` would shift the mask.
    """
    mask = isinstance(pixels, tv_tensors.Mask)
    mode = InterpolationMode.NEAREST_EXACT if mask else InterpolationMode.BILINEAR
    batch = pixels.as_subclass(Tensor)[None]  # a mask may be (H, W), and resize wants three axes
    if tuple(shape) == (1, 1) and not mask:  # of bytes torch's fast way fails here
        batch = batch.float()
    resized = v2.functional.resize(batch, list(shape), interpolation=mode, antialias=not mask)[0].to(pixels.dtype)
    return tv_tensors.wrap(resized, like=pixels) if isinstance(pixels, tv_tensors.TVTensor) else resized


def fit(pixels: Tensor, size: int, augment: bool) -> Tensor:
    """A picture or a mask resized to its `fitted_size`."""
    return resize(pixels, fitted_size(*pixels.shape[-2:], size, augment))


def pad(pixels: Tensor, size: int) -> Tensor:
    """A picture or a mask padded to (size, size) on the right and below: with 0, or with 255 = ignored."""
    height, width = pixels.shape[-2:]
    fill = IGNORE_INDEX if isinstance(pixels, tv_tensors.Mask) else 0
    return v2.functional.pad(pixels, [0, 0, size - width, size - height], fill=fill)


class Crop(v2.RandomResizedCrop):
    """A random crop resized by our rules; torchvision's own shifts masks by half a pixel against the picture."""

    def transform(self, inpt: Tensor, params: dict) -> Tensor:
        """One part cropped and resized."""
        return resize(v2.functional.crop(inpt, **params), tuple(self.size))


class Jitter:
    """Other light for every training picture of a batch, on its device: brightness, contrast, colour, each by chance.

    Each picture's brightness and contrast are scaled by 1 ± 0.4 · strength, its colours' distance from grey by
    1 ± 0.5 · strength. The draws come from torch's generator of the device.

    Args:
        strength: 0 leaves the pictures as they are.
    """

    def __init__(self, strength: float = 1.0):
        if not 0 <= strength <= 2:
            raise CourseError(f"strength of the jitter is from 0 to 2, and not {strength}")
        self.strength = strength

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with other images; the targets stay."""
        images = batch["image"]  # (B, 3, H, W) in [0, 1]
        draws = self.strength * torch.empty(3, len(images), 1, 1, 1, device=images.device).uniform_(-1, 1)
        light, contrast, color = 1 + 0.4 * draws[0], 1 + 0.4 * draws[1], 1 + 0.5 * draws[2]
        images = light * images
        images = _from(images.mean((1, 2, 3), keepdim=True), images, contrast)
        return {**batch, "image": _from(images.mean(1, keepdim=True), images, color).clamp(0, 1)}


def _from(center: Tensor, values: Tensor, factor: Tensor) -> Tensor:
    """`values` with their distance from `center` scaled."""
    return center + factor * (values - center)


def joint_transform(size: int | None, augment: bool = False) -> v2.Compose:
    """The transform from a picture as stored to a sample, for a picture and its masks together.

    - training (`augment`): shorter side to 1.25 · `size`, a random crop of half to all of the area brought to
      (size, size), mirrored or not;
    - evaluation: the whole picture fitted into (size, size) and padded;
    - `size=None`: the pixels as they are (mirrored or not, with `augment`).

    Then pictures become float32 in [0, 1], masks int64. The random draws come from torch's generator.

    Args:
        size: pixels along each side of the result, or None.
        augment: for training.

    Returns:
        A transform of any structure of `tv_tensors.Image` uint8 (3, H, W) and `tv_tensors.Mask` uint8 (..., H, W).

    Raises:
        CourseError: if `size` is not a positive whole number.
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise CourseError(f"size is the pixels along a side, a positive whole number or None, and not {size!r}")
    steps = [v2.RandomHorizontalFlip()] if augment else []
    if size is not None:
        cut = Crop(size, scale=CROP_AREA) if augment else v2.Lambda(partial(pad, size=size), *KINDS)
        steps = [v2.Lambda(partial(fit, size=size, augment=augment), *KINDS), cut, *steps]
    return v2.Compose([*steps, v2.ToDtype(KINDS | {"others": None}, scale=True)])
