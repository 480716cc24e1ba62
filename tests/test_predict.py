"""predict: a photograph in, masks, overlay and areas out, at its own size; every fault is a sentence."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mtl_course import datasets, models, plotting, tasks, training
from mtl_course.__main__ import main
from mtl_course.datasets.transforms import joint_transform
from mtl_course.errors import CourseError
from mtl_course.training import predict

TASKS = ("semantic", "foreground", "depth", "normals", "boundary")
CLASSES = ("wall", "floor", "leaf")
ENDS = {"_mask.png", "_overlay.png", ".json", "_foreground.png", "_depth.png", "_normals.png", "_boundary.png"}


@pytest.fixture(scope="module")
def model():
    """Untrained, with outputs so centred that every class has a part of a picture; depths are around 2 m."""
    torch.manual_seed(1)
    built = models.build("hard", "unet", tasks.make(TASKS, CLASSES), channels=(8, 16))
    images = torch.nn.functional.interpolate(torch.rand(8, 3, 4, 4), (32, 32), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        for _ in range(30):
            built(images)  # batch statistics
        for name, answer in built.eval()(images).items():
            built.heads[name][1].bias -= answer.mean((0, 2, 3)) - (2 if name == "depth" else 0)
    return built


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    return training.save(tmp_path_factory.mktemp("model") / "m.safetensors", model, tasks.make(TASKS, CLASSES))


def photo(path, width=50, height=30, **options):
    """A photograph of blobs; JPEG or PNG by the name."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 10, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    image.save(path, **options)
    return path


def call(capsys, checkpoint, *words, code=0):
    """What was printed and the sentences on stderr."""
    capsys.readouterr()
    assert main(["predict", "--checkpoint", str(checkpoint), *map(str, words), "--device", "cpu"]) == code
    said = capsys.readouterr()
    assert all(line.startswith("mtl_course: ") for line in said.err.splitlines())
    return said.out, said.err


def seen(path, model, size):
    """The predictions of a file, computed step by step."""
    colors = torch.from_numpy(np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))).permute(2, 0, 1)
    height, width = colors.shape[1:]
    fitted = joint_transform(size)(datasets.transforms.tv_tensors.Image(colors)).as_subclass(torch.Tensor)
    rows, columns = round(height * size / max(height, width)), round(width * size / max(height, width))
    with torch.no_grad():
        logits = {name: out[..., :rows, :columns] for name, out in model(fitted[None]).items()}
    return {
        name: torch.nn.functional.interpolate(out, (height, width), mode="bilinear", align_corners=False)[0]
        for name, out in logits.items()
    }


def test_files_hold_what_the_model_says(model, checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "a.jpg")
    call(capsys, checkpoint, path, "--out", tmp_path / "out", "--size", 32)
    assert {f.name for f in (tmp_path / "out").iterdir()} == {f"a{end}" for end in ENDS}
    values = seen(path, model, 32)
    ids = {"mask": values["semantic"].argmax(0), "foreground": values["foreground"][0] > 0}
    ids["boundary"] = values["boundary"][0] > 0
    every = tasks.make(TASKS, CLASSES)
    for name, expected in ids.items():
        found = Image.open(tmp_path / f"out/a_{name}.png")
        assert found.mode == "P" and found.size == (50, 30)
        assert np.array_equal(np.array(found), expected.numpy()) and len(np.unique(expected)) > 1
        task = every["semantic" if name == "mask" else name]
        assert (
            found.getpalette()[: 3 * len(task.classes)]
            == plotting.color_table(task)[: len(task.classes)].ravel().tolist()
        )
        assert found.getpalette()[-3:] == [255, 255, 255]
        # A reader that wants colours gets the task's colours.
        assert np.array_equal(np.array(found.convert("RGB")), plotting.colorize(expected.numpy().astype(int), task))


def test_depth_is_in_millimetres_and_normals_are_colours(model, checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "a.png")
    call(capsys, checkpoint, path, "--out", tmp_path, "--size", 32)
    values = seen(path, model, 32)
    depth = Image.open(tmp_path / "a_depth.png")
    expected = (values["depth"][0] * 1000).clamp(min=0).numpy()
    assert depth.mode == "I;16" and np.abs(np.array(depth) - expected).max() <= 0.51 and expected.max() > 1
    colors = np.array(Image.open(tmp_path / "a_normals.png"))
    unit = torch.nn.functional.normalize(values["normals"], dim=0).permute(1, 2, 0).numpy()
    assert colors.shape == (30, 50, 3) and np.abs(colors / 127.5 - 1 - unit).max() < 0.01


def test_areas_add_up_and_say_where_they_come_from(checkpoint, tmp_path, capsys):
    call(capsys, checkpoint, photo(tmp_path / "a.jpg", 33, 47), "--out", tmp_path, "--size", 32)
    about = json.loads((tmp_path / "a.json").read_text())
    assert (about["width"], about["height"], about["size"], about["photo"]) == (33, 47, 32, "a.jpg")
    assert about["checkpoint"] == str(checkpoint) and set(about["areas"]) == {"semantic", "foreground", "boundary"}
    for task, areas in about["areas"].items():
        mask = np.array(Image.open(tmp_path / f"a_{'mask' if task == 'semantic' else task}.png"))
        assert [area["pixels"] for area in areas.values()] == np.bincount(mask.ravel(), minlength=len(areas)).tolist()
        assert sum(area["pixels"] for area in areas.values()) == 33 * 47
        assert sum(area["share"] for area in areas.values()) == pytest.approx(1)
    assert list(about["areas"]["semantic"]) == list(CLASSES)


def test_the_overlay_is_that_of_the_lessons(checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "a.png")
    call(capsys, checkpoint, path, "--out", tmp_path / "out", "--size", 32)
    image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255
    mask = torch.from_numpy(np.array(Image.open(tmp_path / "out/a_mask.png")).astype(np.int64))
    expected = plotting.overlay(image, mask, tasks.semantic(CLASSES))
    assert np.array_equal(np.array(Image.open(tmp_path / "out/a_overlay.png")), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation, model, checkpoint, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = photo(tmp_path / "a.jpg", 48, 24, exif=exif)
    call(capsys, checkpoint, path, "--out", tmp_path, "--size", 32)
    mask = Image.open(tmp_path / "a_mask.png")
    assert mask.size == ((24, 48) if orientation >= 5 else (48, 24))
    assert np.array_equal(np.array(mask), seen(path, model, 32)["semantic"].argmax(0).numpy())


def test_the_size_is_that_of_the_run(checkpoint, tmp_path, capsys):
    path = photo(tmp_path / "a.jpg")
    for config, words, expected in (("", [], 224), ("size: 48\n", [], 48), ("size: 48\n", ["--size", "64"], 64)):
        (checkpoint.with_name("config.yaml")).write_text(config)
        out = tmp_path / str(expected)
        call(capsys, checkpoint, path, "--out", out, *words)
        assert json.loads((out / "a.json").read_text())["size"] == expected
    checkpoint.with_name("config.yaml").unlink()


def test_a_model_without_masks_and_one_with_two_classes(tmp_path, capsys):
    path, depth, two = photo(tmp_path / "a.jpg"), tasks.make(["depth"]), tasks.make(["boundary", "foreground"])
    for name, which in (("depth", depth), ("two", two)):
        file = training.save(
            tmp_path / f"{name}.safetensors", models.build("hard", "unet", which, channels=(4, 8)), which
        )
        call(capsys, file, path, "--out", tmp_path / name, "--size", 32)
    assert {f.name for f in (tmp_path / "depth").iterdir()} == {"a.json", "a_depth.png"}
    assert json.loads((tmp_path / "depth/a.json").read_text())["areas"] == {}
    two = {"a.json", "a_mask.png", "a_overlay.png", "a_foreground.png"}
    assert {f.name for f in (tmp_path / "two").iterdir()} == two


def test_a_bad_photograph_is_named_and_the_others_are_done(checkpoint, tmp_path, capsys):
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name in ("a.jpg", "b.JPEG", "c.png", ".hidden.jpg"):
        photo(folder / name)
    photo(folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:400])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not asked for")
    out, err = call(capsys, checkpoint, folder, "--out", tmp_path / "out", "--size", 32, code=2)
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        str(folder / f"{n}") for n in ("cut.jpg", "empty.png", "text.jpg")
    ]
    assert "cut short" in err and "the file is empty" in err and "not a picture" in err
    assert "3 of 6 photographs done" in out
    assert {f.name for f in (tmp_path / "out").iterdir()} == {f"{stem}{end}" for stem in "abc" for end in ENDS}


def test_hostile_names_stay_in_the_folder_and_in_the_line(checkpoint, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    names = ["a...jpg", "-rf.jpg", "a\nb.jpg", "a\x1b[31m.jpg", "été 猫.jpg", "$(x);'\".jpg", os.fsdecode(b"\xff.jpg")]
    for name in names:
        photo(folder / name)
    photo(folder / f"{'x' * 246}.jpg")  # _overlay.png does not fit behind it
    bad = folder / "bad\nmtl_course: all is well.jpg"
    bad.write_text("no picture")
    said, err = call(capsys, checkpoint, folder, "--out", out, "--size", 32, code=2)
    assert len(err.splitlines()) == 2 and "\x1b" not in err and "bad\\nmtl_course: all is well" in err
    assert "File name too long" in err and "7 of 9 photographs done" in said
    stems = {os.path.splitext(name)[0] for name in names}
    assert {f.name for f in out.iterdir() if f.name[0] != "x"} == {f"{stem}{end}" for stem in stems for end in ENDS}
    assert {f.name for f in tmp_path.iterdir()} == {"in", "out"}


@pytest.mark.parametrize(
    ("make", "words", "sentence"),
    [
        (lambda d: photo(d / "a.png"), ["a.jpg", "a.png"], "a.jpg and {d}/a.png would write the same files"),
        (lambda d: photo(d / "A.png"), ["a.jpg", "A.png"], "would write the same files"),
        (lambda d: (d / "none").mkdir(), ["none"], "no photograph in the folder {d}/none"),
        (lambda d: (d / "out").mkdir() or (d / "out/a_depth.png").touch(), ["a.jpg"], "a_depth.png is there already"),
        (lambda d: (d / "out").mkdir() or (d / "out/a.json").touch(), ["a.jpg"], "a.json is there already"),
        (lambda d: None, ["b.jpg"], "b.jpg: there is no such file"),
        (lambda d: (d / "out").touch(), ["a.jpg"], "could not write {d}/out/a_mask.png"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(make, words, sentence, checkpoint, tmp_path, capsys):
    photo(tmp_path / "a.jpg")
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    words = [tmp_path / word for word in words]
    _, err = call(capsys, checkpoint, *words, "--out", tmp_path / "out", "--size", 32, code=2)
    assert err.count("\n") == 1 and sentence.format(d=tmp_path) in err and sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_ends_it_in_one_sentence(checkpoint, tmp_path, capsys, monkeypatch):
    photo(tmp_path / "a.jpg"), photo(tmp_path / "b.jpg")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    _, err = call(capsys, checkpoint, tmp_path, "--out", tmp_path / "out", code=2)
    assert err.count("\n") == 1 and "the disk is full" in err and not list((tmp_path / "out").iterdir())


def test_a_photograph_is_done_or_not(checkpoint, tmp_path, capsys, monkeypatch):
    """The disk is full in the middle of the second one: nothing of it is in the way of another call."""
    photo(tmp_path / "a.jpg"), photo(tmp_path / "b.jpg")
    fsync, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == len(ENDS) + 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr(os, "fsync", full)
    call(capsys, checkpoint, tmp_path, "--out", tmp_path / "out", code=2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"a{end}" for end in ENDS}
    call(capsys, checkpoint, tmp_path / "b.jpg", "--out", tmp_path / "out")


def test_a_photograph_named_twice_is_done_once(checkpoint, tmp_path, capsys):
    name = photo(tmp_path / "a.jpg")
    out, _ = call(capsys, checkpoint, tmp_path, name, tmp_path / "x" / ".." / "a.jpg", "--out", tmp_path / "out")
    assert out.startswith("1 of 1 photographs done")


def test_a_damaged_checkpoint_is_one_sentence(checkpoint, tmp_path, capsys):
    photo(tmp_path / "a.jpg")
    (tmp_path / "m.safetensors").write_bytes(checkpoint.read_bytes()[:500])
    _, err = call(capsys, tmp_path / "m.safetensors", tmp_path, "--out", tmp_path / "out", code=2)
    assert err.count("\n") == 1 and "damaged" in err


def test_predict_sees_what_evaluation_sees(model):
    every = tasks.make(TASKS, CLASSES)
    image = datasets.Scenes(1, 32)[0]["image"]
    with torch.no_grad():
        expected = {name: every[name].decode(out)[0] for name, out in model(image[None]).items()}
    for size in (None, 32):
        found = predict(model, every, image, size)
        assert list(found) == list(TASKS) and all(torch.equal(found[name], expected[name]) for name in TASKS)
    model.train()
    assert torch.equal(predict(model, every, image)["semantic"], expected["semantic"]) and model.training
    model.eval()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 500)])
def test_photographs_of_odd_shapes(shape, model):
    found = predict(model, tasks.make(TASKS, CLASSES), torch.zeros(3, *shape, dtype=torch.uint8), 32)
    assert found["semantic"].shape == shape and found["normals"].shape == (3, *shape)


@pytest.mark.parametrize(
    "image", [torch.zeros(4, 8, 8), torch.zeros(8, 8), torch.zeros(3, 8, 8).double(), torch.zeros(3, 0, 8)]
)
def test_predict_refuses_what_is_no_picture(image, model):
    with pytest.raises(CourseError, match=r"expected is a picture, uint8 or float32 \(3, H, W\)"):
        predict(model, tasks.make(TASKS, CLASSES), image)


def test_a_model_that_is_not_finite_is_refused():
    which = tasks.make(["depth"])
    broken = models.build("hard", "unet", which, channels=(4, 8))
    broken.heads["depth"][1].bias.data[:] = torch.nan
    with pytest.raises(CourseError, match="'depth' is not finite"):
        predict(broken, which, torch.zeros(3, 16, 16))
