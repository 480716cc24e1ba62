"""One of two processes that train, with a fault: torchrun tests/rank_run.py KIND train ...

KIND is "picture" (one is cut short after the check), "nan" (rank 1 reads a picture of NaN), "unlabelled" (rank 1 sees
no label to learn from) or "killed" (rank 1, by SIGKILL, in the second epoch).
"""

import os
import signal
import sys

import torch

from mtl_course.__main__ import _stop, main
from mtl_course.commands import train
from mtl_course.datasets.photos import MaskedPhotos
from mtl_course.training.trainer import Trainer

SECOND = os.environ["RANK"] == "1"


def check_and_cut(*parts):
    """The check, and then one of the processes cuts the pictures short."""
    check(*parts)
    root = sys.argv[sys.argv.index("--root") + 1]
    if SECOND:
        for name in os.listdir(f"{root}/images"):
            path = f"{root}/images/{name}"
            with open(path, "rb") as file:
                start = file.read(60)
            with open(path, "wb") as file:
                file.write(start)


def read_nan(self, index):
    """A sample whose picture is NaN in one of the processes."""
    sample = read(self, index)
    return sample | {"image": sample["image"] * torch.nan} if SECOND and self.augment else sample


def read_no_label(self, index):
    """A sample whose mask is unknown in one of the processes."""
    sample = read(self, index)
    return sample | {"semantic": sample["semantic"] * 0 + 255} if SECOND and self.augment else sample


def be_killed(self, batch, where):
    """A step that one of the processes does not live to see."""
    if SECOND and where.startswith("epoch 2"):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, where)


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    signal.signal(signal.SIGTERM, _stop)  # as `python -m mtl_course` does
    read, step, check = MaskedPhotos.__getitem__, Trainer.step, train.refuse_damaged
    if kind == "picture":
        train.refuse_damaged = check_and_cut
    if kind == "nan":
        MaskedPhotos.__getitem__ = read_nan
    if kind == "unlabelled":
        MaskedPhotos.__getitem__ = read_no_label
    if kind == "killed":
        Trainer.step = be_killed
    sys.exit(main(words))
