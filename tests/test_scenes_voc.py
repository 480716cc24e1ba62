"""A VOCdevkit of made scenes."""

import errno

import pytest

from mtl_course.commands.scenes_voc import write_scenes_voc
from mtl_course.datasets import VOC
from mtl_course.errors import CourseError


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_scenes_as_voc(tmp_path):
    folder = write_scenes_voc(tmp_path, 6, 3, size=48, seed=1)
    assert folder == tmp_path / "VOCdevkit/VOC2012"
    train = VOC(tmp_path, tasks=("semantic", "foreground", "boundary"), size=48)
    assert len(train) == 6 and len(VOC(tmp_path, split="val")) == 3
    assert train.classes == ("background", "sphere", "box", "cylinder", "cone")
    shares = [(sample["foreground"] == 1).float().mean() for sample in train]
    assert 0.1 < sum(shares) / 6 < 0.6
    assert all((sample["boundary"] == 1).any() for sample in train)
    with pytest.raises(CourseError, match="is there already"):
        write_scenes_voc(tmp_path, 1, 1)


def test_scenes_as_voc_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(CourseError, match="the disk is full, make room"):
        write_scenes_voc(tmp_path, 2, 1, size=32)
    assert not list((tmp_path / "VOCdevkit").iterdir())


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("PIL.Image.Image.save", stop)
    with pytest.raises(KeyboardInterrupt):
        write_scenes_voc(tmp_path, 2, 1, size=32)
    assert not list((tmp_path / "VOCdevkit").iterdir())
