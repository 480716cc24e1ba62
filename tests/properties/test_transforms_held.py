"""What holds for every transform and every size: no invented id, and picture and mask in step, by drawn markers."""

import math

import numpy as np
import torch
from drawn import generator, held, seeds, sides
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from torchvision import tv_tensors

from mtl_course.datasets import Folder, joint_transform, reading
from mtl_course.datasets.transforms import ROOM, Jitter, fitted_size, resize

sizes = st.integers(1, 70)


def ids_of(tensor):
    return set(tensor.unique().tolist())


def ramps(height, width):
    """A picture whose colours say its row and its column, and a mask whose two planes say them too; both uint8."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mask = torch.stack([rows, columns]).to(torch.uint8)
    image = torch.cat([mask, torch.full((1, height, width), 200, dtype=torch.uint8)])
    return tv_tensors.Image(image), tv_tensors.Mask(mask)


@held(60)
@given(seeds, sides, sides, sizes, st.booleans())
def test_ids_after_are_among_the_ids_before_and_ignore(seed, height, width, size, augment):
    torch.manual_seed(seed)
    few = torch.randint(0, 256, (4,), dtype=torch.uint8)
    before = few[torch.randint(0, 4, (1, height, width))]
    after = joint_transform(size, augment)(tv_tensors.Mask(before))
    assert after.shape == (1, size, size) and after.dtype == torch.int64
    assert ids_of(after) <= ids_of(before) | {255}
    if augment:
        assert ids_of(after) <= ids_of(before), "crops hold no pixel from outside"


@held(60)
@given(seeds, sides, sides, sizes, st.booleans())
def test_every_pixel_of_picture_and_mask_comes_from_the_same_place(seed, height, width, size, augment):
    """Any size, crop, mirroring and aspect ratio: the row and column in the colours are those in the mask."""
    torch.manual_seed(seed)
    image, mask = joint_transform(size, augment)(*ramps(height, width))
    padded = mask[0] == 255
    assert torch.equal(padded, image[2] == 0), "what is padded in one is padded in the other"
    fitted = fitted_size(height, width, size, augment)
    for axis, (before, between) in enumerate(zip((height, width), fitted)):
        step = before / between  # pixels of the file that one pixel takes after the first resize, or after both
        both = step * (max(1, between / size) if augment else 1)
        apart = (image[axis] * 255 - mask[axis])[~padded].abs().max()
        # Half a pixel for each rounding of the mask and each of the colours, and half a kernel at the edge.
        assert apart <= 2 + step + both, (apart, before, between)


@held(25)
@given(seeds, sides, sides, st.booleans())
def test_without_a_size_pixels_stay_and_are_mirrored_together(seed, height, width, augment):
    torch.manual_seed(seed)
    image, mask = ramps(height, width)
    moved, marked = joint_transform(None, augment)(image, mask)
    assert torch.equal((moved[:2] * 255).round().long(), marked)
    assert any(torch.equal(marked, same) for same in (mask.long(), mask.flip(-1).long())[: 1 + augment])


@held(40)
@given(seeds, sides, sides, sizes, sizes)
def test_a_resize_keeps_the_values_of_a_dense_target_and_the_places_of_its_gaps(seed, height, width, rows, columns):
    """Metres in a Mask: every value after was there before, and NaN is where a mask of the gaps says."""
    depth = torch.rand(1, height, width, generator=generator(seed)) * 9 + 1
    gaps = torch.rand(1, height, width, generator=generator(seed + 1)) < 0.4
    after = resize(tv_tensors.Mask(depth.masked_fill(gaps, math.nan)), (rows, columns))
    marked = resize(tv_tensors.Mask(gaps.to(torch.uint8)), (rows, columns))
    assert torch.equal(after.isnan(), marked == 1)
    assert torch.isin(after[~after.isnan()], depth[~gaps]).all()


@held(40)
@given(sides, sides, sizes, st.booleans())
def test_a_fitted_size_keeps_the_aspect_ratio_to_half_a_pixel(height, width, size, augment):
    rows, columns = fitted_size(height, width, size, augment)
    short, long = min(rows, columns), max(rows, columns)
    assert short >= 1 and (short == max(1, round(ROOM * size)) if augment else long == size)
    ratio = size * ROOM / min(height, width) if augment else size / max(height, width)
    for before, after in ((height, rows), (width, columns)):
        assert after == 1 or abs(after - ratio * before) <= 0.5


@held(30)
@given(seeds, st.integers(1, 4), sides, st.floats(0, 2))
def test_jitter_leaves_targets_alone_and_stays_in_range(seed, batch, side, strength):
    torch.manual_seed(seed)
    images = torch.rand(batch, 3, min(side, 20), side).round(decimals=1)  # with 0 and 1
    given_ = {
        "image": images,
        "semantic": torch.randint(0, 9, (batch, side, side)),
        "depth": torch.rand(batch, 1, 2, 2),
    }
    copies = {name: value.clone() for name, value in given_.items()}
    changed = Jitter(strength)(given_)
    assert list(changed) == list(given_) and all(changed[name] is given_[name] for name in ("semantic", "depth"))
    assert all(torch.equal(given_[name], copies[name]) for name in given_), "nothing is changed in place"
    assert changed["image"].shape == images.shape and 0 <= changed["image"].min() <= changed["image"].max() <= 1
    torch.testing.assert_close(Jitter(0.0)(given_)["image"], images)


SHORT = st.integers(40, 120)


@held(30)
@given(seeds, SHORT, SHORT, st.sampled_from([16, 40, 100]), st.booleans(), st.integers(1, 8), st.booleans())
def test_a_whole_sample_is_in_step(tmp_path_factory, seed, height, width, size, augment, orientation, across):
    """From files: JPEG, its decoding at a smaller size, EXIF rotation, resize, crop, mirroring."""
    root = tmp_path_factory.mktemp("set")
    image, mask = ramps(height, width)  # upright
    for part in ("images", "masks"):
        (root / part).mkdir()
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes the orientation
    stored = Image.fromarray(image.permute(1, 2, 0).numpy())
    stored = stored.transpose(Image.Transpose(back[orientation])) if orientation > 1 else stored
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored.save(root / "images/a.jpg", quality=98, subsampling=0, exif=exif)
    Image.fromarray(mask[int(across)].numpy(), "L").save(root / "masks/a.png")
    torch.manual_seed(seed)
    sample = Folder(root, classes=map(str, range(255)), size=size, augment=augment)[0]
    valid = sample["semantic"] != 255
    apart = (sample["image"][int(across)] * 255 - sample["semantic"])[valid].abs()
    step = max(height, width) / size + 1
    assert apart.quantile(0.9) <= 2 + 2 * step and apart.max() <= 8 + 3 * step


@held(30)
@given(seeds, st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_a_mask_written_in_vocs_colours_reads_back(tmp_path_factory, seed, height, width, alpha):
    path = tmp_path_factory.mktemp("mask") / "m.png"
    ids = torch.randint(0, 256, (height, width), generator=generator(seed), dtype=torch.uint8).numpy()
    colors = reading.voc_palette()[ids]
    colors = np.concatenate([colors, np.full_like(colors[..., :1], 255)], -1) if alpha else colors
    Image.fromarray(colors).save(path)
    assert np.array_equal(reading.read_mask(path, 255), ids)
