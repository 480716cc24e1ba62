"""The command line: what it leaves behind, and one sentence with exit code 2 for every mistake."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from voc_fixture import save_mask

from mtl_course import datasets
from mtl_course.__main__ import _open, _parser, main

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


def test_splits_of_scenes_share_no_picture():
    arguments = _parser().parse_args(["train", "--size", "16", "--samples", "8"])
    first = [_open(arguments, split)[0]["image"] for split in ("fit", "select", "val")]
    assert not any(torch.equal(first[i], first[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_one_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    weights = []
    for out, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main(["train", "--tasks", "semantic", "--seed", seed, "--out", str(tmp_path / out), *QUICK]) == 0
        weights.append((tmp_path / out / "best.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.fixture
def photos(tmp_path):
    """A folder of 10 pictures of leaves."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"images/{i}.png")
        save_mask(rng.integers(0, 2, (20, 20)).astype(np.uint8), tmp_path / f"masks/{i}.png")
    (tmp_path / "classes.txt").write_text("nothing\nleaf\n")
    return tmp_path


def test_a_folder_is_split_augmented_to_learn_from_and_its_classes_are_kept(photos, monkeypatch, capsys):
    made, folder = [], datasets.Folder
    monkeypatch.setattr(datasets, "Folder", lambda *args, **kwargs: made.append(folder(*args, **kwargs)) or made[-1])
    options = ["--data", "folder", "--root", str(photos), "--size", "16", "--device", "cpu"]
    assert main(["train", "--epochs", "1", "--out", str(photos / "run"), *options]) == 0
    fit, select, val = made
    assert len(fit) == 8 and not set(fit.names) & set(select.names) and val.names == select.names
    assert [data.augment for data in made] == [True, False, False]
    evaluate = ["evaluate", "--checkpoint", str(photos / "run/best.safetensors"), *options]
    assert main(evaluate) == 0
    (photos / "classes.txt").write_text("nothing\nstem\n")
    assert main(evaluate) == 2
    assert "knows the classes nothing, leaf for 'semantic', and this data nothing, stem" in capsys.readouterr().err


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
        (["--weights", "0"], "not all 0"),
        (["--tasks", ","], "names with commas are expected"),
        (["--tasks", "depth,depth"], "each once"),
        (["--classes", "wall"], "scenes are made"),
        (["--device", "meta"], "device 'meta' is not available"),
        (["--data", "folder", "--root", "x" * 300], "File name too long"),
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


def test_a_run_is_not_overwritten_and_a_refused_one_leaves_nothing(run, tmp_path, capsys):
    before = (run / "config.yaml").read_bytes()
    assert main(["train", "--out", str(run), *QUICK]) == 2
    assert "holds a run already" in capsys.readouterr().err and (run / "config.yaml").read_bytes() == before
    assert main(["train", "--out", str(tmp_path / "new"), "--rule", "bad", *QUICK]) == 2
    assert not (tmp_path / "new").exists()


def test_evaluate_takes_the_size_of_the_run(run, capsys):
    assert main(["evaluate", "--checkpoint", str(run / "best.safetensors"), "--device", "cpu"]) == 0
    recalled = capsys.readouterr().out
    assert main(["evaluate", "--checkpoint", str(run / "best.safetensors"), "--device", "cpu", "--size", "16"]) == 0
    assert capsys.readouterr().out == recalled
    assert main(["evaluate", "--checkpoint", str(run / "best.safetensors"), "--device", "cpu", "--data", "scenes"]) == 0
    assert capsys.readouterr().out == recalled


def test_a_damaged_config_is_named(run, tmp_path, capsys):
    checkpoint = tmp_path / "best.safetensors"
    checkpoint.write_bytes((run / "best.safetensors").read_bytes())
    (tmp_path / "config.yaml").write_text("data: [")
    assert main(["evaluate", "--checkpoint", str(checkpoint)]) == 2
    assert f"{tmp_path / 'config.yaml'} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--epochs", "0"],
        ["nothing"],
        ["train", "--epoch"],
        ["train", "--lr", "nan"],
        ["train", "--seed", "-1"],
        ["train", "--samples", "9" * 30],
    ],
)
def test_a_wrong_command_line_exits_with_2_and_no_traceback(arguments):
    done = subprocess.run([sys.executable, "-m", "mtl_course", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr


def test_help_lists_the_commands():
    done = subprocess.run([sys.executable, "-m", "mtl_course", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("train", "evaluate", "data", "doctor"))


def test_evaluate_takes_the_seed_of_the_run(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "--tasks", "depth", "--seed", "3", "--out", str(out), *QUICK]) == 0
    trained = capsys.readouterr().out.split("depth\n")[1].split("best.safetensors")[0]
    assert main(["evaluate", "--checkpoint", str(out / "best.safetensors"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith(trained)


def test_made_scenes_are_not_taken_for_pascal_voc(tmp_path, capsys):
    assert main(["data", "scenes", "--root", str(tmp_path), "--samples", "4", "--size", "32"]) == 0
    assert main(["data", "voc", "--root", str(tmp_path)]) == 2
    assert "holds made scenes, not Pascal VOC" in capsys.readouterr().err


def test_the_epoch_is_chosen_by_what_is_monitored(tmp_path, capsys):
    options = ["--tasks", "foreground,depth", "--monitor", "depth.miou", "--out", str(tmp_path / "run"), *QUICK]
    assert main(["train", *options]) == 2
    assert "cannot monitor 'depth.miou'" in capsys.readouterr().err and not (tmp_path / "run").exists()
