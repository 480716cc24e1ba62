"""Files are whole or not there."""

import errno
import os

import pytest

from mtl_course.errors import CourseError
from mtl_course.files import write_whole


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "file.bin"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two" and os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission to write")])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step, code, words):
    path = write_whole(tmp_path / "file.bin", b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(CourseError, match=f"could not write {path}: .*{words}"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file.bin"]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(CourseError, match="could not write"):
        write_whole(tmp_path / "taken" / "file.bin", b"x")
