"""The command line: what it leaves behind, and one sentence with exit code 2 for every mistake."""

import csv
import json
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from voc_fixture import write_leaves

from mtl_course import datasets, models, training
from mtl_course.__main__ import main, parse
from mtl_course.commands.options import open_data

QUICK = ["--epochs", "1", "--samples", "12", "--size", "16", "--batch-size", "6", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder that `train` filled."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", "--tasks", "semantic,depth", "--weights", "1,0.2", "--out", str(folder), *QUICK]) == 0
    return folder


def test_train_leaves_checkpoints_history_and_config(run):
    expected = {"best.safetensors", "last.safetensors", "history.csv", "history.json", "state.pt", "config.yaml"}
    assert {p.name for p in run.iterdir()} - {"tensorboard"} == expected
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
    said = capsys.readouterr().out
    assert f"{scores['depth']['abs_error']:.4f}" in said
    rows = dict(line.split() for line in said.splitlines() if line.startswith("  iou_"))  # a row a class
    assert rows == {f"iou_{name}": f"{scores['semantic'][f'iou_{name}']:.4f}" for name in datasets.scenes.CLASSES}


def test_splits_of_scenes_share_no_picture():
    arguments = parse(["train", "--size", "16", "--samples", "8"])
    first = [open_data(arguments, split)[0]["image"] for split in ("fit", "select", "val")]
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
    return write_leaves(tmp_path)


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
        (["--trunk-option", "levels=3"], "unknown option of unet 'levels': Known: channels, in_channels"),
        (["--trunk-option", "channels=[8"], "the trunk unet with channels=[8 answers no picture of 16"),
        (["--trunk-option", "channels=no"], "the trunk unet with channels=no answers no picture of 16"),
        (["--pretrained"], "unknown option of unet 'pretrained'"),
        (["--trunk", "resnet18", "--trunk-option", "frozen=9"], "frozen=9"),
        (["--jitter", "3"], "argument --jitter: a number from 0 to 2 is expected"),
        (["--resume"], "holds no state.pt to go on from: start without --resume"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
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
    for command in (["evaluate"], ["export", "--out", str(tmp_path / "m.onnx")]):
        (tmp_path / "config.yaml").write_text("size: large\n")
        assert main([*command, "--checkpoint", str(checkpoint)]) == 2
        assert "size is a whole number up to 8192, and not 'large'" in capsys.readouterr().err


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
    commands = ("train", "evaluate", "predict", "export", "data", "records", "doctor")
    assert all(f"\n    {command} " in done.stdout for command in commands)


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export", "data", "records", "doctor"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0 and f"python -m mtl_course {command}" in capsys.readouterr().out


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


@pytest.fixture
def asked(monkeypatch):
    """What `train` passes to fit, which does nothing here."""
    calls = []
    monkeypatch.setattr(training, "fit", lambda *args, **options: calls.append((args, options)))
    return calls


FLAGS = {
    "epochs": 3, "weight-decay": 0.01, "clip": 2.5, "mean-weights": 0.9, "patience": 4, "monitor": "depth.rel_error",
    "rule": "cagrad:c=0.4", "wrt": "representation", "precision": "bf16", "compile": True, "device": "cpu",
}  # fmt: skip


def test_every_flag_reaches_fit(asked, tmp_path):
    line = [f"--{name}" if value is True else f"--{name}={value}" for name, value in FLAGS.items()]
    line += ["--tasks", "semantic,depth", "--samples", "8", "--size", "16", "--lr", "0.01", "--jitter", "0.7"]
    assert main(["train", *line, "--out", str(tmp_path)]) == 0
    ((_, tasks, loader, val_loader), options) = asked[0]
    assert {name: options[name.replace("-", "_")] for name in FLAGS} == FLAGS
    assert options["augment"].strength == 0.7 and options["lr"] == 0.01 and options["weights"] is None
    assert options["checkpoint"] == tmp_path and options["resume"] is False and list(tasks) == ["semantic", "depth"]
    assert len(loader.dataset) == 8 and len(val_loader.dataset) == 8


@pytest.mark.parametrize("model", ["single", "hard", "soft", "cross-stitch"])
def test_the_pretrained_stages_get_a_rate_of_their_own(model, asked, tmp_path):
    line = [
        "--model",
        model,
        "--trunk",
        "mobilenet_v3_small",
        "--trunk-option",
        "frozen=2",
        "--tasks",
        "semantic,depth",
    ]
    line += ["--trunk-option", "up_widths=[32, 16]", "--trunk-lr", "0.0001", "--lr", "0.01", "--out", str(tmp_path)]
    assert main(["train", *line, *QUICK]) == 0
    (built, *_), options = asked[0]
    trunks = [module for module in built.modules() if isinstance(module, models.Trunk)]
    assert trunks and all(trunk.frozen == 2 and trunk.up_widths == (32, 16) for trunk in trunks)
    own = {id(p) for trunk in trunks for p in trunk.down.parameters()}
    groups = training.descent.by_prefix(built, options["lr"])
    for group in groups:
        assert all((id(p) in own) == (group["lr"] == 0.0001) for p in group["params"])
    assert {group["lr"] for group in groups} == {0.01, 0.0001}


def test_pretrained_asks_for_the_weights(asked, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(models, "build", lambda *names, **options: built.append(options) or models.sharing.build(
        *names, **(options | {"pretrained": False})))  # fmt: skip
    assert main(["train", "--trunk", "resnet18", "--pretrained", "--out", str(tmp_path), *QUICK]) == 0
    assert built == [{"pretrained": True}]


def test_a_file_gives_the_options_and_the_line_goes_first(asked, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "tasks: [semantic, depth]\nweights: [1, 0.2]\nsize: 16\nsamples: 8\nlr: 1e-2\nmean_weights: 0.5\n"
        "compile: true\nbatch-size: 4\nepochs: 7\nclip:\ndevice: cpu\nmodel: hard\ntrunk-option: {channels: [8, 16]}\n"
    )
    line = ["train", "--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]
    assert main([*line, "--epochs", "2", "--no-compile"]) == 0
    (model, tasks, loader, _), options = asked[0]
    assert options["epochs"] == 2 and options["lr"] == 0.01 and options["mean_weights"] == 0.5
    assert options["weights"] == {"semantic": 1, "depth": 0.2} and options["compile"] is False
    assert options["clip"] is None and loader.batch_sampler.batch_size == 4 and model.trunk.widths == (8, 16)
    written = tmp_path / "out/config.yaml"
    assert main(["train", "--config", str(written), "--out", str(tmp_path / "again")]) == 0
    again = yaml.safe_load((tmp_path / "again/config.yaml").read_text()) | {"out": str(tmp_path / "out")}
    assert asked[1][1] | {"checkpoint": 0} == options | {"checkpoint": 0}
    assert again == yaml.safe_load(written.read_text()) and again["batch-size"] == 4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch: 3", "'epoch': did you mean 'epochs'?"),
        ("epochs: many", "argument --epochs: a number from 1 to 10000000 is expected, and not 'many'"),
        ("epochs: [1, 2]", "argument --epochs: a number from 1 to 10000000 is expected, and not '1,2'"),
        ("lr: true", "argument --lr: expected one argument"),
        ("compile: 3", "argument --compile"),
        ("resume: true", "unknown option"),
        ("- epochs", "holds no options"),
        ("epochs: [", "is damaged"),
        ("\x00", "is damaged"),
        ("lr: 0.1\nlr2: 1", "'lr2': did you mean 'lr'?"),
    ],
)
def test_a_file_with_mistakes_is_named_in_one_sentence(text, sentence, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert main(["train", "--config", str(file), "--out", str(tmp_path / "out"), *QUICK]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mtl_course: ") and said.count("\n") == 1 and str(file) in said and sentence in said
    assert not (tmp_path / "out").exists()


def test_a_state_alone_occupies_a_folder(tmp_path, capsys):
    (tmp_path / "state.pt").write_bytes(b"whatever")
    assert main(["train", "--out", str(tmp_path), *QUICK]) == 2
    assert "holds a run already" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


LONG = ["--tasks", "semantic,depth", "--epochs", "5", "--samples", "40", "--size", "32", "--batch-size", "4",
        "--device", "cpu", "--jitter", "1", "--rule", "pcgrad", "--mean-weights", "0.9", "--threads", "1"]  # fmt: skip
START = [sys.executable, "-m", "mtl_course", "train", *LONG, "--out"]


def stop(command, folder, number):
    """Start a training and send it a signal once it has a state; the process and the lines of its errors."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (folder / "state.pt").exists():
        assert process.poll() is None and time.sleep(0.02) is None, process.communicate()[1]
    process.send_signal(number)
    return process, process.communicate(timeout=120)[1].replace("\r", "\n").strip().splitlines()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert subprocess.run([*START, str(folder)], capture_output=True).returncode == 0
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_says_the_command_that_ends_as_if_nothing_had_been(number, code, whole, tmp_path):
    folder = tmp_path / "a run's"
    process, lines = stop([*START, str(folder)], folder, number)
    assert process.returncode == code
    assert lines[-1].startswith("mtl_course: stopped after epoch ") and "Traceback" not in "".join(lines)
    words = shlex.split(lines[-1].partition("go on with: ")[2])
    assert words == ["python", "-m", "mtl_course", "train", "--resume", "--out", str(folder)]
    before = len(json.loads((folder / "history.json").read_text()))
    assert before < 5
    assert subprocess.run([sys.executable, *words[1:]], capture_output=True).returncode == 0
    for name in ("best.safetensors", "last.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("channels", ["[-8]", "[8.5]", "[0]", "no"])
def test_channels_that_make_no_network_are_told_before_anything_is_written(channels, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *QUICK, "--trunk-option", f"channels={channels}", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mtl_course: ") and said.count("\n") == 1 and not out.exists()


def test_resume_takes_the_options_of_the_run_and_refuses_others(run, capsys):
    assert main(["train", "--resume", "--out", str(run)]) == 0
    capsys.readouterr()
    for option, was in ((["--lr", "0.1"], "--lr was 0.003, and not 0.1"), (["--seed", "1"], "--seed was 0, and not 1")):
        assert main(["train", "--resume", "--out", str(run), *option]) == 2
        assert f"--resume goes on as the run was: {was}" in capsys.readouterr().err
    assert (
        main(["train", "--resume", "--out", str(run), *QUICK, "--threads", "2"]) == 0
    )  # what was said before, and threads


def torchrun(*words):
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "mtl_course", "train", *words]


def lines_of_ours(text):
    return [line for line in text.replace("\r", "\n").splitlines() if line.startswith("mtl_course:")]


def test_two_processes_train_go_on_and_report_what_one_does(tmp_path):
    folder = tmp_path / "run"
    process, lines = stop(torchrun(*LONG, "--out", str(folder)), folder, signal.SIGTERM)
    (line,) = lines_of_ours("\n".join(lines))
    words = shlex.split(line.partition("go on with: ")[2])
    assert words[:2] == ["torchrun", "--nproc-per-node=2"] and words[-2:] == ["--out", str(folder)]
    done = subprocess.run(torchrun(*words[5:]), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("pictures to learn from") == 1
    assert len(json.loads((folder / "history.json").read_text())) == 5
    # Rank 0 printed the scores of all 200 pictures: those that one process finds.
    scored = done.stdout.split("\ndepth\n")[1].split("best.safetensors")[0]
    alone = [sys.executable, "-m", "mtl_course", "evaluate", "--checkpoint", str(folder / "best.safetensors")]
    alone = subprocess.run([*alone, "--device", "cpu"], capture_output=True, text=True)
    assert alone.stdout.split("\ndepth\n")[1] == scored


def test_the_error_of_one_process_is_one_line_that_names_it(photos):
    broken = photos / "images/5.png"
    broken.write_bytes(broken.read_bytes()[:200])
    line = ["--data", "folder", "--root", str(photos), "--size", "16", "--device", "cpu", "--out", str(photos / "run")]
    done = subprocess.run(torchrun(*line), capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "exitcode  : 2" in done.stderr
    said = lines_of_ours(done.stderr)
    assert (
        sum(f"{broken}: cannot be decoded" in line and line[:18] == "mtl_course: rank " + line[17] for line in said)
        == 1
    )
    assert all("another process stopped" in line for line in said if str(broken) not in line)
