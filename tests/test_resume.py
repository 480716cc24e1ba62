"""Nothing is lost: a run that is killed, stopped or refused, and what it leaves."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from mtl_course import models, training
from mtl_course.datasets import Scenes
from mtl_course.datasets.transforms import Jitter
from mtl_course.errors import CourseError
from mtl_course.training import keeper, objective, state, trainer

HERE = Path(__file__).parent


def killed(tmp_path, kills, seed):
    command = [sys.executable, str(HERE / "kill_run.py"), str(tmp_path), str(kills), str(seed)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    outcomes = json.loads(done.stdout.splitlines()[-1])["kills"]  # before it a run may tell that it fell back
    assert len(outcomes) == kills
    assert all(outcome["readable"] and outcome["equal"] for outcome in outcomes), outcomes
    return outcomes


def test_five_killed_runs_end_with_the_weights_of_the_whole_run(tmp_path):
    assert any(outcome["had a state"] for outcome in killed(tmp_path, 5, seed=1))


@pytest.mark.long
def test_twenty_killed_runs_end_with_the_weights_of_the_whole_run(tmp_path):
    assert sum(outcome["had a state"] for outcome in killed(tmp_path, 20, seed=2)) >= 10


DATA = Scenes(16, size=32, tasks=["foreground", "depth"])


def small(channels=(4, 8)):
    torch.manual_seed(0)
    return models.HardSharing(models.UNet(channels), DATA.tasks)


class Calling(DataLoader):
    """A loader that calls a function before one of its batches, counted over all epochs."""

    def __init__(self, when=math.inf, call=None):
        super().__init__(DATA, 4, shuffle=True, generator=torch.Generator().manual_seed(0))
        self.count, self.when, self.call = 0, when, call

    def __iter__(self):
        for batch in super().__iter__():
            self.count += 1
            if self.count == self.when:
                self.call()
            yield batch


def fit(model=None, loader=None, **options):
    model = model or small()
    options = {"epochs": 2, "device": "cpu", "progress": False} | options
    return model, training.fit(model, DATA.tasks, loader or Calling(), DataLoader(DATA, 8), **options)


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", [2, 6])
def test_a_signal_stops_after_the_step_and_the_run_goes_on_from_there(tmp_path, number, when):
    whole, history = fit()
    usual = signal.getsignal(number)
    with pytest.raises(training.Interrupted, match="go on with resume") as error:
        fit(loader=Calling(when, lambda: os.kill(os.getpid(), number)), checkpoint=tmp_path)
    assert isinstance(error.value, KeyboardInterrupt) and error.value.signal == number
    assert f"epoch {1 + (when - 1) // 4}, batch {(when - 1) % 4 + 1};" in str(error.value)
    assert signal.getsignal(number) is usual
    model, again = fit(checkpoint=tmp_path, resume=True)
    assert same(model, whole)
    assert [row["loss/depth"] for row in again] == [row["loss/depth"] for row in history]
    assert [row["lr"] for row in again] == [row["lr"] for row in history]


def test_a_signal_while_the_model_is_scored_is_not_forgotten(tmp_path, monkeypatch):
    whole, _ = fit()
    scored = trainer.evaluate

    def interrupted(model, tasks, loader, *rest, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return scored(model, tasks, loader, *rest, **options)

    monkeypatch.setattr(trainer, "evaluate", interrupted)
    with pytest.raises(training.Interrupted, match="epoch 1, batch 4"):
        fit(checkpoint=tmp_path)
    monkeypatch.undo()
    assert same(fit(checkpoint=tmp_path, resume=True)[0], whole)


def test_a_second_ctrl_c_does_not_wait():
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as error:
        fit(loader=Calling(2, twice))
    assert not isinstance(error.value, training.Interrupted)


def test_without_a_folder_an_interrupt_says_that_nothing_is_saved():
    with pytest.raises(training.Interrupted, match="without a checkpoint nothing was saved"):
        fit(loader=Calling(2, lambda: os.kill(os.getpid(), signal.SIGINT)))
    with pytest.raises(CourseError, match="name it as checkpoint"):
        fit(resume=True)


def test_a_finished_run_has_nothing_to_go_on_with(tmp_path):
    model, history = fit(checkpoint=tmp_path)
    again, same_history = fit(checkpoint=tmp_path, resume=True)
    assert same(model, again) and same_history == history


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 3}, "its epochs is 2, and here it is 3"),
        ({"lr": 1e-3}, "its lr is 0.003, and here it is 0.001"),
        ({"rule": "pcgrad"}, "its rule is equal, and here it is pcgrad"),
        ({"mean_weights": 0.9}, "its mean_weights is 0.0"),
        ({"model": "wider"}, "its parameters is"),
        ({"tasks": 1}, "is of another run: its parameters is"),
    ],
)
def test_a_state_of_another_run_is_refused(tmp_path, change, told):
    fit(checkpoint=tmp_path)
    if "model" in change:
        change = {"model": small((4, 12))}
    if "tasks" in change:
        tasks = {"depth": DATA.tasks["depth"]}
        with pytest.raises(CourseError, match=told):
            training.fit(
                models.HardSharing(models.UNet((4, 8)), tasks), tasks, Calling(), device="cpu", progress=False,
                epochs=2, checkpoint=tmp_path, resume=True,
            )  # fmt: skip
        return
    with pytest.raises(CourseError, match=told):
        fit(checkpoint=tmp_path, resume=True, **change)


def test_a_state_of_another_version_is_refused(tmp_path, monkeypatch):
    fit(checkpoint=tmp_path)
    monkeypatch.setattr("mtl_course.training.loop.__version__", "99")
    with pytest.raises(CourseError, match="its version is .*, and here it is 99"):
        fit(checkpoint=tmp_path, resume=True)


def test_a_missing_damaged_or_hostile_state_is_told_in_a_sentence(tmp_path):
    file = tmp_path / state.STATE
    with pytest.raises(CourseError, match="to go on from"):
        fit(checkpoint=tmp_path, resume=True)
    fit(checkpoint=tmp_path)
    (tmp_path / state.BEFORE).unlink()
    good = file.read_bytes()
    for bad in (b"", good[:-1], good[:80], good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], b"\xff\n"):
        file.write_bytes(bad)
        with pytest.raises(CourseError, match="is damaged"):
            fit(checkpoint=tmp_path, resume=True)
    marker = tmp_path / "owned"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    state.write_state(file, {"run": Hostile()})
    with pytest.raises(CourseError, match="is no state of a run"):
        fit(checkpoint=tmp_path, resume=True)
    assert not marker.exists()


def test_random_states_come_back():
    import random

    loader = Calling()
    kept = state.random_states(loader)

    def draw():
        order = torch.randperm(9, generator=loader.generator).tolist()
        return random.random(), np.random.rand(), torch.rand(1).item(), order

    drawn = draw()
    assert draw() != drawn
    state.set_random_states(kept, loader)
    assert draw() == drawn


class Explosive(nn.Module):
    """√ of 0 has a finite value and no finite gradient."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        y = self.head(x)
        return y + (y - y.detach()).square().sum().sqrt() if Explosive.armed else y


def test_an_exploding_gradient_stops_before_the_step_and_names_task_batch_and_step(tmp_path):
    model = small()

    model.heads["depth"] = Explosive(model.heads["depth"])
    Explosive.armed = False

    def arm():
        Explosive.armed = True
        before.update({name: value.clone() for name, value in model.named_parameters()})

    before = {}
    with pytest.raises(CourseError, match=r"epoch 2, batch 2: the gradient of depth is not finite") as error:
        fit(model, Calling(6, arm), checkpoint=tmp_path)
    assert "foreground" in str(error.value)
    kept, _ = training.load(tmp_path / "last.safetensors", small_explosive(Explosive))
    assert all(p.isfinite().all() for p in kept.parameters())
    state.read_state(tmp_path / state.STATE, {})


def small_explosive(kind):
    model = small()
    model.heads["depth"] = kind(model.heads["depth"])
    return model


@pytest.mark.parametrize("lr", [np.float64(3e-3), {"": np.float32(3e-3)}])
def test_numbers_of_numpy_can_be_resumed(tmp_path, lr):
    options = {"lr": lr, "clip": np.float32(1), "epochs": np.int64(2), "mean_weights": np.float64(0.5)}
    whole, _ = fit(**options)
    with pytest.raises(training.Interrupted):
        fit(loader=Calling(6, lambda: os.kill(os.getpid(), signal.SIGINT)), checkpoint=tmp_path, **options)
    assert same(fit(checkpoint=tmp_path, resume=True, **options)[0], whole)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"rule": "cagrad:c=0.4"}, {"rule": "cagrad:c=0.9"}, "its options of the rule is {'c': 0.4}"),
        ({"rule": "cagrad:c=0.4"}, {"rule": "fairgrad:a=1"}, "its rule is cagrad, and here it is fairgrad"),
        (
            {"rule": "dynamic_average:temperature=1"},
            {"rule": "dynamic_average:temperature=9"},
            "its options of the rule",
        ),
        ({"weights": {"depth": 0.1}}, {"weights": {"depth": 9.0}}, "its options of the rule is {'alpha': [1.0, 0.1]}"),
    ],
)
def test_a_state_of_another_rule_is_refused(tmp_path, before, after, told):
    fit(checkpoint=tmp_path, epochs=1, **before)
    with pytest.raises(CourseError, match=re.escape(told)):
        fit(checkpoint=tmp_path, epochs=1, resume=True, **after)


def test_a_signal_while_the_last_epoch_is_kept_is_told(tmp_path, monkeypatch):
    kept = trainer.Keeper.keep

    def interrupted(self, row):
        kept(self, row)
        if len(self.history) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer.Keeper, "keep", interrupted)
    with pytest.raises(training.Interrupted) as error:
        fit(checkpoint=tmp_path)
    assert error.value.signal == signal.SIGTERM
    monkeypatch.undo()
    assert same(fit(checkpoint=tmp_path, resume=True)[0], fit()[0])


def test_a_run_with_draws_of_its_own_goes_on_after_a_stop_while_it_was_scored(tmp_path, monkeypatch):
    """Scoring draws from torch's generator, and the epoch after it must not notice."""
    scored = trainer.evaluate

    def drawing(*arguments, **options):
        torch.rand(3)
        return scored(*arguments, **options)

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return drawing(*arguments, **options)

    monkeypatch.setattr(trainer, "evaluate", drawing)
    whole, _ = fit(augment=Jitter(), epochs=3)
    monkeypatch.setattr(trainer, "evaluate", interrupted)
    with pytest.raises(training.Interrupted):
        fit(augment=Jitter(), epochs=3, checkpoint=tmp_path)
    monkeypatch.setattr(trainer, "evaluate", drawing)
    assert same(fit(augment=Jitter(), epochs=3, checkpoint=tmp_path, resume=True)[0], whole)


def test_a_sampler_with_a_generator_of_its_own_goes_on(tmp_path):
    def loader(call=None):
        generator = torch.Generator().manual_seed(4)
        batches = DataLoader(DATA, 4, sampler=RandomSampler(DATA, generator=generator))
        return Stopping(batches, call) if call else batches

    class Stopping:
        def __init__(self, batches, call):
            self.batches, self.call, self.sampler = batches, call, batches.sampler

        def __len__(self):
            return len(self.batches)

        def __iter__(self):
            for k, one in enumerate(self.batches):
                if k == 2:
                    self.call()
                yield one

    whole, _ = fit(loader=loader())
    with pytest.raises(training.Interrupted):
        fit(loader=loader(lambda: os.kill(os.getpid(), signal.SIGINT)), checkpoint=tmp_path)
    assert same(fit(loader=loader(), checkpoint=tmp_path, resume=True)[0], whole)


def test_a_history_whose_names_need_quotes_reads_back(tmp_path):
    rows = [{"epoch": 1, 'semantic.iou_a, "b"': 0.5}, {"epoch": 2, "depth.abs_error": 1.0}]
    keeper.write_history(tmp_path, rows)
    read = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [list(row) for row in read] == [["epoch", 'semantic.iou_a, "b"', "depth.abs_error"]] * 2
    assert read[1]["depth.abs_error"] == "1.0" and read[1]['semantic.iou_a, "b"'] == ""


@pytest.mark.parametrize("broken", [True, False])
def test_with_a_scaler_a_gradient_that_is_nan_stops_and_one_that_overflows_is_skipped(monkeypatch, broken):
    """float16 is played in float32, which a CPU computes quickly: the scaler alone is what is tested."""
    monkeypatch.setitem(objective.PRECISIONS, "fp16", torch.float32)
    prepare = objective.Objective.prepare

    def with_scaler(self, model, place):
        prepare(self, model, place)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4 if broken else 2.0**127)

    monkeypatch.setattr(objective.Objective, "prepare", with_scaler)
    model = small()
    if broken:
        model.heads["depth"] = Explosive(model.heads["depth"])
        Explosive.armed = True
        with pytest.raises(CourseError, match=r"epoch 1, batch 1: the gradient of depth is not finite"):
            fit(model, precision="fp16")
    else:
        _, history = fit(model, precision="fp16", weights={"depth": 10.0}, epochs=4)
        assert history[0]["skipped"] >= 1 and history[-1]["skipped"] == 0
