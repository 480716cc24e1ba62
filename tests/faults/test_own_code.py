"""Models and data sets of one's own, and files with our names: what the course says, and that nothing is lost."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from voc_fixture import write_leaves

from mtl_course import datasets, models, tasks, training
from mtl_course.errors import CourseError

SECTION = "Models, data sets and files of one's own"
SCENES = datasets.Scenes(8, size=16, tasks=["foreground", "depth"])
QUICK = ["--size", "16", "--batch-size", "4", "--trunk-option", "channels=[4,8]", "--device", "cpu", "--threads", "1"]


@pytest.fixture(autouse=True)
def usual_threads():
    yield
    torch.set_num_threads(2)


class Net(nn.Module):
    """Answers what `form` makes of the right answer."""

    def __init__(self, form):
        super().__init__()
        self.net, self.form = models.HardSharing(models.UNet((4, 8)), SCENES.tasks), form

    def forward(self, images):
        return self.form(self.net(images))


ANSWERS = {
    "model answers a tuple": lambda found: tuple(found.values()),
    "model answers nothing": lambda found: None,
    "model answers one tensor": lambda found: found["depth"],
    "model lacks an answer": lambda found: {"depth": found["depth"]},
    "one answer of a model is nothing": lambda found: found | {"foreground": None},
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_answers_of_a_model(told, fault):
    said = set()
    for work in (
        lambda net: training.fit(net, SCENES.tasks, DataLoader(SCENES, 4), epochs=1, device="cpu", progress=False),
        lambda net: training.evaluate(net, SCENES.tasks, DataLoader(SCENES, 4), "cpu", progress=False),
    ):
        with pytest.raises(CourseError) as error:
            work(Net(ANSWERS[fault]))
        said.add(str(error.value).partition("; its pictures")[0])
    told(fault, "a forward of one's own", said.pop(), "-")
    assert not said, "fit and evaluate say the same"


def test_more_than_is_asked_for_is_left_alone():
    net = Net(lambda found: found | {"features": [1, 2]})
    assert training.fit(net, SCENES.tasks, DataLoader(SCENES, 4), epochs=1, device="cpu", progress=False)


def test_a_target_that_is_no_tensor(told):
    batches = [SCENES.stack() | {"depth": ["a.png"] * 8}]
    with pytest.raises(CourseError) as error:
        training.evaluate(Net(dict), SCENES.tasks, batches, "cpu", progress=False)
    told("target that is no tensor", "names of files in its place", str(error.value), "-")


def test_a_patience_of_none_at_all(told):
    with pytest.raises(CourseError) as error:
        training.fit(Net(dict), SCENES.tasks, DataLoader(SCENES, 4), epochs=1, device="cpu", patience=0)
    told("patience of 0", "`fit(..., patience=0)`", str(error.value), "-")


CLASSES = {
    "class of a task named twice": ["cat", "cat"],
    "one class alone": ["cat"],
    "256 classes": [str(i) for i in range(256)],
}


@pytest.mark.parametrize("fault", CLASSES)
def test_classes_that_no_mask_can_tell_apart(told, fault):
    with pytest.raises(CourseError) as error:
        tasks.semantic(CLASSES[fault])
    told(fault, "`tasks.semantic`", str(error.value), "-")


def test_a_task_with_classes_needs_their_names(told):
    with pytest.raises(CourseError) as error:
        tasks.make(["semantic", "depth"])
    told("semantic without classes", '`tasks.make(["semantic", "depth"])`', str(error.value), "-")
    assert list(tasks.make(["depth"])) == ["depth"]


def test_a_model_trained_on_some_of_its_tasks(told, course, tmp_path):
    model = models.build("hard", "unet", SCENES.tasks, channels=(4, 8))
    some = tasks.pick(SCENES.tasks, ["depth"])
    training.fit(model, some, DataLoader(SCENES, 4), epochs=1, device="cpu", progress=False, checkpoint=tmp_path)
    best = tmp_path / "best.safetensors"
    answer = course("evaluate", "--checkpoint", best)
    said = re.sub(r'"heads.*?\)', "...)", answer.said.replace(str(best), best.name))
    told("model trained on some of its tasks", "a head for two, fit with one", said, answer.code)
    again, found = training.load(best, models.build("hard", "unet", SCENES.tasks, channels=(4, 8)))
    assert list(found) == ["depth"] and torch.equal(again.heads["depth"][1].bias, model.heads["depth"][1].bias)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from mtl_course.__main__ import main

    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "--samples", "8", "--epochs", "1", "--tasks", "semantic", *QUICK, "--out", str(folder)]) == 0
    return folder


SLIPS = {
    "scores over a checkpoint": ["evaluate", "--checkpoint", "{}", "--json", "{}"],
    "export over a checkpoint": ["export", "--checkpoint", "{}", "--out", "{}"],
    "page over a checkpoint": ["view", "{}", "--no-open", "--out", "{}"],
}


@pytest.mark.parametrize("fault", SLIPS)
def test_a_slip_writes_over_no_checkpoint(told, course, run, fault):
    best = run / "best.safetensors"
    before = best.read_bytes()
    answer = course(*(word.format(best) for word in SLIPS[fault]))
    assert best.read_bytes() == before
    told(fault, "the same name given twice", answer.said.replace(str(best), "best.safetensors"), answer.code)


@pytest.mark.parametrize("name", ["config.yaml", "history.csv", "last.safetensors"])
def test_files_of_ones_own_in_the_folder_of_a_run_stay(told, course, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    answer = course("train", "--samples", "8", "--epochs", "1", *QUICK, "--out", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_text() == "mine"
    told("files of one's own in the folder of a run", "a config.yaml, history.csv or last.safetensors of another "
         "program", answer.said, answer.code)  # fmt: skip


def test_a_download_of_another_program_in_the_folder_of_a_run_stays(course, tmp_path):
    (tmp_path / ".film.mkv.part").write_text("half a film")
    assert course("train", "--samples", "8", "--epochs", "1", *QUICK, "--out", tmp_path).code == 0
    assert (tmp_path / ".film.mkv.part").read_text() == "half a film"


def test_a_checkpoint_that_cannot_be_read_now_is_not_replaced(told, course, run, monkeypatch):
    """As with a network's disk that is away for a moment: the file is good, so it must stay."""
    best, read = run / "best.safetensors", Path.read_bytes
    before = best.read_bytes()

    def refuse(path):
        if path.name == "best.safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    answer = course("train", "--resume", "--out", run)
    monkeypatch.undo()
    assert best.read_bytes() == before
    told("best checkpoint that cannot be read", "reading it raises PermissionError, with --resume",
         answer.said.replace(str(best), best.name), answer.code)  # fmt: skip


def test_a_picture_taken_away_before_the_resume(told, course, tmp_path):
    """Which pictures choose the epoch depends on all of them."""
    write_leaves(tmp_path)
    words = ["train", "--data", "folder", "--root", tmp_path, "--epochs", "1", *QUICK, "--out", tmp_path / "run"]
    assert course(*words).code == 0
    for part in ("images", "masks"):
        (tmp_path / part / "9.png").unlink()
    answer = course("train", "--resume", "--out", tmp_path / "run")
    told("picture taken away before --resume", "one of ten deleted", answer.said, answer.code)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")])
def test_memory_that_is_not_enough(told, course, run, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("mtl_course.training.evaluate", refuse)
    answer = course("evaluate", "--checkpoint", run / "best.safetensors")
    told("memory that is not enough", "the evaluation raises MemoryError, or torch's out of memory",
         answer.said, answer.code)  # fmt: skip
