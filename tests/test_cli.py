"""The command line: what it leaves behind, and one sentence with exit code 2 for every mistake."""

import csv
import json
import subprocess
import sys

import pytest
import yaml

from mtl_course.__main__ import main

QUICK = ["--epochs", "1", "--samples", "12", "--size", "16", "--batch-size", "6", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder that `train` filled."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", "--tasks", "semantic,depth", "--weights", "1,0.2", "--out", str(folder), *QUICK]) == 0
    return folder


def test_train_leaves_checkpoints_history_and_config(run):
    assert {p.name for p in run.iterdir()} == {"best.safetensors", "last.safetensors", "history.csv", "config.yaml"}
    assert "semantic.miou" in next(csv.DictReader((run / "history.csv").read_text().splitlines()))
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["tasks"] == "semantic,depth" and config["weights"] == "1,0.2" and config["seed"] == 0


def test_evaluate_prints_and_writes_the_scores(run, capsys):
    file = run / "scores.json"
    options = ["--size", "16", "--device", "cpu", "--json", str(file)]
    assert main(["evaluate", "--checkpoint", str(run / "best.safetensors"), *options]) == 0
    scores = json.loads(file.read_text())
    file.unlink()
    assert set(scores) == {"semantic", "depth"}
    assert f"{scores['depth']['abs_error']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tasks", "semntic"], "unknown task 'semntic': did you mean 'semantic'"),
        (["--model", "hrad"], "unknown model 'hrad': did you mean 'hard'"),
        (["--trunk", "unett"], "unknown trunk 'unett': did you mean 'unet'"),
        (["--rule", "eqaul"], "unknown rule 'eqaul': did you mean 'equal'"),
        (["--data", "scene"], "unknown data 'scene': did you mean 'scenes'"),
        (["--weights", "1,2"], "--weights needs 1 numbers >= 0 for semantic"),
        (["--weights", "x"], "--weights needs 1 numbers"),
        (["--device", "cua"], "device 'cua' is not available"),
        (["--data", "folder"], "--data folder needs --root"),
        (["--data", "voc", "--root", "nowhere"], "nowhere"),
        (["--data", "folder", "--root", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence_and_exit_code_2(arguments, sentence, tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "out"), "--tasks", "semantic", *QUICK, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mtl_course: ") and sentence in error


def test_evaluate_refuses_a_missing_checkpoint_and_other_classes(run, capsys, tmp_path):
    assert main(["evaluate", "--checkpoint", str(tmp_path / "no.safetensors")]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    arguments = ["evaluate", "--checkpoint", str(run / "best.safetensors"), "--tasks", "normals", "--size", "16"]
    assert main(arguments) == 2
    assert "unknown task of this checkpoint 'normals'" in capsys.readouterr().err


def test_out_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert main(["train", "--out", str(tmp_path / "taken"), *QUICK]) == 2
    assert "could not write" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["train", "--epochs", "0"], ["nothing"], ["train", "--epoch"]])
def test_a_wrong_command_line_exits_with_2_and_no_traceback(arguments):
    done = subprocess.run([sys.executable, "-m", "mtl_course", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr


def test_help_lists_the_commands():
    done = subprocess.run([sys.executable, "-m", "mtl_course", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("train", "evaluate", "data", "doctor"))
