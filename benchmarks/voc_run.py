"""A U-Net from scratch on Pascal VOC photographs, foreground against background, beside constant answers.

Run: python benchmarks/voc_run.py --root DIR  (--write puts the table into benchmarks/RESULTS.md)
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from _report import report

from mtl_course.__main__ import main as command
from mtl_course.datasets import VOC


def constant(root: str, answer: int) -> dict[str, float]:
    """The scores of one answer for every pixel of val."""
    data = VOC(root, split="val", tasks=["foreground"], size=128)
    metric = data.tasks["foreground"].metric()
    for sample in data:
        metric.update(torch.full_like(sample["foreground"], answer)[None], sample["foreground"][None])
    return metric.compute()


def trained(root: str) -> tuple[dict[str, float], float]:
    """The scores on val after `train`, and the seconds that took."""
    with tempfile.TemporaryDirectory() as folder:
        start, out = time.perf_counter(), Path(folder) / "run"
        assert (
            command(
                ["train", "--data", "voc", "--root", root, "--tasks", "foreground", "--epochs", "5", "--out", str(out)]
            )
            == 0
        )
        seconds = time.perf_counter() - start
        scores = Path(folder) / "scores.json"
        assert command(["evaluate", "--checkpoint", str(out / "best.safetensors"), "--json", str(scores)]) == 0
        return json.loads(scores.read_text())["foreground"], seconds


def main() -> None:
    """Measure, print, and write the table if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    model, seconds = trained(arguments.root)
    answers = {
        "background everywhere": constant(arguments.root, 0),
        "object everywhere": constant(arguments.root, 1),
        f"U-Net, 5 epochs, {seconds:.0f} s": model,
    }
    names = ("accuracy", "iou_background", "iou_foreground", "miou")
    rows = [{"answer": answer} | {n: f"{scores[n]:.3f}" for n in names} for answer, scores in answers.items()]
    if arguments.write:
        report(
            "Foreground of Pascal VOC photographs (val), one seed",
            "python benchmarks/voc_run.py --root DIR --write",
            rows,
        )
    else:
        print(*rows, sep="\n")


if __name__ == "__main__":
    main()
