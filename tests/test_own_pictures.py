"""data/README.md shows how to lay out pictures of one's own, and what `data check` says to them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_course.__main__ import main

TEXT = (Path(__file__).resolve().parents[1] / "data/README.md").read_text(encoding="utf-8")
SECTION = TEXT.split("\n## Your own pictures\n")[1].split("\n## ")[0]
NAMES = ("tom", "tim", *"abcdefgh")


@pytest.fixture
def root(tmp_path):
    """Ten pictures of 48 x 64, a cat or a dog of 20 x 20 in each, in the folders that the text names."""
    pictures, masks, classes = re.findall(r"^    ROOT/(\S+)", SECTION, flags=re.MULTILINE)
    for k, name in enumerate(NAMES):
        ids = np.zeros((48, 64), np.uint8)
        ids[10:30, 10:30], ids[9] = 1 + k % 2, 255
        for file, pixels in ((pictures, np.stack([ids] * 3, 2)), (masks, ids)):
            place = tmp_path / file.replace("tom", name)
            place.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(place)
    (tmp_path / classes).write_text("background\ncat\ndog\n", encoding="utf-8")
    return tmp_path


def test_what_the_check_prints_is_what_the_text_shows(root, capsys):
    good, bad = re.findall(r"^```\n(.*?)^```$", SECTION, flags=re.DOTALL | re.MULTILINE)
    assert main(["data", "check", str(root)]) == 0
    assert capsys.readouterr().out.replace(str(root), "ROOT") == good
    assert (root / ".mtl_course_check.json").is_file() and "`ROOT/.mtl_course_check.json`" in SECTION
    ids = np.array(Image.open(root / "masks/tom.png"))
    ids[0, 0] = 7
    Image.fromarray(ids).save(root / "masks/tom.png")
    assert main(["data", "check", str(root)]) == 2
    assert capsys.readouterr().out.replace(str(root), "ROOT").startswith(bad + "class ")
    (root / "masks/tim.png").unlink()
    assert main(["data", "check", str(root)]) == 2
    assert "1 of 10 pictures have no mask" in "".join(capsys.readouterr())


def test_the_command_of_the_text_trains_on_them(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"^    python -m mtl_course (train .*)$", SECTION, flags=re.MULTILINE)
    assert main([*line.replace("ROOT", str(root)).split(), "--size", "32", "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "10 pairs checked\n8 pictures to learn from, 2 to choose the epoch, 2 to report" in said
    assert "a little too good" in said and "a little too good" in " ".join(SECTION.split())
