"""Your own folder of pictures and masks."""

import numpy as np
import pytest
from PIL import Image
from voc_fixture import draw, save_mask

from mtl_course.datasets import Folder
from mtl_course.errors import CourseError


@pytest.fixture
def folder(tmp_path):
    """10 pictures with the classes background, disc, square, star."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in range(10):
        picture, ids = draw(i)
        ids = np.where(ids == 255, 255, np.searchsorted([0, 8, 12, 15], ids)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"images/photo {i}{('.jpg', '.jpeg', '.png', '.JPG')[i % 4]}")
        save_mask(ids, tmp_path / f"masks/photo {i}.png")
    (tmp_path / "classes.txt").write_text("background\ndisc\nsquare\nstar\n")
    return tmp_path


@pytest.mark.parametrize("augment", [False, True])
def test_samples(folder, augment):
    data = Folder(folder, tasks=("semantic", "foreground", "boundary"), size=48, augment=augment)
    assert len(data) == 10 and data.classes == ("background", "disc", "square", "star")
    for sample in data:
        assert sample["image"].shape == (3, 48, 48)
        for name, task in data.tasks.items():
            task.check(sample[name][None], name)


def test_boundary_is_where_two_classes_meet(folder):
    ids = np.zeros((60, 80), np.uint8)
    ids[:, 40:] = 2
    save_mask(ids, folder / "masks/photo 0.png")
    boundary = Folder(folder, tasks=("boundary",))[0]["boundary"]
    assert (boundary[:, 39:41] == 1).all() and boundary.sum() == 2 * 60
    small = Folder(folder, tasks=("boundary",), size=40)[0]["boundary"][:30]
    assert (small[:, 19:21] == 1).all() and small.sum() == 2 * 30


def test_splits_are_disjoint(folder):
    fit, select = (set(Folder(folder, split=split).names) for split in ("fit", "select"))
    assert len(fit) == 8 and len(select) == 2 and not fit & select


def test_classes_choose_from_the_file_or_name_the_ids(folder):
    assert Folder(folder, classes=("star",)).classes == ("background", "star")
    (folder / "classes.txt").unlink()
    assert Folder(folder, classes=("nothing", "a", "b", "c")).classes == ("nothing", "a", "b", "c")
    with pytest.raises(CourseError, match="0 to 1 .* holds 2, 3: correct the mask or the list of classes"):
        list(Folder(folder, classes=("nothing", "a")))
    with pytest.raises(CourseError, match="all names by id"):
        Folder(folder, classes=("nothing",))


def test_hidden_and_other_files_do_not_count(folder):
    (folder / "images/.DS_Store").write_bytes(b"x")
    (folder / "images/._photo 1.jpg").write_bytes(b"x")
    (folder / "images/notes.txt").write_text("x")
    assert len(Folder(folder)) == 10


def test_unknown_split(folder):
    with pytest.raises(CourseError, match="unknown split 'fitt': did you mean 'fit'"):
        Folder(folder, split="fitt")
