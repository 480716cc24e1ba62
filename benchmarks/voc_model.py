"""Train the course's Pascal VOC model for long, score it on val, and keep it: checkpoint and figures.

python benchmarks/voc_model.py --root DIR [--epochs N] [--size PIXELS] [--write]: the run is kept in runs/voc_model, and
goes on there when it is started again. --write replaces data/checkpoints/voc.safetensors and voc.json.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from _report import machine, report

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "data" / "records"))
RUN = ROOT / "runs" / "voc_model"
TARGET = ROOT / "data" / "checkpoints" / "voc"


def main() -> None:
    """Train, score, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="the folder that holds VOCdevkit")
    parser.add_argument("--epochs", type=int, default=52)
    parser.add_argument("--size", type=int, default=224, help="height and width of the crops of training")
    parser.add_argument("--run", type=Path, default=RUN)
    parser.add_argument("--write", action="store_true", help="replace the checkpoint that the course ships")
    arguments = parser.parse_args()
    os.environ["MTL_COURSE_DATA"] = arguments.root
    torch.set_num_threads(1)
    from _voc_model import TRIO, score, train

    resume = (arguments.run / "state.pt").exists()
    options = {"checkpoint": arguments.run, "resume": resume, "progress": True}
    model, history = train(TRIO, "train", arguments.size, arguments.epochs, 0, **options)
    found = {
        "scored on": machine(),
        "crops": arguments.size,
        "epochs": len(history),
        "steps": len(history) * (437 // 16),
        "training seconds, wall": sum(row["seconds"] for row in history),
        "torch": torch.__version__,
        "scores": {str(size): score(model, TRIO, "val", size) for size in (224, 320, 416)},
    }
    print(json.dumps(found, indent=2))
    if arguments.write:
        from mtl_course import training
        from mtl_course.datasets import VOC  # noqa: F401

        training.save(TARGET.with_suffix(".safetensors"), model, train_tasks(TRIO), half=True)
        TARGET.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
        tell(found)


def tell(found: dict) -> None:
    """Put the scores into RESULTS.md."""
    command = f"python benchmarks/voc_model.py --root DIR --epochs {found['epochs']} --size {found['crops']} --write"
    rows = [
        {
            "pixels a side when scored": size,
            "mIoU": f"{scores['semantic']['miou']:.3f}",
            "foreground IoU": f"{scores['foreground']['iou_foreground']:.3f}",
            "boundary F1": f"{scores['boundary']['f1']:.3f}",
        }
        for size, scores in found["scores"].items()
    ]
    minutes = found["training seconds, wall"] / 60
    report(
        f"The shipped model of Pascal VOC on val, one run of {found['steps']} steps, {minutes:.0f} min", command, rows
    )


def train_tasks(names: tuple[str, ...]) -> dict:
    """The tasks of the model."""
    from _voc_model import CLASSES

    from mtl_course import tasks

    return tasks.make(names, CLASSES)


if __name__ == "__main__":
    main()
