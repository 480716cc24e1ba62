"""Pascal VOC: samples, targets, and every fault told in a sentence."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from faults.make import jpg, png, rotate
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from voc_fixture import COLORS, SHAPES, draw, real_voc, write_devkit

from mtl_course.datasets import VOC, VOC_CLASSES, joint_transform, reading, split
from mtl_course.datasets.transforms import fitted_size, resize
from mtl_course.datasets.voc import voc_folder
from mtl_course.errors import CourseError, MissingFile

ALL = ("semantic", "foreground", "boundary")


def ids_of(tensor):
    return set(tensor.unique().tolist())


# Samples


@pytest.mark.parametrize("inside", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_the_three_folders(voc_root, inside):
    assert len(VOC(voc_root / inside)) == 10


@pytest.mark.parametrize("size, shape", [(None, (80, 60)), (32, (32, 32)), (100, (100, 100))])
@pytest.mark.parametrize("augment", [False, True])
def test_sample(voc_root, size, shape, augment):
    data = VOC(voc_root, tasks=ALL, size=size, augment=augment)
    sample = data[0]
    assert list(sample) == ["image", *ALL] and list(data.tasks) == list(ALL)
    assert all(type(value) is torch.Tensor for value in sample.values())
    assert sample["image"].dtype == torch.float32 and sample["image"].shape == (3, *shape)
    assert 0 <= sample["image"].min() < sample["image"].max() <= 1
    for name, task in data.tasks.items():
        assert sample[name].dtype == torch.int64 and sample[name].shape == shape
        task.check(sample[name][None], name)


def test_stored_ids_are_read_as_they_are(voc_root):
    data = VOC(voc_root, tasks=ALL)
    ids = torch.from_numpy(draw(3)[1]).long()
    assert torch.equal(data[3]["semantic"], ids)
    assert torch.equal(data[3]["foreground"] == 1, (ids > 0) & (ids < 255))
    assert torch.equal(data[3]["foreground"] == 255, ids == 255)
    assert torch.equal(data[3]["boundary"] == 1, ids == 255)
    assert data.classes == VOC_CLASSES and len(VOC_CLASSES) == 21


def test_chosen_classes_come_in_their_order_and_the_others_are_ignored_in_every_task(voc_root):
    data, all_classes = VOC(voc_root, tasks=ALL, classes=("person", "cat")), VOC(voc_root)
    assert data.classes == data.tasks["semantic"].classes == ("background", "person", "cat")
    for sample, whole in zip(data, all_classes, strict=True):
        ids = whole["semantic"]
        assert torch.equal(sample["semantic"] == 0, ids == 0)
        assert torch.equal(sample["semantic"] == 1, ids == SHAPES["person"])
        assert torch.equal(sample["semantic"] == 2, ids == SHAPES["cat"])
        assert (sample["foreground"][ids == SHAPES["dog"]] == 255).all()
        assert (sample["boundary"][ids == SHAPES["dog"]] == 255).all()


def test_all_classes_in_another_order_get_other_ids(voc_root):
    names = VOC_CLASSES[:0:-1]
    data, whole = VOC(voc_root, classes=names), VOC(voc_root)[0]["semantic"]
    assert data.classes == ("background", *names)
    expected = torch.where((whole == 0) | (whole == 255), whole, 21 - whole)
    assert torch.equal(data[0]["semantic"], expected)


def test_splits(voc_root):
    names = {split: VOC(voc_root, split=split).names for split in ("train", "val", "trainval", "fit", "select")}
    assert [len(n) for n in names.values()] == [10, 4, 14, 8, 2]
    assert sorted(names["fit"] + names["select"]) == sorted(names["train"])
    assert names["trainval"] == names["train"] + names["val"]


def test_a_split_of_ones_own_is_taken_as_it_stands(voc_copy):
    names = [f"2007_00000{i}" for i in (4, 1, 6, 0)]
    (voc_copy / "ImageSets/Segmentation/fit.txt").write_text("\n".join(names))
    assert VOC(voc_copy, split="fit").names == names


def test_the_year_chooses_the_folder(tmp_path):
    write_devkit(tmp_path, 2, 1).rename(tmp_path / "VOCdevkit/VOC2007")
    shutil.move(write_devkit(tmp_path / "other", 3, 1), tmp_path / "VOCdevkit/VOC2012")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        assert [len(VOC(root, year=year)) for year in ("2007", "2012")] == [2, 3]


def test_split_is_drawn_by_its_seed():
    fit, select = split(10)
    assert split(10) == (fit, select) != split(10, seed=1)
    assert sorted(fit + select) == list(range(10)) and len(fit) == 8
    assert [len(split(n)[0]) for n in (3, 4, 6, 7)] == [2, 3, 5, 6]  # rounded, not cut off


def test_evaluation_scores_every_pixel(voc_root):
    sample, whole = VOC(voc_root, size=80)[0], VOC(voc_root)[0]  # 80 high, 60 wide
    assert torch.equal(sample["semantic"][:, :60], whole["semantic"])
    assert (sample["semantic"][:, 60:] == 255).all() and (sample["image"][..., 60:] == 0).all()
    torch.testing.assert_close(sample["image"][..., :60], whole["image"])


def test_second_epoch_reads_no_file_and_gives_the_same(voc_copy, monkeypatch):
    data = VOC(voc_copy, tasks=ALL, size=40)
    first = list(data)
    monkeypatch.setattr(Image, "open", None)
    for one, two in zip(first, data, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_without_cache_the_files_are_read_again(voc_copy, monkeypatch):
    data = VOC(voc_copy, size=40, cache=False)
    data[0]
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(CourseError):
        data[0]


def test_loader_workers_fill_the_common_memory(voc_copy, monkeypatch):
    data = VOC(voc_copy, tasks=ALL, size=40)
    alone = torch.stack([sample["image"] for sample in VOC(voc_copy, tasks=ALL, size=40)])
    loader = DataLoader(data, 5, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(next(iter(loader))["image"], alone)
    monkeypatch.setattr(Image, "open", None)
    assert torch.equal(next(iter(DataLoader(data, 5)))["image"], alone)


def test_a_pickled_set_starts_with_empty_memory(voc_root):
    data = VOC(voc_root, size=40)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[0]["image"], data[0]["image"]) and again[0]["image"].max() > 0


def test_index_counts_from_the_end_and_stops(voc_root):
    data = VOC(voc_root, size=40)
    assert torch.equal(data[-1]["image"], data[9]["image"])
    with pytest.raises(IndexError):
        data[10]


def test_classes_txt_names_other_classes(voc_copy):
    (voc_copy / "classes.txt").write_text("background\n" + "\n".join(f"kind {i}" for i in range(1, 16)) + "\n")
    assert len(VOC(voc_copy).classes) == 16 and VOC(voc_copy, classes=("kind 8",)).classes[1] == "kind 8"


def test_root_comes_from_the_environment(voc_root, monkeypatch):
    monkeypatch.setenv("MTL_COURSE_DATA", str(voc_root))
    assert voc_folder() == voc_root / "VOCdevkit" / "VOC2012"
    monkeypatch.setenv("MTL_COURSE_DATA", "none")
    with pytest.raises(MissingFile, match="MTL_COURSE_DATA is 'none'"):
        VOC()


# Joint transforms; what holds for every size and aspect ratio is in properties/test_transforms_held.py


@pytest.mark.parametrize("augment", [False, True])
def test_masks_are_not_shifted_on_average(augment):
    shifts = []
    for left in range(60, 140):
        mask = torch.zeros(1, 200, 200, dtype=torch.uint8)
        mask[:, left : left + 31, left : left + 31] = 1
        pair = tv_tensors.Image(mask.expand(3, -1, -1) * 255), tv_tensors.Mask(mask)
        image, found = joint_transform(96, augment)(*pair)
        if found[:, 1:-1, 1:-1].sum() == found.sum() > 0:  # not cut
            place = torch.arange(96.0)
            one, two = ((v[0].sum(1) * place).sum() / v[0].sum() for v in (image, found))  # down: mirroring is across
            shifts.append(one - two)
    assert len(shifts) > 40 and abs(torch.stack(shifts).mean()) < 0.1


def test_a_shape_keeps_its_colour_through_crop_and_flip(voc_root):
    torch.manual_seed(0)
    colors = torch.from_numpy(COLORS).float() / 255
    for sample in VOC(voc_root, size=64, augment=True, classes=tuple(SHAPES)):
        nearest = (sample["image"][None] - colors[:, :, None, None]).square().sum(1).argmin(0)
        valid = sample["semantic"] != 255
        assert (nearest[valid] == sample["semantic"][valid]).float().mean() > 0.98


def test_two_draws_differ_and_a_seed_repeats_them(voc_root):
    data = VOC(voc_root, size=40, augment=True)
    torch.manual_seed(1)
    one, two = data[0]["image"], data[0]["image"]
    torch.manual_seed(1)
    assert torch.equal(one, data[0]["image"]) and not torch.equal(one, two)


def test_augmentation_mirrors_half_and_crops_at_least_half():
    """Every pixel of the mask says from which row and column it comes."""
    rows, columns = np.mgrid[:80, :80].astype(np.uint8)
    change, mirrored, areas = joint_transform(64, augment=True), [], []
    for _ in range(40):
        down, across = change(tv_tensors.Mask(torch.from_numpy(np.stack([rows, columns])))).tolist()
        mirrored.append(across[0][0] > across[0][-1])
        areas.append((abs(down[-1][0] - down[0][0]) + 1) * (abs(across[0][-1] - across[0][0]) + 1) / 80**2)
    assert 8 < sum(mirrored) < 32
    assert 0.45 < min(areas) < 0.65 and 0.8 < max(areas) <= 1


def test_mirroring_alone_where_there_is_no_size(voc_root):
    plain, data = VOC(voc_root)[0]["image"], VOC(voc_root, augment=True)
    draws = [data[0]["image"] for _ in range(40)]
    same = sum(torch.equal(image, plain) for image in draws)
    assert 8 < same < 32 and sum(torch.equal(image, plain.flip(-1)) for image in draws) == 40 - same


def test_fitted_size_leaves_room_for_crops():
    assert fitted_size(100, 200, 64, True) == (80, 160) and fitted_size(100, 200, 64, False) == (32, 64)


def test_pictures_are_smoothed_when_they_get_smaller():
    noise = torch.rand(1, 64, 64)
    assert resize(noise, (8, 8)).std() < noise.std() / 4  # the mean of four pixels alone would have half


@pytest.mark.parametrize("size", [0, -3, 2.5, "64"])
def test_a_size_that_is_none(size):
    with pytest.raises(CourseError, match="positive whole number"):
        joint_transform(size)


# Wrong arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "vall"}, "unknown split 'vall': did you mean 'val'"),
        ({"tasks": ("semntic",)}, "unknown task 'semntic': did you mean 'semantic'"),
        ({"tasks": ("depth",)}, "unknown task 'depth'"),
        ({"tasks": ()}, "one or more"),
        ({"classes": ("cta",)}, "unknown class 'cta': did you mean 'cat'"),
        ({"classes": ("cat", "cat")}, "each once"),
        ({"classes": ()}, "one or more classes"),
        ({"size": 0}, "positive whole number"),
    ],
)
def test_wrong_arguments(voc_root, arguments, message):
    with pytest.raises(CourseError, match=message):
        VOC(voc_root, **arguments)


def test_no_voc_says_how_to_get_it(tmp_path):
    with pytest.raises(MissingFile, match="python -m mtl_course data voc") as caught:
        VOC(tmp_path / "nowhere")
    assert "nowhere" in str(caught.value) and "MTL_COURSE_DATA" in str(caught.value)


# Masks that are welcome


def test_one_bit_masks_serve_foreground_alone(voc_copy):
    ids = np.array(Image.open(png(voc_copy)))
    Image.fromarray(np.isin(ids, [8, 12, 15])).save(png(voc_copy))
    assert ids_of(VOC(voc_copy, tasks=("foreground",))[0]["foreground"]) == {0, 1}
    with pytest.raises(CourseError, match="1-bit mask holds no class ids"):
        VOC(voc_copy, tasks=("foreground",), classes=("cat",))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_picture_is_turned_to_its_mask(voc_copy, orientation):
    picture, ids = draw(0, 80, 60)
    stored = Image.fromarray(picture)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes the orientation
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(back[orientation]))
    stored.save(jpg(voc_copy), quality=95)
    rotate(jpg(voc_copy), orientation)
    image = VOC(voc_copy)[0]["image"]
    assert (image - torch.from_numpy(picture).permute(2, 0, 1) / 255).abs().mean() < 0.05


def test_palette_is_vocs():
    palette = reading.voc_palette()
    assert palette[[0, 1, 2, 8, 12, 15, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [64, 0, 0], [64, 0, 128], [192, 128, 128], [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip
    assert len(np.unique(palette, axis=0)) == 256


# The real thing


@pytest.mark.skipif(real_voc() is None, reason="no real VOC here (MTL_COURSE_DATA)")
def test_real_voc_is_read_whole():
    train, val = (VOC(real_voc(), split=split, tasks=ALL, size=64) for split in ("train", "val"))
    assert len(train) >= 437 and len(val) >= 445
    for data in (train, val):
        for sample in data:
            assert 0 < sample["image"].max() <= 1
            for name, task in data.tasks.items():
                task.check(sample[name][None], name)
                assert (sample[name] != 255).any()


@pytest.mark.skipif(real_voc() is None, reason="no real VOC here (MTL_COURSE_DATA)")
def test_real_masks_have_vocs_palette():
    mask = VOC(real_voc()).pairs[0][1]
    with Image.open(mask) as image:
        assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3), reading.voc_palette()[:256])


def test_a_mask_without_a_channel_axis_is_resized_too():
    mask = tv_tensors.Mask(torch.arange(16, dtype=torch.uint8).reshape(4, 4))
    assert torch.equal(resize(mask, (2, 2)), resize(tv_tensors.Mask(mask[None]), (2, 2))[0])
