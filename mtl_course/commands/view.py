"""python -m mtl_course view."""

import argparse
import json
import webbrowser
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from mtl_course.commands.evaluate import opened
from mtl_course.commands.options import printable
from mtl_course.datasets.reading import read_mask, read_picture
from mtl_course.errors import CourseError, MissingFile, refuse_unknown
from mtl_course.training import choose_device
from mtl_course.widgets import MaskExplorer


def view(arguments: argparse.Namespace) -> None:
    """Write the page of a checkpoint, of a run, or of what predict wrote, and open it."""
    results = arguments.results
    if not results.exists():
        raise MissingFile(f"{results} is not there: expected is a checkpoint, the folder of a run, or that of predict")
    best = results / "best.safetensors" if results.is_dir() else results
    title = f"{arguments.task or 'Masks'} of {printable(results)}"
    explorer = _of_run(arguments, best, title) if best.is_file() else _of_predict(arguments, title)
    path = explorer.save_html(arguments.out, title).resolve()
    print(printable(path))
    if not arguments.no_open:
        webbrowser.open(path.as_uri())


@torch.no_grad()
def _of_run(arguments: argparse.Namespace, checkpoint: Path, title: str) -> MaskExplorer:
    """Pictures of the val split, with truth, prediction and probabilities."""
    arguments.checkpoint = checkpoint
    model, data = opened(arguments)
    task = data.tasks[_chosen(arguments.task, [task.name for task in data.tasks.values() if task.classes])]
    device = choose_device(arguments.device)
    model.to(device).eval()
    samples = [data[k] for k in range(min(arguments.samples, len(data)))]
    logits = [model(one["image"][None].to(device))[task.name].float().cpu() for one in samples]
    if not all(one.isfinite().all() for one in logits):
        raise CourseError(f"the model's {task.name!r} is not finite: train it with lower lr")
    if task.channels == 1:  # of two classes
        likely = [torch.cat([(-one).sigmoid(), one.sigmoid()], 1)[0] for one in logits]
    else:
        likely = [one.softmax(1)[0] for one in logits]
    images, truth = ([one[name] for one in samples] for name in ("image", task.name))
    names = getattr(data, "names", range(len(data)))[: len(samples)]
    answers = [task.decode(one)[0] for one in logits]
    return MaskExplorer(images, truth, answers, likely, names=names, classes=task.classes, title=title)


def _of_predict(arguments: argparse.Namespace, title: str) -> MaskExplorer:
    """Photographs and the masks that predict wrote of them."""
    results = sorted(arguments.results.glob("*.json"))[: arguments.samples] if arguments.results.is_dir() else []
    if not results:
        raise CourseError(f"{arguments.results} holds no results: neither best.safetensors nor a NAME.json of predict")
    found = [_photo(path, arguments) for path in results]
    for path, one in zip(results, found):
        if one["classes"] != found[0]["classes"]:
            raise CourseError(f"{path} has other classes than {results[0]}: show the results of one model at a time")
    columns = {name: [one[name] for one in found] for name in ("images", "prediction", "names")}
    return MaskExplorer(**columns, classes=found[0]["classes"], title=title)


def _photo(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One photograph, its mask, and the names of the classes."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        photo, areas = Path(about["photo"]).name, {task: list(known) for task, known in about["areas"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{path} is none of predict's: give the folder of predict --out alone") from error
    task = _chosen(arguments.task, areas)
    mask = path.with_name(f"{path.stem}_{task}.png")  # the first task's ends in _mask
    mask = mask if mask.is_file() else path.with_name(f"{path.stem}_mask.png")
    places = [arguments.photos] if arguments.photos else [path.parent, Path()]
    there = [place / photo for place in places if (place / photo).is_file()]
    if not there:
        raise MissingFile(f"{photo} is not in {' or '.join(map(str, places))}: name its folder with --photos")
    image = read_picture(there[0]).transpose(2, 0, 1)
    found = read_mask(mask, len(areas[task]))
    return {"images": image, "prediction": found, "names": photo, "classes": areas[task]}


def _chosen(task: str | None, known: Collection[str]) -> str:
    """The task that is meant, else the first with classes."""
    if not known:
        raise CourseError("none of the tasks has classes, so there are no masks to show: train with semantic")
    task = task or next(iter(known))
    refuse_unknown("task with classes", [task], known)
    return task
