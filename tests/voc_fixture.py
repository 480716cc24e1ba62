"""A small VOCdevkit of drawn shapes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_course.datasets.reading import voc_palette

REPOSITORY = Path(__file__).parents[1]
SHAPES = {"cat": 8, "dog": 12, "person": 15}
COLORS = np.uint8([[40, 90, 40], [220, 60, 60], [60, 60, 220], [230, 220, 80]])  # background and the shapes


def real_voc() -> Path | None:
    """The folder of a real VOCdevkit, if there is one: MTL_COURSE_DATA, or shared/data beside the repository."""
    given = os.environ.get("MTL_COURSE_DATA")
    places = [Path(given)] if given else [REPOSITORY.parent / "shared" / "data"]
    return next((place for place in places if (place / "VOCdevkit" / "VOC2012").is_dir()), None)


def draw(seed: int, height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) with a disc and a rectangle, and its ids (H, W), with a void ring of 3 pixels around each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = [np.hypot(y - height * 0.4, x - width * 0.3) - height * 0.2]
    inside.append(np.maximum(abs(y - height * 0.6) - height * 0.2, abs(x - width * 0.72) - width * 0.15))
    picture, ids = np.broadcast_to(COLORS[0], (height, width, 3)).copy(), np.zeros((height, width), np.uint8)
    for distance, kind in zip(inside, rng.choice(3, 2, replace=False), strict=True):
        picture[distance < 0] = COLORS[kind + 1]
        ids[distance < -1.5] = list(SHAPES.values())[kind]
        ids[abs(distance) <= 1.5] = 255
    return (picture + rng.integers(0, 20, picture.shape)).clip(0, 255).astype(np.uint8), ids


def save_mask(ids: np.ndarray, path: Path) -> None:
    """A palette PNG, as VOC has them."""
    mask = Image.fromarray(ids, "P")
    mask.putpalette(voc_palette().tobytes())
    mask.save(path)


def write_devkit(root: Path, n_train: int = 10, n_val: int = 4) -> Path:
    """A VOCdevkit in `root`; its VOC2012."""
    folder = root / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    names = [f"2007_{i:06d}" for i in range(n_train + n_val)]
    for i, name in enumerate(names):
        picture, ids = draw(i, *((60, 80) if i % 2 else (80, 60)))
        Image.fromarray(picture).save(folder / f"JPEGImages/{name}.jpg", quality=95)
        save_mask(ids, folder / f"SegmentationClass/{name}.png")
    for split, members in {"train": names[:n_train], "val": names[n_train:], "trainval": names}.items():
        (folder / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(members) + "\n")
    return folder


@pytest.fixture(scope="session")
def voc_root(tmp_path_factory):
    """The folder that holds a VOCdevkit of 10 pictures to train on and 4 to validate on; only to be read."""
    root = tmp_path_factory.mktemp("voc")
    write_devkit(root)
    return root


@pytest.fixture
def voc_copy(tmp_path):
    """A VOC2012 of 5 + 2 pictures of one's own, to be broken."""
    return write_devkit(tmp_path, 5, 2)


def write_leaves(folder: Path) -> Path:
    """A folder of 10 pictures of noise with masks of nothing and leaf."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / f"images/{i}.png")
        save_mask(rng.integers(0, 2, (20, 20)).astype(np.uint8), folder / f"masks/{i}.png")
    (folder / "classes.txt").write_text("nothing\nleaf\n")
    return folder
