"""export: an ONNX file that answers as the checkpoint does, or none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtl_course import models, tasks, training
from mtl_course.__main__ import main
from mtl_course.commands import export

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
SCENES = Path(__file__).resolve().parents[1] / "data/checkpoints/scenes.safetensors"


def answers(file, images):
    """What onnxruntime says, by task."""
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images.numpy()}))), session


def differences(file, checkpoint, images):
    """Largest difference from the checkpoint's own logits, as a share of their range, by task."""
    model, _ = training.load(checkpoint)
    with torch.no_grad():
        right = model(images)
    found, _ = answers(file, images)
    assert list(found) == list(right)
    return {
        name: float((torch.from_numpy(found[name]) - r).abs().max() / (r.max() - r.min())) for name, r in right.items()
    }


def test_the_scenes_model_quietly_and_for_any_size(tmp_path):
    file = tmp_path / "out/scenes.onnx"
    command = [sys.executable, "-m", "mtl_course", "export", "--checkpoint", str(SCENES), "--out", str(file)]
    done = subprocess.run([*command, "--size", "64"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    first, second = done.stdout.splitlines()
    assert float(first.split(": ")[1].split()[0]) < 1e-4 and second.startswith(f"{file}: any batch size, any height")
    for shape in ((1, 3, 64, 64), (5, 3, 64, 64), (2, 3, 96, 80), (1, 3, 75, 101)):
        worst = differences(file, SCENES, torch.rand(shape))
        assert len(worst) == 5 and max(worst.values()) < 1e-4
    meta = answers(file, torch.rand(1, 3, 64, 64))[1].get_modelmeta().custom_metadata_map
    kinds = json.loads(meta["tasks"])
    assert kinds["semantic"]["classes"] == ["wall", "floor", "sphere", "box", "cylinder", "cone"]
    assert kinds["depth"] == {"kind": "depth", "classes": [], "unit": "m"} and meta["size"] == "64"


def test_efficientnet_lite0_for_any_batch_of_its_size(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `weights` is not installed")
    every = tasks.make(["semantic", "boundary"], ["background", "cat"])
    model = models.build("hard", "efficientnet_lite0", every, up_widths=(32, 16))
    checkpoint = training.save(tmp_path / "lite.safetensors", model, every)
    (tmp_path / "config.yaml").write_text("size: 96\n")
    assert main(["export", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "lite.onnx")]) == 0
    assert "any batch size, height and width 96; outputs semantic, boundary" in capsys.readouterr().out
    for batch in (1, 4):
        assert max(differences(tmp_path / "lite.onnx", checkpoint, torch.rand(batch, 3, 96, 96)).values()) < 1e-3


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    every = tasks.make(["depth"])
    folder = tmp_path_factory.mktemp("small")
    return training.save(folder / "m.safetensors", models.build("single", "unet", every, channels=(4, 8)), every)


def exported(small, out, capsys):
    """The exit code and what was said on stderr."""
    code = main(["export", "--checkpoint", str(small), "--out", str(out), "--size", "32"])
    return code, capsys.readouterr().err


def test_a_file_that_answers_otherwise_is_not_kept(small, tmp_path, capsys, monkeypatch):
    whole = export._program

    def changed(model, *rest):
        program = whole(model, *rest)
        with torch.no_grad():
            model.heads["depth"][1].bias += 0.01  # the file has another bias now
        return program

    monkeypatch.setattr(export, "_program", changed)
    code, err = exported(small, tmp_path / "m.onnx", capsys)
    assert code == 2 and "onnxruntime's 'depth' differs from PyTorch's" in err and not list(tmp_path.iterdir())
    assert err.count("\n") == 1


@pytest.mark.parametrize("module", ["onnxruntime", "onnxscript"])
def test_a_missing_extra_is_named(module, small, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    code, err = exported(small, tmp_path / "m.onnx", capsys)
    assert code == 2 and "pip install 'mtl_course[export]'" in err and err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_named(small, tmp_path, capsys):
    (tmp_path / "taken").touch()
    code, err = exported(small, tmp_path / "taken/m.onnx", capsys)
    assert code == 2 and f"could not write {tmp_path / 'taken/m.onnx'}" in err and err.count("\n") == 1


def test_a_size_that_the_model_cannot_have_is_one_sentence(tmp_path, capsys):
    every = tasks.make(["depth"])
    checkpoint = training.save(tmp_path / "m.safetensors", models.build("hard", "unet", every), every)
    assert main(["export", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "m.onnx"), "--size", "4"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("mtl_course: ") and err.count("\n") == 1 and not (tmp_path / "m.onnx").exists()
