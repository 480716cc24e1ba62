"""view: a page of one's own results, of a checkpoint or of what predict wrote; every fault is a sentence."""

import json
import webbrowser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from viewer_fixture import axe, canvas_pixels, settings, watch

from mtl_course import models, tasks, training
from mtl_course.__main__ import main, parse
from mtl_course.commands.evaluate import opened
from mtl_course.commands.view import _of_run
from mtl_course.datasets import Scenes
from mtl_course.widgets.explorer import unpacked

TASKS = ("semantic", "foreground", "depth")
PHOTO = "<img src=x onerror=alert(1)>.png"
CLASSES = ("wall", "<script>alert(2)</script>", "a & b")


def saved(folder, names, made):
    """An untrained model, with the options of its run beside it."""
    torch.manual_seed(1)
    training.save(folder / "best.safetensors", models.build("hard", "unet", made, channels=(8, 16)), made)
    (folder / "config.yaml").write_text(f"data: scenes\nsize: 32\nseed: 3\ntasks: {','.join(names)}\n")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("run"), TASKS, Scenes(1, 32, tasks=TASKS).tasks)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """What predict wrote of two photographs; the file of one and a class are called like HTML."""
    folder = tmp_path_factory.mktemp("predicted")
    model = saved(folder, ("semantic", "foreground"), tasks.make(("semantic", "foreground"), CLASSES))
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name in (PHOTO, "plain.png"):
        Image.fromarray(rng.integers(0, 256, (20, 31, 3), np.uint8)).save(photos / name)
    words = ["predict", "--checkpoint", str(model / "best.safetensors"), str(photos), "--out", str(folder / "out")]
    assert main([*words, "--size", "32", "--device", "cpu"]) == 0
    return folder


def call(capsys, *words, code=0):
    """What was printed, and the sentence on stderr."""
    capsys.readouterr()
    assert main(["view", *map(str, words), "--no-open"]) == code
    said = capsys.readouterr()
    assert said.err.count("\n") == (code == 2) and not (code and said.out)
    return said.err or said.out


def explorer(run, *words):
    arguments = parse(["view", str(run), "--device", "cpu", *words])
    return _of_run(arguments, run / "best.safetensors", "title"), arguments


def test_the_pictures_of_the_run(run):
    """The val split of the run's own data; the masks and probabilities are those of the model."""
    shown, arguments = explorer(run, "--samples", "3")
    model, data = opened(arguments)
    batch = data.stack(range(3))
    with torch.no_grad():
        logits = model.eval()(batch["image"])["semantic"]
    assert len(shown.samples) == 3 and shown.data["look"]["classes"] == [*data.tasks["semantic"].classes]
    for k, one in enumerate(shown.samples):
        image, masks, probabilities = unpacked(one)
        assert np.abs(image / 255 - batch["image"][k].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
        assert (masks["truth"] == batch["semantic"][k].numpy()).all()
        assert (masks["prediction"] == logits[k].argmax(0).numpy()).all()
        half = torch.nn.functional.avg_pool2d(logits.softmax(1), 2)[k]
        assert np.abs(probabilities / 255 - half.numpy()).max() < 0.003


def test_a_task_of_two_classes_has_two_probabilities(run):
    shown, arguments = explorer(run, "--samples", "2", "--task", "foreground", "--seed", "8")
    assert shown.data["look"]["classes"] == ["background", "foreground"]
    model, data = opened(arguments)
    with torch.no_grad():
        yes = model.eval()(data.stack([0])["image"])["foreground"].sigmoid()
    _, masks, (no_sent, yes_sent) = unpacked(shown.samples[0])
    assert np.abs(no_sent.astype(int) + yes_sent - 255).max() <= 1
    assert np.abs(yes_sent / 255 - torch.nn.functional.avg_pool2d(yes, 2)[0, 0].numpy()).max() < 0.003
    assert (masks["prediction"] == (yes[0, 0] > 0.5).numpy()).all()
    assert (masks["truth"] != unpacked(explorer(run, "--task", "foreground")[0].samples[0])[1]["truth"]).any()


@pytest.mark.parametrize("form", ["folder", "file"])
def test_writes_a_page_and_opens_it(run, tmp_path, capsys, monkeypatch, form):
    opened_pages = []
    monkeypatch.setattr(webbrowser, "open", opened_pages.append)
    out, results = tmp_path / "new" / "view.html", run if form == "folder" else run / "best.safetensors"
    words = ["view", str(results), "--out", str(out), "--samples", "2", "--device", "cpu"]
    assert main(words) == 0 and opened_pages == [out.as_uri()]
    assert capsys.readouterr().out == f"{out}\n" and out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main([*words, "--no-open"]) == 0 and len(opened_pages) == 1


def test_mistakes_are_sentences(run, predicted, tmp_path, capsys):
    out = predicted / "out"
    assert "is not there" in call(capsys, tmp_path / "none", code=2)
    assert "holds no results" in call(capsys, tmp_path, code=2)
    assert "did you mean 'foreground'" in call(capsys, run, "--task", "foregrund", "--device", "cpu", code=2)
    assert "unknown task with classes 'depth'" in call(capsys, run, "--task", "depth", "--device", "cpu", code=2)
    assert "is not in" in call(capsys, out, code=2)
    assert "did you mean 'semantic'" in call(capsys, out, "--task", "semntic", code=2)
    assert "other classes" not in call(capsys, out, "--photos", predicted / "photos", "--out", tmp_path / "v.html")
    only_depth = saved(tmp_path, ("depth",), Scenes(1, 32, tasks=["depth"]).tasks)
    assert "none of the tasks has classes" in call(capsys, only_depth, "--device", "cpu", code=2)
    words = ("--data", "folder", "--root", tmp_path / "photos")
    assert "photos" in call(capsys, run, *words, "--device", "cpu", code=2)


@pytest.mark.parametrize("text", ["[]", "{", '{"photo": 3, "areas": {}}', '{"photo": "a.png", "areas": []}', "{}"])
def test_json_of_others(tmp_path, capsys, text):
    (tmp_path / "a.json").write_text(text)
    assert "a.json is none of predict's" in call(capsys, tmp_path, code=2)


def test_only_results_of_one_model_and_whole_ones(predicted, tmp_path, capsys):
    words = ("--photos", predicted / "photos", "--out", tmp_path / "v.html")
    folder = tmp_path / "results"
    folder.mkdir()
    for path in (predicted / "out").glob("plain*"):
        (folder / path.name).write_bytes(path.read_bytes())
    about = json.loads((folder / "plain.json").read_text())
    (folder / "z.json").write_text(json.dumps(about | {"areas": {"semantic": {"wall": {}}}}))
    Image.fromarray(np.zeros((20, 31), np.uint8)).save(folder / "z_mask.png")
    assert "z.json has other classes" in call(capsys, folder, *words, code=2)
    (folder / "z_mask.png").unlink()
    assert "z_mask.png: there is no such file" in call(capsys, folder, *words, code=2)
    (folder / "z.json").write_text(json.dumps(about | {"photo": "../../secret.png"}))
    (predicted.parent / "secret.png").write_bytes((predicted / "photos" / "plain.png").read_bytes())
    assert "secret.png is not in" in call(capsys, folder, *words, code=2)


@pytest.mark.browser
@pytest.mark.parametrize("task", ["semantic", "foreground"])
def test_names_full_of_html_are_text(predicted, tmp_path, capsys, page, task):
    """The page of predict's results: masks as in the files, names as text, no script runs, nothing is fetched."""
    path = tmp_path / "<b>view</b>.html"
    words = ("--photos", predicted / "photos", "--task", task, "--out", path)
    assert Path(call(capsys, predicted / "out", *words).strip()) == path
    watch(page, ("file:", "data:", "blob:"))
    page.on("dialog", lambda dialog: page.trouble.append(dialog.message))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=true]")
    assert page.locator(".mtl-thumb span").all_inner_texts() == [PHOTO, "plain.png"]
    names = page.locator(".mtl-legend th[scope=row]").all_text_contents()
    assert names == [*(CLASSES if task == "semantic" else ("background", "foreground")), "ignored"]
    assert page.locator(".mtl-viewer script, .mtl-viewer img").count() == 0
    ending = "mask" if task == "semantic" else "foreground"
    mask = np.asarray(Image.open(predicted / "out" / f"plain_{ending}.png"))
    colors = np.array([bytes.fromhex(color[1:]) for color in tasks.PALETTE[:3]], object)
    table = np.array([list(color) for color in colors], np.uint8)
    page.locator(".mtl-thumb").nth(1).click()
    page.evaluate("model.set('settings', {...model.get('settings'), opacity: 100, visible: [true, true, true, true]})")
    assert settings(page)["sample"] == 1 and (canvas_pixels(page)[..., :3] == table[mask]).all()
    assert page.trouble == [] and axe(page) == []
