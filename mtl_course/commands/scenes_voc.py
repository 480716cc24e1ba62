"""A VOCdevkit of made scenes: the code for Pascal VOC runs where there is no VOC."""

from pathlib import Path

import numpy as np
from PIL import Image

from mtl_course.datasets import targets
from mtl_course.datasets.reading import voc_palette
from mtl_course.datasets.scenes import CLASSES, Scenes
from mtl_course.files import staged
from mtl_course.losses import IGNORE_INDEX

VOC_FOLDER = "VOCdevkit/VOC2012"


def write_scenes_voc(root: str | Path, n_train: int, n_val: int, size: int = 128, seed: int = 0) -> Path:
    """Write made scenes as a VOCdevkit.

    Classes: background (wall and floor) and the solids, named in classes.txt; borders of objects are 255, as in VOC.

    Args:
        root: folder that gets VOCdevkit.
        n_train, n_val: pictures in the splits.
        size: height and width in pixels.
        seed: of the scenes.

    Returns:
        The folder VOC2012.

    Raises:
        CourseError: if there is one already, or the disk is full; nothing was written then.
    """
    target = Path(root).expanduser() / VOC_FOLDER
    names = [f"scene_{i:06d}" for i in range(n_train + n_val)]
    scenes = Scenes(len(names), size, seed, tasks=("semantic", "boundary"), cache=False)
    with staged(target) as part:
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (part / folder).mkdir(parents=True)
        for split, members in {"train": names[:n_train], "val": names[n_train:], "trainval": names}.items():
            (part / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(members) + "\n")
        (part / "classes.txt").write_text("\n".join(("background", *CLASSES[2:])) + "\n")
        for index, name in enumerate(names):
            _write_pair(scenes[index], part / f"JPEGImages/{name}.jpg", part / f"SegmentationClass/{name}.png")
    return target


def _write_pair(scene: dict, picture: Path, mask: Path) -> None:
    ids = (scene["semantic"].numpy() - 1).clip(min=0).astype(np.uint8)  # wall, floor, solids -> 0, 0, 1 ...
    ring = (targets.boundary(ids) == 1) | ((scene["boundary"].numpy() == 1) & (ids > 0))
    palette = Image.fromarray(np.where(ring, np.uint8(IGNORE_INDEX), ids), "P")
    palette.putpalette(voc_palette().tobytes())
    palette.save(mask)
    colors = (scene["image"].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(colors).save(picture, quality=95)
