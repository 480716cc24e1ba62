"""Pictures a second from VOC's files to a training batch, beside torchvision's VOCSegmentation.

All decode, resize, crop to 128 x 128 (half to all of the area), mirror and batch, in one process on one thread. The
repeats of all readers alternate, and ratios are taken within a repeat; their median is reported. Time is that of the
process (the files are in memory by then), since others may use the machine.

Run: python benchmarks/voc_reading.py [--root DIR]  (--write puts the table into benchmarks/RESULTS.md)
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from _report import RESULTS, report
from torch.utils.data import DataLoader, Subset
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from mtl_course.commands.scenes_voc import write_scenes_voc
from mtl_course.datasets import VOC
from mtl_course.datasets.transforms import CROP_AREA, ROOM
from mtl_course.errors import MissingFile

SIZE, BATCH = 128, 16


def torchvision_set(root: Path, resize: bool) -> VOCSegmentation:
    """torchvision's reader with the transforms that its documentation shows."""
    dtypes = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
    steps = [
        v2.ToImage(),
        *([v2.Resize(round(SIZE * ROOM), antialias=True)] if resize else []),
        v2.RandomResizedCrop(SIZE, scale=CROP_AREA, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(dtypes, scale=True),
    ]
    data = VOCSegmentation(root, year="2012", image_set="train", transforms=v2.Compose(steps))
    return wrap_dataset_for_transforms_v2(data)


def seconds(data: torch.utils.data.Dataset, pictures: int) -> float:
    """One epoch over the first pictures, in batches."""
    start = time.process_time()
    for _ in DataLoader(Subset(data, range(pictures)), BATCH):
        pass
    return time.process_time() - start


def repeat(root: Path, pictures: int) -> dict[str, float]:
    """Seconds of one epoch of each reader."""
    took = {}
    for name, resize in (("torchvision, resize and crop", True), ("torchvision, crop alone", False)):
        took[name] = seconds(torchvision_set(root, resize), pictures)
    start = time.process_time()
    ours = VOC(root, size=SIZE, augment=True)
    opened = time.process_time() - start  # all headers are checked
    took["ours, first epoch (headers checked)"] = seconds(ours, pictures) + opened * pictures / len(ours)
    took["ours, from the second epoch"] = seconds(ours, pictures)
    return took


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=os.environ.get("MTL_COURSE_DATA"))
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        root, what = arguments.root, "Pascal VOC photographs"
        try:
            VOC(root if root else "none")
        except MissingFile:
            root, what = Path(made), "a made VOCdevkit of scenes"
            write_scenes_voc(root, 64, 1, size=400)
        pictures = min(arguments.pictures, len(VOC(root)))
        repeat(root, pictures)  # files into the page cache, code warm
        measured = [repeat(root, pictures) for _ in range(arguments.repeats)]
    rows = []
    for name in measured[0]:
        rate = statistics.median(pictures / took[name] for took in measured)
        ratios = [took["torchvision, resize and crop"] / took[name] for took in measured]
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        rows.append(
            {
                "reader": name,
                "pictures per CPU second": f"{rate:.0f}",
                "ratio (lowest, highest)": f"{median:.2f} ({low:.2f}, {high:.2f})",
            }
        )
    print(f"{what}, {pictures} pictures, {arguments.repeats} repeats")
    path = RESULTS if arguments.write else Path(os.devnull)
    report(f"Reading {what}, {SIZE}×{SIZE}", "python benchmarks/voc_reading.py --root DIR --write", rows, path)


if __name__ == "__main__":
    main()
