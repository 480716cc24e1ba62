"""Notebooks, viewers, pages and graders: what comes from strangers is shown as text, refused, or kept apart.

tests/test_security.py holds more of it, also in a real browser; tests/test_homework.py grades dishonest submissions.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file, save_file

from mtl_course import models, plotting, tasks, training
from mtl_course.errors import CourseError
from mtl_course.exercises import check
from mtl_course.widgets import MaskExplorer

SECTION = "Notebooks, widgets, graders"
ROOT = Path(__file__).resolve().parents[2]
HTML = "<img src=x onerror=alert(1)>"


@pytest.fixture
def checkpoint(tmp_path):
    """`checkpoint(name=..., classes=..., recipe=...)`: a good file, but for what is said."""

    def write(name="semantic", classes=("background", "cat"), recipe=None):
        made = tasks.make(["semantic"], ("background", "cat"))
        torch.manual_seed(0)
        file = training.save(tmp_path / "m.safetensors", models.build("hard", "unet", made, channels=(4, 6)), made)
        usual = {"model": "hard", "trunk": "unet", "trunk_options": {"channels": [4, 6]}}
        kinds = [{"name": name, "kind": "classes", "classes": list(classes)}]
        about = {"version": "1", "recipe": usual | (recipe or {}), "tasks": kinds}
        weights = {key.replace("heads.semantic.", f"heads.{name}."): value for key, value in load_file(file).items()}
        save_file(weights, file, {"mtl_course": json.dumps(about)})
        return file

    return write


@pytest.fixture
def predict(course, tmp_path):
    """`predict(checkpoint)` of one picture; nothing may appear outside of in/out."""

    def run(file, photo="p.png"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / photo)
        before = set(tmp_path.rglob("*"))
        answer = course("predict", "--checkpoint", file, tmp_path / photo, "--out", tmp_path / "in/out", "--size", 16)
        assert answer.code == 0 or set(tmp_path.rglob("*")) == before
        return answer

    return run


def test_a_task_name_that_leads_out_of_the_folder(told, checkpoint, predict):
    answer = predict(checkpoint(name="../../x"))
    told("task name that leads out of --out", "a checkpoint whose task is `../../x`", answer.said, answer.code)


def test_a_class_name_that_acts_on_the_terminal(told, checkpoint, predict):
    answer = predict(checkpoint(classes=("background", "\x1b[2J")))
    told("class name that acts on the terminal", "a checkpoint with the class `ESC[2J`", answer.said, answer.code)


def test_a_class_list_that_acts_on_the_terminal(told, course, voc_copy):
    (voc_copy / "classes.txt").write_text("background\n\x1b]0;x\x07\n")
    answer = course("data", "check", voc_copy)
    told("classes.txt that acts on the terminal", "a line `ESC]0;x`", answer.said, answer.code)


def test_a_pickle_under_the_name_of_a_checkpoint(told, predict, tmp_path):
    class Touches:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "marker"),)

    torch.save({"w": Touches()}, tmp_path / "m.safetensors")
    answer = predict(tmp_path / "m.safetensors")
    assert not (tmp_path / "marker").exists()
    told("pickle under the name of a checkpoint", "torch.save of an object that acts", answer.said, answer.code)


def test_a_recipe_that_would_fetch_weights(told, checkpoint, predict):
    answer = predict(checkpoint(recipe={"trunk": "resnet18:pretrained=1", "trunk_options": {}}))
    told("checkpoint that would fetch weights", "its recipe says `pretrained`", answer.said, answer.code)


@pytest.mark.parametrize(
    ("fault", "made", "text"),
    [
        ("config.yaml that would run code", "`!!python/object/apply`", "root: !!python/object/apply:os.getcwd []\n"),
        ("config.yaml of aliases", "`&a` and `*a`", "size: &a 3\nseed: *a\n"),
        ("config.yaml that is too deep", "3,000 brackets", f"root: {'[' * 3000}\n"),
    ],
)
def test_options_beside_a_checkpoint(told, course, checkpoint, tmp_path, fault, made, text):
    shutil.move(checkpoint(), tmp_path / "best.safetensors")
    (tmp_path / "config.yaml").write_text(text)
    answer = course("evaluate", "--checkpoint", tmp_path / "best.safetensors", "--device", "cpu")
    told(fault, made, answer.said, answer.code)


def test_results_that_lead_to_other_files(told, course, tmp_path):
    (tmp_path / "results").mkdir()
    text = {"photo": "/etc/passwd", "areas": {"../../secret": {"a": {}, "b": {}}}}
    (tmp_path / "results/p.json").write_text(json.dumps(text))
    answer = course("view", tmp_path / "results", "--out", tmp_path / "v.html", "--no-open")
    assert not (tmp_path / "v.html").exists()
    told("results that lead to other files", "a NAME.json with `../../secret`, given to view", answer.said, answer.code)


def test_html_in_names_is_text(told, course, checkpoint, predict, tmp_path):
    assert predict(checkpoint(classes=("background", HTML)), f"{HTML}.png").code == 0
    words = ("--photos", tmp_path, "--out", tmp_path / "v.html", "--no-open")
    answer = course("view", tmp_path / "in/out", *words)
    assert HTML not in (tmp_path / "v.html").read_text()
    told("HTML in the names of a file and a class", f"`{HTML}`: the page shows it as text", answer.out, answer.code)


@pytest.mark.parametrize(
    ("fault", "package", "old"),
    [("JupyterLab below 4.5.9", "jupyterlab", "4.5.8"), ("jupyter_server below 2.20", "jupyter_server", "2.19.0")],
)
def test_a_server_with_known_holes(told, course, monkeypatch, fault, package, old):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: old if name == package else real(name))
    answer = course("doctor")
    (row,) = [line for line in answer.out.splitlines() if package in line and "needed" in line]
    told(fault, f"{old} installed, then doctor", row.split("packages", 1)[1], answer.code)


def test_a_figure_without_words(told):
    with pytest.raises(CourseError) as caught:
        plotting.show(Figure(), alt=" ")
    told("figure without an alt sentence", 'plotting.show(fig, alt=" ")', str(caught.value), "-")


def test_a_mask_that_a_viewer_cannot_show(told):
    with pytest.raises(CourseError) as caught:
        MaskExplorer(torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 7), classes=("background", "cat"))
    told("mask that a viewer cannot show", "class id 7 of 2 classes", str(caught.value), "-")


def test_an_answer_that_equals_everything(told, capsys):
    class Yes:
        shape, requires_grad = (), True

        def __eq__(self, other):
            return True

    name = next(name for name in sorted(dir(check)) if name[0] != "_" and callable(getattr(check, name)))
    getattr(check, name)(lambda *_: Yes())
    said = capsys.readouterr().out
    told("answer that equals everything", f"check.{name} of an object whose == is always true", said, "-")


@pytest.mark.homework
def test_homework_without_bubblewrap(told, tmp_path):
    (tmp_path / "submissions/someone/ps1").mkdir(parents=True)
    (tmp_path / "submissions/someone/ps1/ps1.ipynb").write_text("{}")
    command = [sys.executable, ROOT / "tools/homework.py", tmp_path / "submissions", "--course", tmp_path / "course"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": "/nowhere"})
    assert not (tmp_path / "course").exists()
    told("homework without bubblewrap", "tools/homework.py where bwrap is missing", done.stderr, done.returncode)


@pytest.mark.homework
def test_a_submission_that_is_a_link(told, tmp_path):
    from grading import collect

    (tmp_path / "someone/ps1").mkdir(parents=True)
    (tmp_path / "secret.ipynb").write_text("{}")
    (tmp_path / "someone/ps1/ps1.ipynb").symlink_to(tmp_path / "secret.ipynb")
    with pytest.raises(collect.Refused) as caught:
        collect.read(tmp_path, "someone", "ps1")
    told("submission that is a link", "ps1.ipynb links to another file", str(caught.value), "-")
