"""Whatever stands on the command line: exit code 0, or 2 with one sentence, no traceback and nothing left behind."""

import contextlib
import io
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from drawn import held
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mtl_course import models, tasks, training
from mtl_course.__main__ import COMMANDS, main

NASTY = (
    "", " ", "-", "--", "---", "\0", "a\0b", "é 猫", "\u202e", "x" * 300, "x" * 5000, "-1", "--nothing", "nan", "inf",
    "-inf", "1e999", "1_0", "９", "\udcff", "@file", "%s%n", "a\nb", "=", ",", ",,", "0x10", "\x1b[31m", "~", "~nobody",
    "../x", ".", "/dev/null", "/etc/passwd", "9" * 5000, "0", "1.5", "true", "a:b=c", "a:", ":", "[1", "{", "*", "&a",
    "$(false)", "'", '"', "--help=1", "--out", "semantic,semantic", "unet:channels=1", "mixture:experts=-1",
    "cagrad:c=", "nowhere/a/b",
)  # fmt: skip
GOOD = (
    "1", "2", "0.5", "16", "scenes", "voc", "folder", "semantic", "semantic,depth", "equal", "pcgrad", "hard", "unet",
    "cpu",
)  # fmt: skip
nasty = st.one_of(st.sampled_from(NASTY), st.text(max_size=6))
values = st.one_of(nasty, st.sampled_from(GOOD))


class Cut(Exception):
    """The work would begin here."""


def flags_of(command):
    """The options of a command, each with whether a value follows."""
    found = []

    def add(*names, **options):
        found.extend(
            (name, "action" not in options or options["action"] == "append") for name in names if name[0] == "-"
        )

    COMMANDS[command](add)
    return found


def option(command, without=()):
    """An option as words, mostly with a value, after a space or =."""
    flags = [pair for pair in flags_of(command) if pair[0] not in without]
    if not flags:
        return st.lists(values, max_size=1)
    flag = st.sampled_from(flags)
    apart = st.tuples(flag, values).map(lambda drawn: [drawn[0][0], drawn[1]] if drawn[0][1] else [drawn[0][0]])
    joined = st.tuples(flag, values).map(lambda drawn: [f"{drawn[0][0]}={drawn[1]}"])
    return st.one_of(apart, apart, joined, flag.map(lambda pair: [pair[0]]), st.lists(nasty, max_size=1))


def line(command):
    return st.lists(option(command), max_size=5).map(
        lambda parts: [command, *(word for part in parts for word in part)]
    )


lines = st.one_of(
    *(line(command) for command in COMMANDS),
    st.lists(values, max_size=4),
    st.sampled_from(sorted(COMMANDS)).map(lambda command: [command, "--help"]),
)


def run(words):
    """Exit code ("cut" where the work would begin), and what was said on stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except Cut:
            code = "cut"
        except SystemExit as end:
            code = end.code
    return code, err.getvalue()


def everything(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def check(words, root, sentences=1):
    before = everything(root)
    code, said = run(words)
    assert code in (0, 2, "cut"), code
    if code == 2:
        rows = said.split("\n")
        assert rows.pop() == "" and 1 <= len(rows) <= sentences, said
        assert all(row.startswith("mtl_course: ") and len(row) > 20 and row.isprintable() for row in rows), said
        assert everything(root) == before, "a mistake leaves nothing behind"
    else:
        assert said == ""
    return code


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working directory, with room above it for ../x."""
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return tmp_path


@held(150)
@given(lines)
@example(["predict", "--checkpoint", "m", "--out", "o", "\0"])
@example(["train", "--config", "\0"])
@example([])
def test_any_line_is_parsed_or_refused_in_one_sentence(place, words):
    with (
        patch("mtl_course.__main__.resolve_name", return_value=lambda _: 0),
        patch("mtl_course.doctor.run_doctor", int),
    ):
        check(words, place)


@pytest.fixture(scope="module")
def given_files(tmp_path_factory):
    """A checkpoint and a photograph."""
    folder = tmp_path_factory.mktemp("given")
    which = tasks.make(["semantic", "depth"], ["wall", "floor", "sphere", "box", "cylinder", "cone"])
    training.save(folder / "m.safetensors", models.build("hard", "unet", which, channels=(2, 3)), which)
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(folder / "photo.png")
    return folder


def bases(folder):
    """A line of each command that works, small."""
    model, photo = ["--checkpoint", str(folder / "m.safetensors")], str(folder / "photo.png")
    small = ["--size", "16", "--device", "cpu"]
    return {
        "train": ["--samples", "8", "--batch-size", "4", "--out", "run", *small],
        "evaluate": [*model, *small],
        "predict": [*model, photo, "--out", "out", *small],
        "view": [str(folder / "m.safetensors"), "--no-open", "--out", "page.html", "--samples", "1", *small],
        "export": [*model, "--out", "m.onnx"],
        "data": ["scenes", "--samples", "4", "--size", "16"],
        "records": ["list"],
    }


# What takes long, opens a browser, goes to the internet or changes the threads of this process.
NOT_HERE = ("--pretrained", "--threads", "--workers", "--compile", "--no-compile", "--write", "--no-open")
CUTS = (
    "mtl_course.training.fit", "mtl_course.training.evaluate", "mtl_course.commands.export._program",
    "mtl_course.commands.data.download_voc", "mtl_course.commands.data.write_scenes_voc",
)  # fmt: skip


@st.composite
def real_lines(draw):
    command = draw(st.sampled_from(["train", "train", "evaluate", "predict", "view", "export", "data", "records"]))
    drawn = draw(st.lists(option(command, NOT_HERE), min_size=1, max_size=2))
    return command, [word for part in drawn for word in part]


@held(50)
@given(real_lines())
@example(("predict", ["a\0b.png"]))
@example(("train", ["--out", "a\0b"]))
@example(("view", ["--photos", "\0"]))
@example(("export", ["--out", "\0"]))
@example(("data", ["--root", "\0"]))
def test_a_command_that_works_with_drawn_options_works_or_says_one_sentence(place, given_files, drawn):
    command, more = drawn
    with contextlib.ExitStack() as cuts:
        for target in CUTS:
            cuts.enter_context(patch(target, side_effect=Cut))
        cuts.enter_context(patch("webbrowser.open"))
        cuts.enter_context(patch.dict(os.environ, {"MTL_COURSE_DATA": "none"}))
        check([command, *bases(given_files)[command], *more], place, sentences=2 if command == "predict" else 1)


@pytest.mark.parametrize("command", bases(Path()))
def test_the_lines_to_start_from_work(place, given_files, command):
    """Else the test before this one would only see refusals."""
    with contextlib.ExitStack() as cuts:
        for target in CUTS:
            cuts.enter_context(patch(target, side_effect=Cut))
        assert check([command, *bases(given_files)[command]], place) in (0, "cut")
