"""Faults of data sets: each is made on the disk, and met by `data check`, by `train`, or by the data set."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image
from voc_fixture import draw, save_mask, write_devkit

from faults.make import (
    NAME,
    change_byte,
    classes,
    cut,
    ids_of,
    instead,
    jpg,
    link_out,
    loop,
    one_pixel,
    png,
    raw_png,
    recolor,
    rotate,
    saved,
    text_bomb,
    train,
)  # fmt: skip
from mtl_course import losses, models, tasks, training
from mtl_course.commands import check
from mtl_course.commands.check import CACHE
from mtl_course.datasets import VOC, Folder, loader
from mtl_course.datasets.reading import read_mask, voc_palette
from mtl_course.datasets.transforms import resize
from mtl_course.errors import CourseError

SECTION = "Data"


def listed(answer):
    """The sentences below "To mend:"."""
    lines = answer.out.splitlines()
    start = lines.index("To mend:") + 1
    return lines[start : next(i for i, line in enumerate(lines) if line.startswith("class "))]


def training_words(root, *more, data="voc", size=16, batch=4):
    return (
        "train",
        "--data",
        data,
        "--root",
        root,
        "--size",
        size,
        "--batch-size",
        batch,
        "--epochs",
        1,
        "--device",
        "cpu",
        *more,
    )


@pytest.fixture
def folder(tmp_path):
    """A folder of 10 pictures of one's own with the classes background, disc, square, star."""
    root = tmp_path / "photos"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(10):
        picture, ids = draw(i)
        ids = np.where(ids == 255, 255, np.searchsorted([0, 8, 12, 15], ids)).astype(np.uint8)
        Image.fromarray(picture).save(root / f"images/photo {i}{('.jpg', '.jpeg', '.png', '.JPG')[i % 4]}")
        save_mask(ids, root / f"masks/photo {i}.png")
    (root / "classes.txt").write_text("background\ndisc\nsquare\nstar\n")
    return root


def thin(folder):
    Image.new("RGB", (20000, 1)).save(jpg(folder))
    save_mask(np.zeros((1, 20000), np.uint8), png(folder))


def lose_masks(folder):
    for file in sorted((folder / "SegmentationClass").iterdir())[2:]:
        file.unlink()


def empty(folder):
    for file in [*(folder / "images").iterdir(), *(folder / "masks").iterdir()]:
        file.unlink()


def rename(folder, name):
    (folder / "masks/photo 2.png").rename(folder / "masks" / name)


def write(file, text, encoding="utf-8"):
    file.write_bytes(text.encode(encoding))


def mask_with_alpha(path):
    Image.fromarray(ids_of(path), "L").convert("LA").save(path)


def renumber(path):
    """As an editor does that keeps the colours in use alone: shown as before, but with ids from 0 on."""
    ids = ids_of(path)
    used = np.unique(ids)[::-1]
    mask = Image.fromarray((used[:, None, None] == ids).argmax(0).astype(np.uint8), "P")
    mask.putpalette(voc_palette()[used].tobytes())
    mask.save(path)


# Orientation 6, and a width that is no whole number, which Pillow cannot write again when it turns the picture.
TAGS = [(0x112, 3, 1, b"\0\x06\0\0"), (0x100, 11, 1, b"\xff\xff\xff\xf0")]
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + b"".join(struct.pack(">HHI4s", *tag) for tag in TAGS) + bytes(4)

# One pair is broken: `data check` goes through all seven and lists this one, `train` starts nothing.
PAIRS = [
    ("JPEG cut short", "half of its bytes", lambda f: cut(jpg(f))),
    ("PNG cut short", "half of its bytes", lambda f: cut(png(f))),
    ("JPEG cut in its header", "2 % of its bytes", lambda f: cut(jpg(f), 0.02)),
    ("PNG without its end", "the last 12 bytes cut off", lambda f: png(f).write_bytes(png(f).read_bytes()[:-12])),
    ("PNG with a changed byte", "a byte of the pixels flipped", lambda f: change_byte(png(f), b"IDAT", 24)),
    ("PNG whose checksum is wrong", "a byte of the checksum flipped", lambda f: change_byte(png(f), b"IEND", -5)),
    ("empty picture", "0 bytes", lambda f: jpg(f).write_bytes(b"")),
    ("empty mask", "0 bytes", lambda f: png(f).write_bytes(b"")),
    ("text under the name of a picture", "`hello`", lambda f: jpg(f).write_text("hello")),
    ("mask in unknown colours", "RGB, one pixel (1, 2, 3)", lambda f: recolor(png(f), "RGB", (7, 9), (1, 2, 3))),
    ("transparent mask", "RGBA, one pixel transparent", lambda f: recolor(png(f), "RGBA", (7, 9, 3), 0)),
    ("grey mask with transparency", "mode LA", lambda f: mask_with_alpha(png(f))),
    ("mask whose colours an editor renumbered", "mode P, ids 0, 1 ... for its colours", lambda f: renumber(png(f))),
    ("1-bit mask", "mode 1, all tasks", lambda f: saved(png(f), "PNG", "1")),
    ("16-bit mask", "mode I;16", lambda f: saved(png(f), "PNG", "I;16")),
    ("4-bit grey mask", "bit depth 4", lambda f: png(f).write_bytes(raw_png(60, 80, 4))),
    ("JPEG under the name of a mask", "grey, quality 95", lambda f: saved(png(f), "JPEG", "L")),
    ("GIF under the name of a mask", "saved as GIF", lambda f: saved(png(f), "GIF", "P")),
    ("WebP under the name of a picture", "saved as WebP", lambda f: saved(jpg(f), "WEBP")),
    ("EPS under the name of a picture", "saved as EPS, which would start Ghostscript", lambda f: saved(jpg(f), "EPS")),
    ("one stray pixel", "one pixel of id 21", lambda f: one_pixel(png(f), 21)),
    ("16-bit grey picture", "mode I;16", lambda f: saved(jpg(f), "PNG", "I;16")),
    ("picture and mask of two sizes", "a picture of 61 x 80", lambda f: Image.new("RGB", (61, 80)).save(jpg(f))),
    ("EXIF turns the picture, the mask is as stored", "orientation 6", lambda f: rotate(jpg(f), 6)),
    ("EXIF with a broken tag", "a width of NaN, turned", lambda f: Image.new("RGB", (80, 60)).save(jpg(f), exif=EXIF)),
    ("EXIF turns the mask", "orientation 3", lambda f: rotate(png(f), 3)),
    ("decompression bomb", "header of 9000 x 9000", lambda f: png(f).write_bytes(raw_png(9000, 9000, rows=b"\0"))),
    ("larger bomb", "header of 60000 x 60000", lambda f: png(f).write_bytes(raw_png(60000, 60000, rows=b"\0"))),
    ("text bomb", "a text of 300 MB in a PNG of 300 kB", lambda f: png(f).write_bytes(text_bomb())),
    ("picture as thin as a line", "20000 x 1", lambda f: thin(f)),
    ("picture without width", "header of 0 x 80", lambda f: png(f).write_bytes(raw_png(0, 80, rows=b""))),
    ("folder in the place of a picture", "mkdir", lambda f: instead(jpg(f), os.mkdir)),
    ("pipe in the place of a mask", "mkfifo", lambda f: instead(png(f), os.mkfifo)),
    ("broken link", "to a file that is not there", lambda f: instead(png(f), os.symlink, "nowhere.png")),
    ("link to itself", "a circle of one link", lambda f: loop(jpg(f))),
]  # fmt: skip


@pytest.mark.parametrize("fault, made, do", PAIRS, ids=[row[0] for row in PAIRS])
def test_a_broken_pair(fault, made, do, voc_copy, tmp_path, course, told):
    do(voc_copy)
    answer = course("data", "check", tmp_path)
    (sentence,) = listed(answer)
    told(fault, made, sentence, answer.code)
    assert "6 of 7 pairs are good" in answer.said
    again = course(*training_words(tmp_path, "--out", tmp_path / "run"))
    assert again.code == 2 and again.said.startswith(sentence) and not (tmp_path / "run").exists()


# What is wrong with the set as a whole; `train` says the first sentence.
SETS = [
    ("picture lost", "one deleted", lambda f: jpg(f).unlink()),
    ("mask lost", "one deleted", lambda f: png(f).unlink()),
    ("mask too many", "one more", lambda f: save_mask(np.zeros((9, 9), np.uint8), f / "SegmentationClass/extra.png")),
    ("half-extracted set", "all masks but two deleted", lose_masks),
    ("folder lost", "JPEGImages renamed", lambda f: jpg(f).parent.rename(f / "x")),
    ("split line leaves the folder", "`../../x`", lambda f: train(f).write_text(f"{NAME}\n../../x\n")),
    ("split line with a backslash", "`..\\x`", lambda f: train(f).write_text(f"{NAME}\n..\\x\n")),
    ("split line with an absolute path", "`/etc/passwd`", lambda f: train(f).write_text(f"{NAME}\n/etc/passwd\n")),
    ("link leaves the root", "a picture moved out, a link left", lambda f: link_out(jpg(f))),
    ("folder is a link that leaves the root", "JPEGImages moved out, a link left", lambda f: link_out(jpg(f).parent)),
    ("split is a link that leaves the root", "train.txt moved out, a link left", lambda f: link_out(train(f))),
    ("split empty", "one empty line", lambda f: train(f).write_text("\n")),
    ("split with a second column", "`NAME -1`, as in the files of a class", lambda f: write(train(f), f"{NAME} -1\n")),
    ("split in UTF-16", "encoded anew", lambda f: train(f).write_text(train(f).read_text(), "utf-16")),
    ("split of any bytes", "the bytes 128 to 255", lambda f: train(f).write_bytes(bytes(range(128, 256)))),
    ("split is a folder", "mkdir", lambda f: instead(train(f), os.mkdir)),
    ("split is a pipe", "mkfifo", lambda f: instead(train(f), os.mkfifo)),
    ("one class named", "classes.txt of one line", lambda f: classes(f).write_text("background\n")),
    ("256 classes named", "classes.txt of 256 lines", lambda f: classes(f).write_text("\n".join(map(str, range(256))))),
    ("class named twice", "classes.txt with a line twice", lambda f: classes(f).write_text("background\ncat\ncat\n")),
    ("classes empty", "classes.txt of 0 bytes", lambda f: classes(f).write_bytes(b"")),
    ("classes in UTF-16", "with the mark of its byte order", lambda f: write(classes(f), "a\nb\n", "utf-16")),
    ("classes in UTF-16 without mark", "encoded so", lambda f: write(classes(f), "a\nb\n", "utf-16-le")),
    ("class name that acts on a terminal", "with an escape code", lambda f: write(classes(f), "a\n\x1b[2Jb\n")),
    ("classes are a folder", "mkdir", lambda f: classes(f).mkdir()),
    ("classes are a pipe", "mkfifo", lambda f: os.mkfifo(classes(f))),
    ("classes are a link that leaves the root", "link to a file outside", lambda f: link_out(classes(f))),
    ("classes of 20 MB", "a file of 20 MB", lambda f: classes(f).write_bytes(b"cat\n" * 5_000_000)),
]  # fmt: skip


@pytest.mark.parametrize("fault, made, do", SETS, ids=[row[0] for row in SETS])
def test_a_broken_set(fault, made, do, voc_copy, tmp_path, course, told):
    do(voc_copy)
    answer = course("data", "check", tmp_path)
    sentence = listed(answer)[0] if "To mend:" in answer.out else answer.said
    told(fault, made, sentence, answer.code)
    again = course(*training_words(tmp_path, "--out", tmp_path / "run"))
    assert again.code == 2 and not (tmp_path / "run").exists()


# A folder of one's own.
OWN = [
    ("name twice", "a JPEG beside the PNG", lambda f: shutil.copy(f / "images/photo 0.jpg", f / "images/photo 2.jpg")),
    ("no classes.txt", "deleted", lambda f: (f / "classes.txt").unlink()),
    ("no masks", "the folder renamed", lambda f: (f / "masks").rename(f / "labels")),
    ("no pictures", "both folders emptied", empty),
    ("objects saved as 255", "masks of 0 and 255 alone", lambda f: [
        save_mask(np.where(ids_of(p) == 0, 0, 255).astype(np.uint8), p) for p in (f / "masks").iterdir()]),
    ("names differ by case", "Photo 2.png in masks", lambda f: rename(f, "Photo 2.png")),
    ("two suffixes", "photo 2.jpg.png in masks", lambda f: rename(f, "photo 2.jpg.png")),
]  # fmt: skip


@pytest.mark.parametrize("fault, made, do", OWN, ids=[row[0] for row in OWN])
def test_a_broken_folder(fault, made, do, folder, tmp_path, course, told):
    do(folder)
    answer = course("data", "check", folder)
    told(fault, made, listed(answer)[0] if "To mend:" in answer.out else answer.said, answer.code)
    again = course(*training_words(folder, "--out", tmp_path / "run", data="folder"))
    assert again.code == 2 and not (tmp_path / "run").exists()


# Places that hold no set. FOLDER holds `devkit/VOCdevkit` and `photos`.
PLACES = [
    ("ROOT is not there", "a path of nothing", "nowhere"),
    ("ROOT is a file", "a picture", "devkit/VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg"),
    ("ROOT is an address", "https://...", "https://example.org/data"),
    ("ROOT is one level too high", "the folder above devkit", "."),
    ("ROOT is one level too low", "VOC2012/JPEGImages", "devkit/VOCdevkit/VOC2012/JPEGImages"),
    ("ROOT of one's own pictures is too low", "photos/images", "photos/images"),
]  # fmt: skip


@pytest.mark.parametrize("fault, made, place", PLACES, ids=[row[0] for row in PLACES])
def test_a_wrong_place(fault, made, place, folder, tmp_path, course, told, monkeypatch):
    write_devkit(tmp_path / "devkit", 3, 1)
    monkeypatch.chdir(tmp_path)
    answer = course("data", "check", place)
    told(fault, made, answer.said, answer.code)


def test_all_faults_are_listed_and_counted(tmp_path, course, told):
    folder = write_devkit(tmp_path, 14, 1)
    for number, path in enumerate(sorted((folder / "JPEGImages").iterdir())[:12]):
        path.write_bytes(b"" if number % 2 else b"x")
    answer = course("data", "check", tmp_path)
    told("many faults", "12 pictures damaged", answer.said, answer.code)
    assert len(listed(answer)) == 12


def test_many_lost_files_are_counted_and_ten_named(tmp_path, course, told):
    folder = write_devkit(tmp_path, 14, 1)
    for path in sorted((folder / "JPEGImages").iterdir())[:12]:
        path.unlink()
    answer = course("data", "check", tmp_path)
    told("12 pictures lost", "deleted", answer.said, answer.code)
    assert answer.said.count("2007_") == 10


# Rights, full disks, and what an earlier check left


@contextmanager
def as_stranger(tmp_path):
    """Who runs the tests has no rights but those that everybody has."""
    for parent in (tmp_path, *tmp_path.parents):  # pytest closes them to others
        parent.chmod(0o755)
        if parent.name.startswith("pytest-of-"):
            break
    "".encode("utf-8-sig")  # found now, since a stranger may not read root's Python
    Image.init()
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    "fault, file",
    [("picture that may not be read", jpg), ("mask that may not be read", png), ("split that may not be read", train)],
)
def test_no_permission_to_read(fault, file, voc_copy, tmp_path, course, told):
    file(voc_copy).chmod(0)
    with as_stranger(tmp_path):
        answer = course("data", "check", tmp_path)
    told(fault, "chmod 000", listed(answer)[0] if "To mend:" in answer.out else answer.said, answer.code)


def note(answer):
    return next(line for line in answer.out.splitlines() if line.startswith("The next check"))


def test_a_root_that_may_not_be_written(voc_copy, tmp_path, course, told):
    voc_copy.chmod(0o555)
    with as_stranger(tmp_path):
        answer = course("data", "check", tmp_path)
    told("ROOT may not be written", "chmod 555", note(answer), answer.code)
    assert answer.code == 0 and "All 7 pairs" in answer.out and not (voc_copy / CACHE).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_the_disk_is_full(voc_copy, tmp_path, course, told):
    (voc_copy / f".{CACHE}.{os.getpid()}.part").symlink_to("/dev/full")
    answer = course("data", "check", tmp_path)
    told("disk full while the result is kept", "the file is /dev/full", note(answer), answer.code)
    assert answer.code == 0 and "All 7 pairs" in answer.out and not list(voc_copy.glob(".*"))


@pytest.fixture
def opens(monkeypatch):
    """The names of the pictures that Pillow opens."""
    seen, usual = [], Image.open
    monkeypatch.setattr(
        Image, "open", lambda file, *more, **options: seen.append(Path(file).name) or usual(file, *more, **options)
    )
    return seen


def test_the_second_check_reads_no_picture_that_is_good(voc_copy, tmp_path, course, opens):
    first = course("data", "check", tmp_path)
    assert first.code == 0 and len(set(opens)) == 14
    opens.clear()
    assert course("data", "check", voc_copy) == first and not opens
    assert course("data", "check", tmp_path, "--classes", "cat").code == 0 and not opens
    cut(png(voc_copy))
    for _ in range(2):  # what is not good is not kept
        assert course("data", "check", tmp_path).code == 2 and set(opens) == {f"{NAME}.jpg", f"{NAME}.png"}
        opens.clear()


def test_train_uses_what_the_check_has_found_and_the_other_way_round(voc_copy, tmp_path, course, opens):
    answer = course(*training_words(tmp_path, "--out", tmp_path / "run"))
    assert answer.code == 0 and "7 pairs checked" in answer.out
    opens.clear()
    assert course("data", "check", tmp_path).code == 0 and not opens


def test_the_verdict_depends_on_the_tasks_and_on_the_number_of_classes(folder, course):
    (folder / "classes.txt").unlink()
    for file in (folder / "masks").iterdir():
        Image.fromarray(ids_of(file) > 0).save(file)
    assert "10 pairs" in course("data", "check", folder, "--classes", "no,yes", "--tasks", "foreground").out
    answer = course("data", "check", folder, "--classes", "no,yes")
    assert answer.code == 2 and len(listed(answer)) == 10 and "1-bit" in answer.out
    for file in (folder / "masks").iterdir():
        save_mask(ids_of(file).astype(np.uint8) * 2, file)
    assert course("data", "check", folder, "--classes", "no,a,b").code == 0
    assert course("data", "check", folder, "--classes", "no,a").code == 2


FOREIGN = [
    b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}', b'{"a": []}', b'{"a": {"b": [1]}}',
    b'{"a": "%s"}' % (b"x" * 257), *(json.dumps({"a": [x] * 257}).encode() for x in (10**400, 1.5, None, "1", [1])),
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_damaged_or_foreign_file_of_results_is_made_anew(content, voc_copy, tmp_path, course, opens):
    (voc_copy / CACHE).write_bytes(content)
    assert course("data", "check", tmp_path).code == 0 and len(set(opens)) == 14
    opens.clear()
    assert course("data", "check", tmp_path).code == 0 and not opens


def test_a_forged_result_of_another_shape_is_not_believed(voc_copy, tmp_path, course):
    course("data", "check", tmp_path)
    kept = json.loads((voc_copy / CACHE).read_text())
    for forged in ([-1] * 256, ["1"] * 256, [True] * 256, [1] * 257, {}, [[1]] * 256, [2**63] * 256):
        (voc_copy / CACHE).write_text(json.dumps(dict.fromkeys(kept, forged)))
        answer = course("data", "check", tmp_path)
        assert answer.code == 0 and "background" in answer.out
        assert json.loads((voc_copy / CACHE).read_text()) == kept, forged


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_something_else_in_the_place_of_the_results(make, voc_copy, tmp_path, course):
    make(voc_copy / CACHE)
    assert course("data", "check", tmp_path).code == 0


def test_a_file_changed_after_the_check_is_looked_at_again(voc_copy, tmp_path, course, told):
    course("data", "check", tmp_path)
    stat = png(voc_copy).stat()
    change_byte(png(voc_copy), b"IDAT", 24)
    os.utime(png(voc_copy), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert png(voc_copy).stat().st_size == stat.st_size
    answer = course(*training_words(tmp_path, "--out", tmp_path / "run"))
    told(
        "mask damaged after the check, size and time as before", "a byte flipped, then utime", answer.said, answer.code
    )
    assert not (tmp_path / "run").exists()


def test_ctrl_c_keeps_what_was_checked(voc_copy, tmp_path, course, told, monkeypatch, opens):
    seen, counted = [], check._counted

    def stop_at_the_fifth(picture, *more):
        seen.append(picture)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return counted(picture, *more)

    monkeypatch.setattr(check, "_counted", stop_at_the_fifth)
    answer = course("data", "check", tmp_path)
    told("Ctrl-C during the check", "SIGINT at the fifth pair", answer.said, answer.code)
    kept = json.loads((voc_copy / CACHE).read_text()) if (voc_copy / CACHE).exists() else {}
    assert answer.code == 130 and len(kept) < 7 and not list(voc_copy.glob("*.part"))
    monkeypatch.setattr(check, "_counted", counted)
    opens.clear()
    assert course("data", "check", tmp_path).code == 0 and len(set(opens)) == 14 - 2 * len(kept)


# What is legal, and said


HONEST = {
    "VOC's": voc_palette(),
    "grey": np.arange(256)[:, None].repeat(3, 1),
    "black alone": np.zeros((256, 3)),
    "VOC's green for class 1": np.array([(0, 0, 0), (0, 128, 0), (128, 0, 0)]),
    "black for class 2": np.array([(255, 255, 255), (255, 0, 0), (0, 0, 0)]),
}


@pytest.mark.parametrize("palette", HONEST)
def test_a_palette_of_ones_own_is_welcome(palette, tmp_path):
    ids = np.array([[0, 1], [2, 1]], np.uint8)
    mask = Image.fromarray(ids, "P")
    mask.putpalette(HONEST[palette].astype(np.uint8).tobytes())
    mask.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", 3), ids)


def test_the_table_of_classes_counts_pixels_and_pictures(voc_copy, tmp_path, course):
    out = course("data", "check", tmp_path, "--classes", "dog,cat,cow").out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:5]}
    every = np.stack(
        [np.bincount(ids_of(file).ravel(), minlength=256) for file in sorted(png(voc_copy).parent.iterdir())]
    )
    for name, column in (("dog", every[:, 12]), ("cat", every[:, 8]), ("background", every[:, 0])):
        share = f"{column.sum() / every.sum():.2%}"
        assert rows[name] == [str((column > 0).sum()), f"{column.sum():,}", share]
    assert rows["cow"] == ["0", "0", "0.00%"]


def test_a_square_picture_that_exif_turns_is_turned_and_its_mask_is_not(tmp_path):
    """The one rule: a mask fits the picture as it is seen upright, also where no size gives a mistake away."""
    colors, ids = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60), np.uint8)
    colors[:30, :30] = ids[:30, 30:] = 255  # turned a quarter clockwise, the white corner is on the right
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colors).save(tmp_path / "images/a.jpg", exif=exif)
    save_mask(ids // 255, tmp_path / "masks/a.png")
    sample = Folder(tmp_path, classes=["nothing", "white"])[0]
    assert torch.equal(sample["image"][0] > 0.5, sample["semantic"] == 1)


@pytest.mark.parametrize(
    "name",
    ["with blanks", "天空 1", "-r", "x" * 251, "a;rm b", "line\nfeed", os.fsdecode(b"latin \xe9"), "\x1b[2J", "'$(x)'"],
)
def test_odd_names_are_welcome(name, folder, course):
    for part, suffix in (("images", ".jpg"), ("masks", ".png")):
        shutil.copy(folder / part / f"photo 0{suffix}", folder / part / f"{name}{suffix}")
    answer = course("data", "check", folder)
    assert answer.code == 0 and "All 11 pairs" in answer.out
    cut(folder / f"masks/{name}.png")
    (sentence,) = listed(course("data", "check", folder))
    assert sentence.isprintable() and "Truncated" in sentence and "\x1b" not in answer.out


def test_a_name_may_be_written_in_two_forms_of_unicode(folder, course):
    """macOS takes an accent apart: its picture is the picture of a mask from elsewhere."""
    for part, suffix, form in (("images", ".jpg", "NFD"), ("masks", ".png", "NFC")):
        (folder / part / f"photo 0{suffix}").rename(folder / part / (normalize(form, "forêt") + suffix))
    (folder / "classes.txt").write_text("background\ndisc\nsquare\n" + normalize("NFD", "étoile"), "utf-8")
    assert course("data", "check", folder).code == 0
    assert course("data", "check", folder, "--classes", normalize("NFC", "étoile")).code == 0


def test_the_test_set_of_voc_has_no_masks_and_is_not_looked_at(voc_copy, tmp_path, course):
    (voc_copy / "ImageSets/Segmentation/test.txt").write_text("2008_000006\n2008_000011\n")
    answer = course("data", "check", tmp_path)
    assert answer.code == 0 and "All 7 pairs" in answer.out


def test_lines_of_a_split_may_come_twice_and_end_as_in_windows(voc_copy, tmp_path, course):
    names = train(voc_copy).read_text().split()
    train(voc_copy).write_bytes("\ufeff".encode() + "\r\n".join([*names, names[0], "", " "]).encode())
    assert course("data", "check", tmp_path).code == 0 and VOC(tmp_path).names == names


@pytest.mark.parametrize(
    "root", ["{}", "{}/VOCdevkit", "{}/VOCdevkit/VOC2012", "~", ".", "./VOCdevkit/../VOCdevkit/", "link"]
)
def test_a_root_may_be_named_in_many_ways(root, voc_copy, tmp_path, course, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to("VOCdevkit")
    assert "All 7 pairs" in course("data", "check", root.format(tmp_path)).out
    assert "All 7 pairs" in course("data", "check", "--root", root.format(tmp_path)).out


def test_without_root_it_is_that_of_the_environment(voc_copy, tmp_path, course, told, monkeypatch):
    monkeypatch.setenv("MTL_COURSE_DATA", str(tmp_path))
    assert "All 7 pairs" in course("data", "check").out
    monkeypatch.setenv("MTL_COURSE_DATA", "none")
    told(
        "no ROOT, MTL_COURSE_DATA is none",
        "the environment says so",
        (answer := course("data", "check")).said,
        answer.code,
    )


def test_two_thousand_pairs(tmp_path, course):
    folder = write_devkit(tmp_path, 1, 1)
    names = [f"{i:06d}" for i in range(2000)]
    for name in names:
        os.link(jpg(folder), folder / f"JPEGImages/{name}.jpg")
        os.link(png(folder), folder / f"SegmentationClass/{name}.png")
    (folder / "ImageSets/Segmentation/train.txt").write_text("\n".join(names))
    assert "All 2002 pairs" in course("data", "check", tmp_path).out


# During training


def test_a_file_lost_after_the_set_was_opened(voc_copy, told):
    data = VOC(voc_copy, size=32)
    png(voc_copy).unlink()
    with pytest.raises(CourseError) as caught:
        data[0]
    told("mask lost during training", "deleted once the set is open", str(caught.value), "-")


def test_two_processes_are_told_in_one_sentence_each(voc_copy, tmp_path, told):
    one_pixel(png(voc_copy), 21)
    words = [str(word) for word in training_words(tmp_path, "--out", tmp_path / "run")]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "mtl_course", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = sorted(
        {line.partition("mtl_course: ")[2] for line in done.stderr.splitlines() if "mtl_course: rank" in line}
    )
    assert done.returncode and lines and not (tmp_path / "run").exists()
    assert lines[0].startswith("rank 0: ") and all("another process stopped" in line for line in lines[1:])
    told("damaged mask, two processes", "one pixel of id 21", lines[0], done.returncode)


class Given(torch.utils.data.Dataset):
    """Four pictures of 16 x 16 with the same target."""

    def __init__(self, task, target):
        self.tasks = {task.name: task}
        self.sample = {"image": torch.rand(3, 16, 16), task.name: target}

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.sample


def fitted(data, **options):
    model = models.build("hard", "unet", data.tasks, channels=(4, 8))
    history = training.fit(model, data.tasks, loader(data, 2), epochs=1, device="cpu", progress=False, **options)
    assert all(p.isfinite().all() for p in model.parameters())
    return history


def test_a_binary_task_checks_its_target(told):
    target = torch.zeros(16, 16, dtype=torch.int64)
    target[3, 4] = 2
    with pytest.raises(CourseError) as caught:
        fitted(Given(tasks.foreground(), target))
    told("target 2 in a binary task", "one pixel", str(caught.value), "-")


def test_255_in_a_binary_task_is_ignored(told):
    target = torch.zeros(16, 16, dtype=torch.int64)
    target[:8] = 255
    logits = torch.randn(1, 1, 16, 16, requires_grad=True)
    loss = losses.binary_cross_entropy(logits, target[None])
    loss.backward()
    assert loss >= 0 and not logits.grad[:, :, :8].any() and logits.grad[:, :, 8:].all()
    fitted(Given(tasks.foreground(), target))
    told(
        "target 255 in a binary cross-entropy",
        "half of the pixels",
        "(no fault: the pixels are ignored, the loss is not below 0)",
        0,
    )


@pytest.mark.parametrize("rule", ["equal", "uncertainty"])
def test_a_batch_without_a_valid_pixel(rule, folder, tmp_path, course, told):
    for file in sorted((folder / "masks").iterdir())[:6]:
        save_mask(np.full_like(ids_of(file), 255), file)
    words = training_words(
        folder, "--out", tmp_path / "run", "--tasks", "semantic,foreground", "--rule", rule, data="folder", batch=1
    )
    answer = course(*words)
    assert answer.code == 0 and not answer.said
    names, values = ((tmp_path / "run/history.csv").read_text().splitlines()[i].split(",") for i in (0, 1))
    assert all(np.isfinite(float(value)) for name, value in zip(names, values) if name.startswith("loss/"))
    _, restored = training.load(tmp_path / "run/best.safetensors")
    assert list(restored) == ["semantic", "foreground"]
    if rule == "uncertainty":
        told(
            "all pixels ignored in a batch",
            "6 of 10 masks are 255, batches of 1",
            "(no fault: that batch gives 0, all weights are finite)",
            0,
        )


def test_class_weights_of_zero(told):
    weights = torch.tensor([0.0, 1.0])
    task = replace(tasks.semantic(("a", "b")), loss=partial(losses.cross_entropy, class_weights=weights))
    with pytest.raises(CourseError) as caught:
        fitted(Given(task, torch.zeros(16, 16, dtype=torch.int64)))
    told("a class weight of 0 for every class present", "weights (0, 1), masks of 0", str(caught.value), "-")


@pytest.mark.parametrize("augment", [False, True])
def test_resized_masks_hold_no_new_ids(augment, voc_copy, told):
    for file in png(voc_copy).parent.iterdir():
        save_mask((np.indices(ids_of(file).shape).sum(0) % 2 * 15).astype(np.uint8), file)
    found = {i for sample in VOC(voc_copy, size=33, augment=augment) for i in sample["semantic"].unique().tolist()}
    assert found <= {0, 15, 255}
    assert resize(torch.tensor([[[0, 15], [15, 0]]], dtype=torch.uint8), (1, 1)) not in (0, 15)  # a plain tensor would
    told(
        "bilinear resize of a mask",
        "masks of 0 and 15 in turn, all of odd size",
        "(no fault: no id but 0, 15 and 255 comes out)",
        0,
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_masks_in_vocs_colours_are_mapped_back(mode, voc_copy, tmp_path, course):
    ids = ids_of(png(voc_copy))
    with Image.open(png(voc_copy)) as mask:
        Image.fromarray(ids, "L").save(png(voc_copy)) if mode == "L" else mask.convert(mode).save(png(voc_copy))
    assert course("data", "check", tmp_path).code == 0
    assert np.array_equal(VOC(voc_copy)[0]["semantic"].numpy(), ids)
