"""Training and checkpoints: each fault is made for real, and what the course says of it stands in README.md."""

import json
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset
from voc_fixture import write_leaves

from mtl_course import datasets, files, models, tasks, training
from mtl_course.__main__ import main
from mtl_course.datasets import loading
from mtl_course.errors import CourseError
from mtl_course.training import state, trainer

SECTION = "Training and checkpoints"
TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
TASKS = tasks.make(["foreground", "depth"])
QUICK = [
    "--threads",
    "1",
    "--size",
    "16",
    "--batch-size",
    "4",
    "--epochs",
    "3",
    "--trunk-option",
    "channels=[4,8]",
    "--device",
    "cpu",
]


@pytest.fixture(autouse=True)
def usual_threads(finished):
    """A command in this process sets the threads of torch."""
    yield
    torch.set_num_threads(2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 10 pictures of leaves: 8 to learn from, 2 to choose the epoch."""
    return write_leaves(tmp_path_factory.mktemp("leaves"))


@pytest.fixture(scope="module")
def line(photos):
    return ["train", "--data", "folder", "--root", str(photos), *QUICK]


@pytest.fixture(scope="module")
def finished(line, tmp_path_factory):
    """The folder of a run of three epochs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*line, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of that folder, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def flip(path, place=-9):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def same_end(run, finished):
    return all((run / name).read_bytes() == (finished / name).read_bytes() for name in CHECKPOINTS)


CHECKPOINTS = ("best.safetensors", "last.safetensors")


def remark(answer, word):
    """The line on stdout that holds a word."""
    (found,) = [text for text in answer.out.splitlines() if word in text]
    return found


# In Python


class Pictures(Dataset):
    """Sixteen made pictures with the names of files; `fault(index)` is called before each is read."""

    def __init__(self, fault=lambda index: None, without=()):
        self.scenes, self.fault, self.without = (
            datasets.Scenes(16, size=16, tasks=["foreground", "depth"]),
            fault,
            without,
        )
        self.scenes.stack()
        self.names = [f"scene{i}.png" for i in range(16)]

    def __len__(self):
        return 16

    def __getitem__(self, index):
        sample = dict(self.scenes[index])
        return {k: v for k, v in (sample | (self.fault(index) or {})).items() if k not in self.without}


def small():
    torch.manual_seed(0)
    return models.build("hard", "unet", TASKS, channels=(4, 8))


def fit(data=None, model=None, workers=0, **options):
    data, model = data or Pictures(), model or small()
    batches = datasets.loader(data, 4, train=True, seed=1, workers=workers)
    history = training.fit(model, TASKS, batches, **{"epochs": 2, "device": "cpu", "progress": False} | options)
    return model, history


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# Saving


def test_a_kill_between_the_two_names_of_a_save(told, course, run, finished):
    """The older state has given its name away, and the new one has not got it yet."""
    shutil.copy(run / state.BEFORE, run / "old.pt")
    program = f"""
import os, signal
from pathlib import Path
from mtl_course.training import state
replace = os.replace
def killed(source, target):
    if str(target).endswith("state.pt"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
folder = Path({str(run)!r})
state.write_state(folder / state.STATE, {{"run": {{}}}}, folder / state.BEFORE)
"""
    assert subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT).returncode == -signal.SIGKILL
    assert not (run / state.STATE).exists() and list(run.glob(".*.part"))
    (run / "old.pt").rename(run / state.BEFORE)  # one epoch is to be learned again
    answer = course("train", "--resume", "--out", run)
    told("kill -9 during a save", "SIGKILL within os.replace, then --resume", remark(answer, "state.pt"), answer.code)
    assert answer.code == 0 and same_end(run, finished) and not list(run.glob(".*.part"))


def killed_saves(folder, kills, seed):
    command = [sys.executable, TESTS / "kill_run.py", folder, str(kills), str(seed), "saves"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=3600)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])["kills"]
    print(outcomes)
    assert len(outcomes) == kills and not any(outcome["lost"] for outcome in outcomes)
    return outcomes


def test_ten_kills_while_it_saves_lose_nothing(tmp_path):
    killed_saves(tmp_path, 10, seed=1)


@pytest.mark.long
def test_two_hundred_kills_while_it_saves_lose_nothing(tmp_path):
    assert any(outcome["torn"] for outcome in killed_saves(tmp_path, 200, seed=2))


def command(*words, before="pass", **options):
    """A command in a process of its own, after a line of Python; its exit code and our lines on stderr."""
    program = f"import sys; {before}; from mtl_course.__main__ import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, "\n".join(ours(done.stderr)), done.stdout


def ours(text):
    return [part for part in re.split(r"[\r\n]+", text) if part.startswith("mtl_course:")]


def test_a_full_disk(told, line, finished, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        # It fills after the first epoch: what is written then stays, and the next state does not fit.
        fill = f"""
from mtl_course.training import trainer
begin = trainer.Trainer.begin
def filled(self):
    begin(self)
    if len(self.keeper.history) == 2:
        try:
            open({str(disk / "filler")!r}, "wb").write(bytes(10**6))
        except OSError:
            pass
trainer.Trainer.begin = filled
"""
        code, said, _ = command(*line, "--out", disk / "run", before=f"exec({fill!r})")
        told("a full disk", "a tmpfs of 400 KB that another file fills", said, code)
        kept, _ = state.newest_state(disk / "run", {})
        assert len(kept["history"]) == 1 and not list((disk / "run").glob(".*.part"))
        training.load(disk / "run/best.safetensors")
        (disk / "filler").unlink()
        assert command("train", "--resume", "--out", disk / "run")[0] == 0
        assert same_end(disk / "run", finished)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_larger_than_the_limit(told, line, tmp_path):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, (9000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))"
    code, said, _ = command(*line, "--out", tmp_path / "run", before=limit)
    told("a file larger than the limit (ulimit -f)", "setrlimit to 9,000 bytes", said, code)


def test_a_folder_that_is_closed(told, line, tmp_path):
    """Root may write anywhere, so the folder lies on a disk that is mounted to be read."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() == 0:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk]).returncode:
            pytest.skip("a closed disk needs the right to mount one")
    else:
        disk.chmod(0o500)
    try:
        code, said, _ = command(*line, "--out", disk / "run")
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", disk], check=True)
    told("a folder without permission to write", "a disk that is mounted to be read", said, code)


def test_a_folder_that_is_a_file(told, course, line, tmp_path):
    (tmp_path / "taken").write_text("mine")
    answer = course(*line, "--out", tmp_path / "taken")
    told("--out is a file", "a text file of that name", answer.said, answer.code)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_that_is_deleted_while_it_is_written(tmp_path):
    """What the run has is written again; the epochs before are in its history."""
    data = Pictures(lambda index: shutil.rmtree(tmp_path / "run") if reads.append(index) or len(reads) == 20 else None)
    reads = []
    fit(data, checkpoint=tmp_path / "run")
    kept, why = state.newest_state(tmp_path / "run", {})
    assert len(kept["history"]) == 2 and not why
    training.load(tmp_path / "run/last.safetensors")


# A flipped byte, and what is in its place


def test_a_flipped_byte_in_a_checkpoint(told, course, run):
    flip(run / "best.safetensors")
    answer = course("evaluate", "--checkpoint", run / "best.safetensors")
    told("a flipped byte in best.safetensors", "one bit of a weight", answer.said, answer.code)
    (run / "best.safetensors").rename(run / "copy.safetensors")
    answer = course("evaluate", "--checkpoint", run / "copy.safetensors")
    told("a flipped byte in another checkpoint", "one bit of a weight", answer.said, answer.code)


def test_no_flipped_bit_is_read(tmp_path):
    path = training.save(tmp_path / "m.safetensors", small(), TASKS)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(good[:8], "little")
    places = [*range(360), *rng.integers(360, header, 60).tolist(), *rng.integers(header, len(good), 40).tolist()]
    for place in places:
        content = bytearray(good)
        content[place] ^= 1 << rng.integers(8).item()
        path.write_bytes(content)
        with pytest.raises(CourseError, match=r"m\.safetensors"):
            training.load(path)


def test_a_checkpoint_without_a_digest_is_read(tmp_path):
    """The course's own are of before, and another program may write one."""
    path = training.save(tmp_path / "m.safetensors", small(), TASKS)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["mtl_course"])
    assert len(about.pop("sha256")) == 64
    save_file(small().state_dict(), path, {"mtl_course": json.dumps(about)})
    assert equal(training.load(path)[0], small())


def test_the_newest_state_is_damaged(told, course, run, finished):
    flip(run / state.STATE)
    answer = course("train", "--resume", "--out", run)
    told("a flipped byte in state.pt", "one bit, then --resume", remark(answer, "SHA-256"), answer.code)
    assert answer.code == 0 and same_end(run, finished)
    assert state.newest_state(run, {})[1] == "", "the damaged state is replaced"
    (run / state.BEFORE).unlink()
    flip(run / state.STATE)
    answer = course("train", "--resume", "--out", run)
    told("the only state is damaged", "one bit, and no state before it", answer.said, answer.code)


def test_a_damaged_state_never_takes_the_place_of_a_good_one(run, tmp_path, monkeypatch):
    """The run goes on from the older state and is killed in its first save: that state must still be there."""
    good = (run / state.BEFORE).read_bytes()
    flip(run / state.STATE)

    def killed(path, content, before):
        raise RuntimeError("killed")

    monkeypatch.setattr(state, "write_whole", killed)
    with pytest.raises(RuntimeError, match="killed"):
        main(["train", "--resume", "--out", str(run)])
    assert (run / state.BEFORE).read_bytes() == good
    monkeypatch.undo()
    assert main(["train", "--resume", "--out", str(run)]) == 0


def test_both_states_are_damaged(told, course, run):
    flip(run / state.STATE)
    flip(run / state.BEFORE)
    answer = course("train", "--resume", "--out", run)
    told("both states are damaged", "one bit of each, then --resume", answer.said, answer.code)
    training.load(run / "best.safetensors")


def test_the_best_weights_are_damaged_when_it_goes_on(told, course, run, finished):
    shutil.copy(run / state.BEFORE, run / state.STATE)  # after two epochs of three
    flip(run / "best.safetensors")
    answer = course("train", "--resume", "--out", run)
    said = remark(answer, "in its place")
    told("a flipped byte in best.safetensors, and --resume", "one bit of a weight", said, answer.code)
    assert answer.code == 0
    training.load(run / "best.safetensors")
    assert (run / "last.safetensors").read_bytes() == (finished / "last.safetensors").read_bytes()


def foreign(path):
    """What bears the name of a checkpoint: {what it is: how it is made}."""

    def header(text):
        return len(text).to_bytes(8, "little") + text.encode()

    def about(**change):
        recipe = {"model": "hard", "trunk": "unet", "trunk_options": {"channels": [4, 8]}}
        kinds = [{"name": t.name, "kind": t.kind, "classes": t.classes} for t in TASKS.values()]
        return {"mtl_course": json.dumps({"version": "0", "recipe": recipe, "tasks": kinds} | change)}

    def weights(change=lambda name, value: value):
        return {name: change(name, value) for name, value in small().state_dict().items()}

    def recipe(**change):
        return about(recipe={"model": "hard", "trunk": "unet", "trunk_options": {"channels": [4, 8]}} | change)

    wide = [{"name": "a", "kind": "classes", "classes": ["x"] * 10**6}]
    twice = '{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32",'
    return {
        "a folder in the place of a checkpoint": path.mkdir,
        "a pipe in the place of a checkpoint": lambda: os.mkfifo(path),
        "an empty checkpoint": path.touch,
        "a checkpoint with a header of 2^60 bytes": lambda: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
        "a checkpoint with a header of brackets": lambda: path.write_bytes(header("[" * 10**5)),
        "a checkpoint whose text is brackets": lambda: save_file(weights(), path, {"mtl_course": "[" * 10**5}),
        "a checkpoint with a name twice": lambda: path.write_bytes(
            header(twice + '"shape":[1],"data_offsets":[4,8]}}') + bytes(8)
        ),
        "a pickle in the place of a checkpoint": lambda: path.write_bytes(pickle.dumps({"x": 1})),
        "a checkpoint without our text": lambda: save_file(weights(), path),
        "a checkpoint with a million classes": lambda: save_file(weights(), path, about(tasks=wide)),
        "a checkpoint of a trunk that is not known": lambda: save_file(weights(), path, recipe(trunk="unett")),
        "a checkpoint that asks for memory": lambda: save_file(
            weights(), path, recipe(trunk_options={"channels": [10**6, 10**6]})
        ),
        "a checkpoint that asks for a billion experts": lambda: save_file(
            weights(), path, recipe(model="mixture:experts=1000000000")
        ),
        "a checkpoint without one of its weights": lambda: save_file(
            {k: v for k, v in weights().items() if k != "heads.depth.1.bias"}, path, about()
        ),
        "a checkpoint of whole numbers": lambda: save_file(weights(lambda _, v: v.long()), path, about()),
        "a checkpoint of NaN": lambda: save_file(
            weights(lambda _, v: v * torch.nan if v.is_floating_point() else v), path, about()
        ),
    }


@pytest.mark.parametrize("fault", foreign(Path("x")))
def test_what_bears_the_name_of_a_checkpoint(fault, told, course, tmp_path):
    foreign(tmp_path / "m.safetensors")[fault]()
    began = time.process_time()
    answer = course("evaluate", "--checkpoint", tmp_path / "m.safetensors", "--size", "16", "--device", "cpu")
    assert time.process_time() - began < 20
    told(fault, "`evaluate`", answer.said, answer.code)


# The lock


def test_two_runs_in_one_folder(told, course, line, run, tmp_path):
    program = f"""
import sys, time
from pathlib import Path
from mtl_course.files import owned
with owned(Path({str(run)!r})):
    print("mine", flush=True)
    time.sleep(600)
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=ENVIRONMENT)
    try:
        assert other.stdout.readline() == b"mine\n"
        answer = course("train", "--resume", "--out", run)
        assert f"process {other.pid} on " in answer.said
        said = re.sub(r"process \d+ on \S+ since [-0-9]+ \d+:\d+:\d+", "process PID on HOST since TIME", answer.said)
        told("--resume of a run that still runs", "another process owns the folder", said, answer.code)
        for name in (*CHECKPOINTS, state.STATE):
            (run / name).unlink()
        for name in (state.BEFORE, "config.yaml", "history.csv"):
            (run / name).unlink()
        answer = course(*line, "--epochs", "9", "--out", run)
        said = re.sub(r"process \d+ on \S+ since [-0-9]+ \d+:\d+:\d+", "process PID on HOST since TIME", answer.said)
        told("two runs in one folder", "another process owns the folder", said, answer.code)
        assert not (run / "config.yaml").exists()
    finally:
        other.kill()
        other.wait()
    with files.owned(run):  # a killed run leaves no lock that blocks
        assert str(os.getpid()) in (run / ".owner").read_text()
    assert not list(run.glob(".*"))


def test_fit_owns_its_folder(tmp_path):
    refused = []

    def second(index):
        if not refused:
            refused.append(None)
            other = threading.Thread(target=lambda: refused.append(error_of(fit, checkpoint=tmp_path)))
            other.start()
            other.join()

    fit(Pictures(second), checkpoint=tmp_path)
    assert re.search(rf"is in use by process {os.getpid()} on .* since .*: stop that", str(refused[1]))
    fit(checkpoint=tmp_path)


def error_of(call, *arguments, **options):
    with pytest.raises(CourseError) as error:
        call(*arguments, **options)
    return error.value


def test_a_disk_without_locks(told, tmp_path, monkeypatch, capsys):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    fit(checkpoint=tmp_path / "run")
    said = capsys.readouterr().out.strip()
    told("a disk without locks", "flock says ENOLCK; the run goes on", said, "-")
    training.load(tmp_path / "run/best.safetensors")


# Another run


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("a state of another model", {"model": lambda: models.build("hard", "unet", TASKS, channels=(4, 12))}),
        ("a state of another learning rate", {"lr": 1e-3}),
        ("a state of another rule", {"rule": "pcgrad"}),
    ],
)
def test_a_state_of_another_run(fault, change, told, tmp_path):
    fit(checkpoint=tmp_path)
    change = {key: value() if callable(value) else value for key, value in change.items()}
    told(fault, "`fit(resume=True)`", str(error_of(fit, checkpoint=tmp_path, resume=True, **change)), "-")


def test_a_state_that_holds_code_or_nonsense(told, tmp_path):
    marker = tmp_path / "owned"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    state.write_state(tmp_path / state.STATE, {"run": Hostile()})
    said = str(error_of(fit, checkpoint=tmp_path, resume=True))
    told("a pickle that runs code in state.pt", "a state with __reduce__ and the right SHA-256", said, "-")
    assert not marker.exists()
    fit(checkpoint=tmp_path)
    good, _ = state.newest_state(tmp_path, {})
    for change in (
        {"stands": []}, {"history": [1]}, {"descent": {}}, {"threads": None, "stands": [1]},
    ):  # fmt: skip
        state.write_state(tmp_path / state.STATE, good | change)
        assert "is no state of" in str(error_of(fit, checkpoint=tmp_path, resume=True)), change
    good["descent"]["model"] = {name: value * torch.nan for name, value in good["descent"]["model"].items()}
    good["stands"][0]["at"]["batches"], good["history"] = -3, []
    state.write_state(tmp_path / state.STATE, good)
    said = str(error_of(fit, checkpoint=tmp_path, resume=True))
    assert "the loss is not finite" in said


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("config.yaml is missing on --resume", None),
        ("config.yaml is damaged on --resume", "data: ["),
        ("config.yaml of something else on --resume", "colour: red\n"),
    ],
)
def test_config_yaml(fault, text, told, course, run):
    (run / "config.yaml").unlink() if text is None else (run / "config.yaml").write_text(text)
    answer = course("train", "--resume", "--out", run)
    told(fault, "the file is removed or rewritten", answer.said, answer.code)


# Not finite


def nan_image(*indices):
    return lambda index: {"image": torch.full((3, 16, 16), torch.nan)} if index in indices else None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loss_that_is_not_finite(told, tmp_path, workers):
    """Task, step and files are named, also when workers read ahead and after a resume."""
    again = datasets.loader(Pictures(), 4, train=True, seed=1)
    next(iter(again))
    batch, model = again.batch_sampler.batch(3), small()
    stepped = []
    data = Pictures(lambda index: stepped.append(index) or nan_image(batch[1])(index))
    said = str(error_of(fit, data, model, workers, checkpoint=tmp_path))
    assert said.endswith(": " + ", ".join(f"scene{i}.png" for i in batch)) and "epoch 1, batch 3: " in said
    if not workers:
        told("a loss that is NaN", "a picture of NaN", said, "-")
    assert all(p.isfinite().all() for p in model.state_dict().values())
    assert not list(tmp_path.iterdir())


def test_the_files_are_named_after_a_resume(tmp_path):
    def stop(index):
        reads.append(index)
        if len(reads) == 20:  # the first picture of epoch 2
            os.kill(os.getpid(), signal.SIGINT)

    reads = []
    with pytest.raises(training.Interrupted, match="epoch 2, batch 1"):
        fit(Pictures(stop), checkpoint=tmp_path, epochs=3)
    said = str(error_of(fit, Pictures(nan_image(*range(16))), checkpoint=tmp_path, epochs=3, resume=True))
    loader = datasets.loader(Pictures(), 4, train=True, seed=1)
    for _ in loader:
        pass
    iterator = iter(loader)
    next(iterator)
    assert "epoch 2, batch 2: " in said
    assert said.endswith(", ".join(f"scene{i}.png" for i in loader.batch_sampler.batch(2)))


def test_a_gradient_that_is_not_finite(told):
    """√ of 0 has a finite value and no finite gradient."""

    class Rooted(torch.nn.Sequential):
        def forward(self, x):
            y = super().forward(x)
            return y + (y - y.detach()).square().sum().sqrt()

    model = small()
    model.heads["depth"] = Rooted(*model.heads["depth"])
    before = {name: p.clone() for name, p in model.named_parameters()}
    said = str(error_of(fit, model=model))
    told("a gradient that is NaN", "√ of 0 in a head", re.sub(r"\d\.\d+", "…", said), "-")
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize("rule", ["mgda", "upgrad", "aligned"])
def test_a_task_without_labels_never_reaches_a_rule(told, rule, monkeypatch):
    """In half of the batches depth is unknown: there the step is that of the other task alone."""
    shapes = []
    made = trainer.Objective.backward

    def seen(self, model, terms):
        shapes.append(sorted(terms))
        alpha = made(self, model, terms)
        assert alpha[list(TASKS).index("depth")] == 0 or "depth" in terms
        return alpha

    monkeypatch.setattr(trainer.Objective, "backward", seen)
    unknown = {"depth": torch.full((1, 16, 16), torch.nan)}
    _, history = fit(Pictures(lambda index: unknown if index != 5 else None), rule=rule)
    assert shapes.count(["foreground"]) == 6 and shapes.count(["depth", "foreground"]) == 2
    assert history[0]["skipped"] == 0
    said = str(error_of(fit, Pictures(without=["depth"]), rule=rule))
    told("a task without labels", "no picture has its target", said, "-")


# Signals


def test_signals_on_the_command_line(told, line, tmp_path, finished):
    for fault, number, code in (
        ("Ctrl-C", signal.SIGINT, 130),
        ("SIGTERM", signal.SIGTERM, 143),
    ):
        folder = tmp_path / fault
        send = f"""
from mtl_course.training import trainer
import os
step = trainer.Trainer.step
def stepped(self, batch, where):
    if where == "epoch 2, batch 1":
        os.kill(os.getpid(), {int(number)})
    return step(self, batch, where)
trainer.Trainer.step = stepped
"""
        got, said, _ = command(*line, "--out", folder, before=f"exec({send!r})")
        told(fault, "a signal within a step", said, got)
        assert got == code and command("train", "--resume", "--out", folder)[0] == 0
        assert same_end(folder, finished)


STOPPED = {
    "SIGTERM during the check": ("from mtl_course.commands import check as m", "_counted", ["data", "check", "{}"]),
    "SIGTERM while photographs are segmented": (
        "from mtl_course import training as m",
        "predict",
        ["predict", "--checkpoint", "{run}/best.safetensors", "{}/images", "--out", "{out}"],
    ),
    "SIGTERM while a checkpoint is scored": (
        "from mtl_course import training as m",
        "evaluate",
        ["evaluate", "--checkpoint", "{run}/best.safetensors"],
    ),
}


@pytest.mark.parametrize("fault", STOPPED)
def test_sigterm_ends_every_command_with_a_line(told, fault, photos, run, tmp_path):
    where, name, words = STOPPED[fault]
    words = [word.format(photos, run=run, out=tmp_path / "out") for word in words]
    program = f"""
import os, runpy, signal, sys
{where}
work, calls = m.{name}, []
def stopped(*args, **options):
    calls.append(1)
    if len(calls) == 3 or m.{name}.__name__ == "evaluate":
        os.kill(os.getpid(), signal.SIGTERM)
    return work(*args, **options)
stopped.__name__ = "{name}"
m.{name} = stopped
runpy.run_module("mtl_course", run_name="__main__", alter_sys=True)
"""
    (photos / ".mtl_course_check.json").unlink(missing_ok=True)
    words = [sys.executable, "-c", program, *words]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    (line,) = ours(done.stderr)
    told(fault, "sent to a command of its own", line, done.returncode)
    assert done.returncode == 143 and "Traceback" not in done.stderr
    if name == "predict":
        assert len(list((tmp_path / "out").glob("*.json"))) == 2 and not list((tmp_path / "out").glob("*.part"))


CELL = """
import os, threading, time
from faults.test_training import Pictures, fit
read = []
data = Pictures(lambda index: (read or print("begins", flush=True), read.append(index), time.sleep(0.02))[-1])
fit(data, checkpoint={folder!r}, epochs=30)
"""


def test_the_stop_button_of_a_notebook(told, tmp_path):
    """A real kernel, and the interrupt that the button sends."""
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(env=ENVIRONMENT | {"PYTHONPATH": str(TESTS)}, cwd=str(TESTS.parent))
    try:
        shown = []

        def show(message):
            shown.append(message)
            if message["content"].get("text", "").startswith("begins"):
                threading.Timer(1.0, kernel.interrupt_kernel).start()

        reply = client.execute_interactive(CELL.format(folder=str(tmp_path)), output_hook=show, timeout=300)
        (error,) = [m["content"] for m in shown if m["msg_type"] == "error"]
        assert reply["content"]["ename"] == "Interrupted" and len(error["traceback"]) == 2
        kept, _ = state.newest_state(tmp_path, {})
        where = len(kept["history"]) + 1, kept["stands"][0]["at"]["batches"]
        said = re.sub(r"epoch \d+, batch \d+", "epoch N, batch N", error["traceback"][1])
        assert f"epoch {where[0]}, batch {where[1]};" in error["traceback"][1]
        told("the stop button of a notebook", "interrupt_kernel", said, "-")
        resume = f"_, h = fit(checkpoint={str(tmp_path)!r}, epochs=30, resume=True); print(len(h), 'epochs')"
        shown.clear()
        client.execute_interactive(resume, output_hook=shown.append, timeout=300)
        assert any("30 epochs" in m["content"].get("text", "") for m in shown), shown
        shown.clear()
        client.execute_interactive("x = 1\nfit(lr=-1.0)", output_hook=shown.append, timeout=300)
        (error,) = [m["content"] for m in shown if m["msg_type"] == "error"]
        assert error["traceback"][0] == "line 2: fit(lr=-1.0)" and "CourseError: fit needs" in error["traceback"][1]
        assert len(error["traceback"]) == 2
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


# Workers


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_of_two_sizes_in_a_batch(told, workers):
    data = Pictures(lambda index: {"image": torch.zeros(3, 16, 24)} if index == 7 else None)
    said = str(error_of(fit, data, workers=workers)).replace("RuntimeError: ", "")
    told("pictures of two sizes in a batch", "one is 16 x 24", re.sub(r"at entry \d", "at entry N", said), "-")


def test_ctrl_c_while_a_batch_is_put_together_is_no_fault_of_the_samples(monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "stack", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.evaluate(small(), TASKS, datasets.loader(Pictures(), 4), "cpu", progress=False)


def in_worker(act):
    """A fault that happens in a loader's process alone, at picture 7."""
    return lambda index: act() if index == 7 and torch.utils.data.get_worker_info() else None


def test_a_worker_that_dies(told, tmp_path):
    data = Pictures(in_worker(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    said = re.sub(r"pid(\(s\))? \d+(, \d+)*", "pid N", str(error_of(fit, data, workers=2, checkpoint=tmp_path)))
    told("a loader's worker that dies", "SIGKILL of itself", re.sub(r"\(pid.*?\) .*?\)", "(pid N) …)", said), "-")
    fit(checkpoint=tmp_path)


def test_a_worker_that_dies_while_a_model_is_scored_outside_fit():
    data = Pictures(in_worker(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    said = str(error_of(training.evaluate, small(), TASKS, datasets.loader(data, 4, workers=1), "cpu", progress=False))
    assert "the worker processes that read pictures failed" in said and "try num_workers=0" in said


def test_a_loader_that_lost_a_worker_is_forgotten_without_waiting():
    """Torch would wait for a lock, which a worker may have held when it was killed, and tell of the dead once more."""
    program = f"""
import gc, os, signal, sys
sys.path.insert(0, {str(TESTS)!r})
from faults.test_training import Pictures, TASKS, in_worker, small
from mtl_course import datasets, training
data = Pictures(in_worker(lambda: os.kill(os.getpid(), signal.SIGKILL)))
iterator = iter(datasets.loader(data, 4, workers=2))
try:
    training.evaluate(small(), TASKS, iterator, "cpu", progress=False)
except ValueError as error:
    print(error)
iterator._workers_done_event._cond.acquire()
del iterator
gc.collect()
print("done", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, timeout=100)
    assert "the worker processes that read pictures failed" in done.stdout and done.stdout.endswith("done\n"), done


def test_evaluate_starts_the_workers_once(monkeypatch):
    """tqdm asks twice for an iterator of what it is given."""
    started, make = [], torch.utils.data.DataLoader._get_iterator

    def counted(batches):
        started.append(batches)
        return make(batches)

    monkeypatch.setattr(torch.utils.data.DataLoader, "_get_iterator", counted)
    training.evaluate(small(), TASKS, datasets.loader(Pictures(), 4, workers=1), "cpu", progress=False)
    assert len(started) == 1


def test_a_worker_that_hangs(told, monkeypatch):
    monkeypatch.setattr(loading, "TIMEOUT", 4)
    others = set(multiprocessing.active_children())
    began = time.monotonic()
    said = str(error_of(fit, Pictures(in_worker(lambda: time.sleep(600))), workers=1))
    told("a loader's worker that hangs", "time.sleep(600), and a time-out of 4 s", said, "-")
    assert time.monotonic() - began < 60
    assert not set(multiprocessing.active_children()) - others, "it would be waited for at the end of the program"


def test_workers_without_shared_memory(told, line, tmp_path):
    """A machine whose /dev/shm has 64 KB: a container, often."""
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    if os.geteuid() or subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("a small /dev/shm needs the right to mount one")
    out = tmp_path / "run"
    words = [sys.executable, "-m", "mtl_course", *line, "--size", "64", "--workers", "2", "--out", str(out)]
    words = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *words]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    (said,) = ours(done.stderr)
    assert "Traceback" not in done.stderr
    said = re.sub(r"torch_\w+", "torch_N", said)
    told("workers without shared memory", "a /dev/shm of 64 KB", said, done.returncode)


# Several processes


def ranks(kind, *words):
    """A run of two processes with a fault in the second; our lines by rank, and the exit code of torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*launcher, str(TESTS / "rank_run.py"), kind, *map(str, words)]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    print(done.stderr)
    return done.returncode, ours(done.stderr), time.monotonic() - began


def test_a_picture_that_only_one_process_cannot_read(told, photos, tmp_path):
    folder = Path(shutil.copytree(photos, tmp_path / "leaves"))
    words = ["train", "--data", "folder", "--root", folder, *QUICK, "--out", tmp_path / "run"]
    code, lines, _ = ranks("picture", *words)
    named = [text for text in lines if "another process" not in text]
    assert code and named and len(lines) <= 2, "one line a rank"
    said = re.sub(r"rank \d: .*/\d+\.png", "rank N: PICTURE.png", named[0])
    told("a rank that cannot read a picture", "cut short after the check", said, 2)


def test_a_loss_of_several_processes_that_is_not_finite(told, line, tmp_path):
    code, lines, _ = ranks("nan", *line, "--out", tmp_path / "run")
    assert code and len(lines) == 2 and sorted(text[12:18] for text in lines) == ["rank 0", "rank 1"]
    said = {text.partition(": rank ")[2][2:] for text in lines}
    assert len(said) == 1
    told("a loss of several ranks that is NaN", "a picture of NaN in rank 1", f"rank N:{said.pop()}", 2)


def test_a_rank_that_is_killed(told, line, tmp_path):
    code, lines, _ = ranks("killed", *line, "--out", tmp_path / "run")
    (said,) = lines
    assert code
    if "another process stopped" not in said:  # it notices the loss before torchrun's SIGTERM comes
        told("a rank that is killed", "SIGKILL of rank 1 in epoch 2", said, 143)
    state.newest_state(tmp_path / "run", {})


def test_a_rank_whose_batch_lacks_a_task(line, tmp_path):
    """Rank 1 never sees a leaf: nobody waits, and all ends well. test_distributed.py compares the gradients."""
    code, lines, _ = ranks("unlabelled", *line, "--out", tmp_path / "run")
    assert code == 0 and not lines
    assert all(row["loss/semantic"] > 0 for row in json.loads((tmp_path / "run/history.json").read_text()))


def test_other_threads(told, tmp_path, capsys):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        fit(checkpoint=tmp_path)
        torch.set_num_threads(2)
        fit(checkpoint=tmp_path, resume=True)
    finally:
        torch.set_num_threads(before)
    told("another number of threads on resume", "set_num_threads", capsys.readouterr().out, "-")


def test_a_plain_loader_names_no_files():
    data = Pictures(nan_image(3))
    with pytest.raises(CourseError, match="the loss is not finite") as error:
        training.fit(small(), TASKS, DataLoader(data, 4), device="cpu", progress=False)
    assert "pictures" not in str(error.value)


def test_a_program_that_ends_does_not_wait_for_its_workers():
    """Those that an error has kept alive, say, ignore the signal with which Python would end them."""
    program = "from mtl_course.datasets import Scenes, loader; batches = iter(loader(Scenes(400, 16), 4, workers=2))"
    program += "; next(batches)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
