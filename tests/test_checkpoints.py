"""The checkpoints that the course ships, and what their card says of them."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mtl_course import training
from mtl_course.__main__ import main

DATA = Path(__file__).resolve().parents[1] / "data"
CHECKPOINTS = sorted((DATA / "checkpoints").glob("*.safetensors"))
CARD = (DATA / "README.md").read_text(encoding="utf-8")
FOUND = json.loads((DATA / "checkpoints/voc.json").read_text())
SCENES = json.loads((DATA / "checkpoints/scenes.json").read_text())


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_a_checkpoint_is_small_half_and_finite(path):
    assert path.stat().st_size <= 12_000_000
    with safe_open(path, "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118, no mapping
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float16}
    assert all(t.isfinite().all() for t in tensors)


def test_the_card_says_what_was_measured():
    size = re.search(r"fitted into (\d+)×", CARD)[1]
    scores = FOUND["scores"][size]
    rows = dict(re.findall(r"^\| (\w+) \| (0\.\d{3}) \|$", CARD, flags=re.MULTILINE))
    assert rows == {
        name.removeprefix("iou_"): f"{value:.3f}"
        for name, value in scores["semantic"].items()
        if name == "miou" or name.startswith("iou_")
    }
    assert (
        f"foreground IoU {scores['foreground']['iou_foreground']:.3f}; boundary F1 {scores['boundary']['f1']:.3f}"
        in CARD
    )
    assert f"{FOUND['steps']:,} steps" in CARD and f"--epochs {FOUND['epochs']} " in CARD
    assert f"in {FOUND['training seconds, wall'] / 60:.0f} minutes" in CARD


def test_the_card_of_scenes_says_what_was_measured():
    model, tasks = training.load(DATA / "checkpoints/scenes.safetensors")
    found = {name: {k.removeprefix("iou_"): v for k, v in row.items()} for name, row in SCENES["scores"].items()}
    assert list(found) == list(tasks)
    classes = ", ".join(f"{name} {found['semantic'][name]:.3f}" for name in tasks["semantic"].classes)
    foreground, depth, normals = found["foreground"], found["depth"], found["normals"]
    said = {
        "semantic": f"mIoU {found['semantic']['miou']:.3f}: {classes}",
        "foreground": f"IoU {foreground['foreground']:.3f}, background {foreground['background']:.3f}",
        "depth": f"mean absolute error {depth['abs_error']:.2f} m, {depth['rel_error']:.1%} of the depth".replace(
            "%", " %"
        ),
        "normals": f"mean angle {normals['mean_angle']:.1f}°, {normals['within_22']:.0%} of the pixels within".replace(
            "%", " %"
        ),
        "boundary": f"F1 {found['boundary']['f1']:.3f} with",
    }
    assert [name for name, text in said.items() if f"\n| {name} | {text}" not in CARD] == []
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in CARD
    assert f"on {SCENES['pictures']} scenes" in CARD


@pytest.mark.long
def test_the_model_of_scenes_scores_what_was_measured(tmp_path):
    """What the command on the card writes; on another processor the last digits differ."""
    command = ["evaluate", "--checkpoint", str(DATA / "checkpoints/scenes.safetensors")]
    assert main([*command, "--device", "cpu", "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores.keys() == SCENES["scores"].keys()
    for task, row in SCENES["scores"].items():
        assert scores[task] == pytest.approx(row, rel=1e-3), task


def test_the_cat_is_a_cat_and_the_astronaut_a_person():
    pytest.importorskip("efficientnet_lite_pytorch", reason="pip install 'mtl_course[weights]'")
    pictures = pytest.importorskip("skimage.data", reason="pip install 'mtl_course[photos]'")
    model, tasks = training.load(DATA / "checkpoints/voc.safetensors")
    for name, photo in (("cat", pictures.chelsea()), ("person", pictures.astronaut())):
        answers = training.predict(model, tasks, torch.tensor(photo).permute(2, 0, 1), 320)
        mask = answers["semantic"]
        counts = mask[mask > 0].bincount(minlength=7)
        assert mask.shape == photo.shape[:2] and (mask > 0).float().mean() > 0.3
        assert counts[tasks["semantic"].classes.index(name)] / counts.sum() > 0.9
        assert ((mask > 0) == (answers["foreground"] == 1)).float().mean() > 0.95
