"""Scenes: the same bytes always, and labels that agree with the geometry."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mtl_course.datasets import raycast, scenes
from mtl_course.datasets.layout import draw
from mtl_course.datasets.raycast import Scene, render
from mtl_course.datasets.scenes import CLASSES, Scenes
from mtl_course.datasets.solids import SHAPES, Look, Solid
from mtl_course.errors import CourseError

KNOBS = {"difficulty": 0.6, "label_noise": 0.3, "unrelated": True, "labelled": {"semantic": 0.5, "depth": 1}}


def plain(*color):
    """One colour everywhere."""
    return Look(np.float32([color, color]), "stripes", np.zeros((3, 3), np.float32), np.zeros(3, np.float32))


def digest(sample: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(key.encode() + value.numpy().tobytes() for key, value in sample.items())).hexdigest()


def same(one: dict, two: dict) -> bool:
    return list(one) == list(two) and digest(one) == digest(two)


@pytest.fixture(scope="module")
def many() -> dict[str, torch.Tensor]:
    return Scenes(200, seed=3).stack()


def solid(shape: str, **where) -> Solid:
    size = {"x": 0.0, "z": -4.0, "radius": 0.5, "height": 1.2, "thickness": 0.4, "yaw": 0.6}
    return Solid(shape, **size | where, look=plain(1.0, 0.5, 0.25))


def scene(*solids: Solid, **more) -> Scene:
    return Scene(solids, plain(0.8, 0.8, 0.8), plain(0.6, 0.6, 0.6), **more)


# The sample


def test_sample_has_the_contract_s_shapes_dtypes_and_ranges():
    data = Scenes(2, 48)
    sample = data[1]
    assert list(data.tasks) == ["semantic", "foreground", "depth", "normals", "boundary"]
    assert list(sample) == ["image", *data.tasks] and data.tasks["semantic"].classes == CLASSES
    assert sample["image"].shape == sample["normals"].shape == (3, 48, 48) and sample["depth"].shape == (1, 48, 48)
    for name, task in data.tasks.items():
        task.check(sample[name][None], name)
    levels = sample["image"] * 255
    assert sample["image"].dtype == torch.float32 and levels.min() >= 0 and levels.max() <= 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert all(value.is_contiguous() for value in sample.values())
    assert 0.5 < sample["depth"].min() and sample["depth"].max() < 15


def test_foreground_is_every_object(many):
    assert torch.equal(many["foreground"], (many["semantic"] >= 2).long())


def test_normals_have_length_one_and_face_the_camera(many):
    torch.testing.assert_close(many["normals"].norm(dim=1), torch.ones(200, 64, 64))
    ray = torch.stack([torch.from_numpy(v).expand(64, 64) for v in raycast._rays(64, 0.0)])
    assert (many["normals"] * ray).sum(1).max() < 1e-2


def test_objects_cover_a_quarter_and_every_class_is_common(many):
    shares = many["semantic"].flatten().bincount(minlength=6) / many["semantic"].numel()
    assert 0.2 < shares[2:].sum() < 0.3
    assert shares.min() > 0.03
    seen = (many["semantic"].flatten(1)[:, None] == torch.arange(6)[:, None]).any(2).float().mean(0)
    assert seen[:2].min() > 0.97 and seen[2:].min() > 0.35


def test_colour_does_not_give_the_class_away(many):
    means = [many["image"].movedim(1, -1)[many["semantic"] == k].mean(0) for k in range(2, 6)]
    spread = many["image"].movedim(1, -1)[many["foreground"] == 1].std(0)
    assert (torch.stack(means).std(0) / spread).max() < 0.35


# The same bytes


def test_same_bytes_in_another_process():
    code = (
        "from tests.test_scenes import KNOBS, Scenes, digest; d = Scenes(9, 32, 5, **KNOBS); print(digest(d.stack()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == digest(Scenes(9, 32, 5, **KNOBS).stack())


def test_item_depends_on_neither_n_nor_order():
    few, lots = Scenes(4, 32, **KNOBS), Scenes(400, 32, **KNOBS)
    assert all(same(few[i], lots[i]) for i in (3, 0, 2, 1))
    assert not same(few[0], few[1]) and not same(few[0], Scenes(4, 32, 1, **KNOBS)[0])


def test_cached_equals_fresh():
    data, fresh = Scenes(3, 32, **KNOBS), Scenes(3, 32, **KNOBS, cache=False)
    first = data[1]
    for value in first.values():
        value.zero_()  # a student's change must not reach the cache
    assert same(data[1], fresh[1]) and same(data[1], fresh[1])
    assert not torch.equal(data[1]["image"], first["image"])


def test_a_pickled_set_leaves_its_memory_behind():
    data = Scenes(3, 32)
    before = len(pickle.dumps(data))
    data.stack()
    assert len(pickle.dumps(data)) == before


def test_stack_equals_a_loader_and_workers_change_nothing():
    data = Scenes(6, 32, **KNOBS)
    batches = list(DataLoader(pickle.loads(pickle.dumps(data)), 3, num_workers=2))
    assert same(batches[1], data.stack(range(3, 6))) and same(data.stack([-1]), data.stack([5]))


def test_iteration_ends():
    assert len(list(Scenes(3, 16))) == len(Scenes(3, 16)) == 3
    with pytest.raises(IndexError, match="scene 3 of 3"):
        Scenes(3)[3]
    with pytest.raises(IndexError, match="scene 7 of 3"):
        Scenes(3).stack([0, 7])


def test_knobs_leave_the_rest_of_the_picture_alone():
    plain, noisy = Scenes(5, 32), Scenes(5, 32, label_noise=1.0, unrelated=True)
    for key in ("foreground", "depth", "normals", "boundary"):
        assert torch.equal(plain.stack()[key], noisy.stack()[key])
    assert torch.equal(plain.stack()["image"], Scenes(5, 32, label_noise=1.0).stack()["image"])


# Knobs


def test_label_noise_moves_objects_to_other_object_classes():
    clean, wrong, half = (Scenes(60, 32, label_noise=p).stack()["semantic"] for p in (0, 1, 0.5))
    objects = clean >= 2
    assert (wrong[objects] != clean[objects]).all() and wrong[objects].min() >= 2
    assert torch.equal(wrong[~objects], clean[~objects])
    assert 0.35 < (half != clean)[objects].float().mean() < 0.65
    for k in range(2, 6):  # every wrong class comes up
        assert set(wrong[clean == k].tolist()) == set(range(2, 6)) - {k}


def test_labelled_as_a_count_and_as_a_share():
    batch = Scenes(300, 16, labelled={"semantic": 2, "depth": 0.3, "normals": 0, "boundary": 1.0}).stack()
    semantic = (batch["semantic"] != 255).flatten(1)
    assert semantic[:2].all() and not semantic[2:].any()
    depth = batch["depth"].isfinite().flatten(1)
    assert torch.equal(depth.all(1), depth.any(1)) and 0.2 < depth.all(1).float().mean() < 0.4
    assert batch["normals"].isnan().all() and (batch["boundary"] != 255).all() and (batch["foreground"] != 255).all()


def test_tasks_and_seeds_choose_different_pictures():
    one, two = (Scenes(40, 16, seed, labelled={"depth": 0.5, "normals": 0.5}).stack() for seed in (0, 1))
    chosen = {
        tuple(batch[name].isfinite()[:, 0, 0, 0].tolist()) for batch in (one, two) for name in ("depth", "normals")
    }
    assert len(chosen) == 4


def test_a_larger_share_keeps_the_smaller_one():
    small, large = (Scenes(50, 16, labelled={"depth": p}).stack()["depth"].isfinite()[:, 0, 0, 0] for p in (0.3, 0.6))
    assert (large | ~small).all() and large.sum() > small.sum()


def test_unrelated_lies_across_objects_and_room():
    data = Scenes(100, 32, unrelated=True)
    assert list(data.tasks)[-1] == "unrelated" and data.tasks["unrelated"].classes == ("plain", "weave")
    batch = data.stack()
    weave, objects = batch["unrelated"].float(), batch["foreground"].float()
    assert 0.15 < weave.mean() < 0.6
    assert abs(np.corrcoef(weave.flatten(), objects.flatten())[0, 1]) < 0.1
    change = (batch["image"] - Scenes(100, 32).stack()["image"]).abs().amax(1)
    assert change[weave == 0].max() == 0 and change[weave == 1].mean() > 0.03


def test_difficulty_makes_more_and_smaller_objects():
    rng = np.random.default_rng(0)
    easy, hard = ([draw(rng, d).solids for _ in range(100)] for d in (0.0, 1.0))
    count, size = (lambda s: np.mean([len(x) for x in s])), (lambda s: np.mean([o.radius for x in s for o in x]))
    assert count(hard) > count(easy) + 0.5 and size(hard) < size(easy)
    assert all(2 <= len(s) <= 5 for s in easy + hard)
    assert torch.isfinite(Scenes(3, 16, difficulty=1)[2]["normals"]).all()


def test_objects_of_one_class_have_a_boundary_between_them(monkeypatch):
    two = scene(solid("sphere", x=-0.2), solid("sphere", x=0.3, z=-5.0))
    monkeypatch.setattr(scenes, "draw", lambda rng, difficulty: two)
    regions = torch.from_numpy(render(two, 48).regions)
    meet = (regions[:, :-1] == 2) & (regions[:, 1:] == 3)
    sample = Scenes(1, 48)[0]
    assert meet.any() and (sample["semantic"][regions >= 2] == CLASSES.index("sphere")).all()
    assert (sample["boundary"][:, :-1][meet] == 1).all() and (sample["boundary"][:, 1:][meet] == 1).all()


def test_noise_grows_with_difficulty(monkeypatch):
    grey = scene(solid("sphere"))
    monkeypatch.setattr(scenes, "draw", lambda rng, difficulty: grey)
    clean = torch.from_numpy(render(grey, 32).image)
    noise = [(Scenes(1, 32, difficulty=d)[0]["image"] - clean).std().item() for d in (0, 0.5, 1)]
    assert noise == pytest.approx([0.005, 0.0275, 0.05], abs=0.003)


def test_tasks_are_picked_in_the_given_order():
    data = Scenes(1, 16, tasks=["depth", "semantic"])
    assert list(data.tasks) == ["depth", "semantic"] and list(data[0]) == ["image", "depth", "semantic"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"n": 0}, "n >= 1, and got 0"),
        ({"n": 2.5}, "n >= 1, and got 2.5"),
        ({"size": 15}, "size >= 16, and got 15"),
        ({"seed": -1}, "seed >= 0, and got -1"),
        ({"difficulty": 1.1}, r"difficulty in \[0, 1\], and got 1.1"),
        ({"label_noise": float("nan")}, r"label_noise in \[0, 1\], and got nan"),
        ({"labelled": {"semntic": 3}}, "did you mean 'semantic'"),
        ({"labelled": {"depth": -3}}, r"labelled\['depth'\] >= 0, and got -3"),
        ({"labelled": {"depth": 1.5}}, r"labelled\['depth'\] in \[0, 1\], and got 1.5"),
        ({"labelled": {"unrelated": 3}}, "unknown task in labelled 'unrelated'"),
        ({"tasks": ["dpeth"]}, "did you mean 'depth'"),
    ],
)
def test_bad_values_give_one_sentence(wrong, text):
    with pytest.raises(CourseError, match=text) as error:
        Scenes(**{"n": 2} | wrong)
    assert "\n" not in str(error.value)


# The geometry


def test_a_known_sphere():
    """Camera at the height of the centre, looking straight ahead: the middle pixel is 4 - 0.5 m away."""
    shown = render(scene(solid("sphere"), camera_height=0.5, pitch=0.0), 65)
    assert shown.regions[32, 32] == 2 and shown.depth[32, 32] == pytest.approx(3.5, abs=1e-5)
    np.testing.assert_allclose(shown.normals[:, 32, 32], [0, 0, 1], atol=1e-5)
    # Its outline is a circle of radius f r / sqrt(d² - r²), f = 65 pixels.
    assert (shown.regions == 2).sum() == pytest.approx(np.pi * 65**2 * 0.25 / (16 - 0.25), rel=0.02)


def test_known_wall_and_floor():
    shown = render(scene(camera_height=1.0, pitch=0.0, wall_distance=6.0), 64)
    assert (shown.regions[:32] == 0).all() and (shown.regions[-1] == 1).all()
    np.testing.assert_allclose(shown.depth[shown.regions == 0], 6.0, rtol=1e-6)
    assert shown.depth[-1, 0] == pytest.approx(1.0 / (0.5 * 63 / 64))
    np.testing.assert_allclose(shown.normals[:, -1, 0], [0, 1, 0], atol=1e-6)


def test_lambert_and_cast_shadow():
    view = {"light": (0.6, 0.8, 0.0), "ambient": 0.3, "camera_height": 3.0, "pitch": 0.6}
    shown = render(scene(solid("sphere"), **view), 64)
    floor = shown.image[0][shown.regions == 1]
    lit, dark = 0.8 * (0.3 + 0.8 * 0.8), 0.8 * 0.3
    assert np.isclose(floor, lit, atol=1e-5).sum() + np.isclose(floor, dark, atol=1e-5).sum() == floor.size
    assert 0.01 < np.isclose(floor, dark, atol=1e-5).mean() < 0.3


@pytest.mark.parametrize("shape", SHAPES)
def test_normals_are_the_slope_of_the_depth(shape):
    """Cross product of neighbouring points against the normal, where all 9 pixels lie on the same smooth surface."""
    shown = render(scene(solid(shape, x=0.3), wall_yaw=0.2), 256)
    x, y, z = raycast._rays(256, 0.0)
    points = np.stack([x * shown.depth, y * shown.depth, z * shown.depth]).astype(np.float64)
    right, up = points[:, 1:-1, 2:] - points[:, 1:-1, :-2], points[:, :-2, 1:-1] - points[:, 2:, 1:-1]
    slope = np.cross(right, up, axis=0)
    slope /= np.linalg.norm(slope, axis=0)
    normals = shown.normals[:, 1:-1, 1:-1]
    turn = np.max([np.abs(shown.normals - np.roll(shown.normals, s, (1, 2))).max(0)[1:-1, 1:-1] for s in STEPS], 0)
    alone = np.all([(shown.regions == np.roll(shown.regions, s, (0, 1)))[1:-1, 1:-1] for s in STEPS], 0)
    inside = alone & (turn < 0.1)
    assert (inside & (shown.regions[1:-1, 1:-1] == 2)).sum() > 500
    angle = np.degrees(np.arccos(np.clip((slope * normals).sum(0), -1, 1)))[inside]
    assert np.median(angle) < 0.5 and angle.max() < 4


STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


@pytest.mark.parametrize("seed", range(4))
def test_windows_and_order_change_nothing(seed):
    """Every ray against every solid over the whole picture finds the same first surface."""
    drawn = draw(np.random.default_rng(seed), 0.5)
    shown = render(drawn, 48)
    x, y, z = (np.broadcast_to(v, (48, 48)).astype(np.float64) for v in raycast._rays(48, drawn.pitch))
    nx, _, nz = drawn.wall_normal
    with np.errstate(all="ignore"):
        depths = [-drawn.wall_distance * nz / (nx * x + nz * z), np.where(y < 0, -drawn.camera_height / y, np.inf)]
        eye = (0.0, drawn.camera_height, 0.0)
        depths += [np.nan_to_num(s.hit(eye, (x, y, z)), nan=np.inf) for s in drawn.solids]
    assert (np.argmin(depths, 0) == shown.regions).mean() > 0.999
    np.testing.assert_allclose(np.min(depths, 0), shown.depth, rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_hits_lie_on_the_solid(shape):
    """Points just inside belong to the solid, points just before the surface do not."""
    body = solid(shape)
    rng = np.random.default_rng(0)
    rays = rng.uniform((-0.2, -0.5, -1), (0.2, 0.1, -1), (2000, 3)).T
    with np.errstate(all="ignore"):
        t = body.hit((0.0, 1.8, 0.0), rays)
    hit = np.isfinite(t)
    at = [np.stack(body.local(rays * s + [[0], [1.8], [0]]))[:, hit] for s in (t - 1e-3, t + 1e-3)]
    assert hit.sum() > 100 and not _contains(body, at[0]).any() and _contains(body, at[1]).mean() > 0.99


def _contains(body: Solid, points: np.ndarray) -> np.ndarray:
    x, y, z = points
    aside = np.hypot(x, z)
    return {
        "sphere": aside**2 + (y - body.radius) ** 2 < body.radius**2,
        "box": (abs(x) < body.radius) & (abs(z) < body.thickness) & (0 < y) & (y < body.height),
        "cylinder": (aside < body.radius) & (0 < y) & (y < body.height),
        "cone": (aside < body.radius * (1 - y / body.height)) & (0 < y),
    }[body.shape]
