"""python -m mtl_course view."""

import argparse
import json
import webbrowser
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from mtl_course.commands.evaluate import opened
from mtl_course.datasets.reading import read_mask, read_picture
from mtl_course.errors import CourseError, MissingFile, printable, refuse_unknown
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
    task = data.tasks[_chosen(arguments.task, [task.name for task in data.tasks.values() if task.classes], checkpoint)]
    device = choose_device(arguments.device)
    model.to(device).eval()
    samples = [data[k] for k in range(min(arguments.samples, len(data)))]
    logits = [model(one["image"][None].to(device))[task.name].float().cpu() for one in samples]
    answers = [task.decode(one)[0] for one in logits]
    if task.channels == 1:  # of two classes: sigmoid(z) is the softmax of 0 and z
        logits = [torch.cat([one * 0, one], 1) for one in logits]
    likely = [one.softmax(1)[0] for one in logits]
    images, truth = ([one[name] for one in samples] for name in ("image", task.name))
    names = getattr(data, "names", range(len(data)))[: len(samples)]
    return MaskExplorer(images, truth, answers, likely, names=names, classes=task.classes, title=title)


def _of_predict(arguments: argparse.Namespace, title: str) -> MaskExplorer:
    """Photographs and the masks that predict wrote of them."""
    results = sorted(filter(Path.is_file, arguments.results.glob("[!.]*.json")))[: arguments.samples]
    if not results:
        raise CourseError(f"{arguments.results} holds no results: neither best.safetensors nor a NAME.json of predict")
    images, masks, names, classes = zip(*(_photo(path, arguments) for path in results))
    for path, known in zip(results, classes):
        if known != classes[0]:
            raise CourseError(f"{path} has other classes than {results[0]}: show the results of one model at a time")
    return MaskExplorer(images, prediction=masks, names=names, classes=classes[0], title=title)


def _photo(path: Path, arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
    """One photograph, its mask, its name, and those of the classes."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        masks = {task: path.with_name(f"{path.stem}_{task}.png") for task in about["areas"]}  # refuses another folder
        photo, areas = Path(about["photo"]).name, {task: list(known) for task, known in about["areas"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CourseError(f"{path} is none of predict's: give the folder of predict --out alone") from error
    task = _chosen(arguments.task, areas, path)
    mask = masks[task] if masks[task].is_file() else path.with_name(f"{path.stem}_mask.png")  # that of the first task
    places = [arguments.photos] if arguments.photos else [path.parent, Path()]
    there = [place / photo for place in places if (place / photo).is_file()]
    if not there:
        raise MissingFile(f"{photo} is not in {' or '.join(map(str, places))}: name its folder with --photos")
    return read_picture(there[0]).transpose(2, 0, 1), read_mask(mask, len(areas[task])), photo, areas[task]


def _chosen(task: str | None, known: Collection[str], where: Path) -> str:
    """The task that is meant, else the first with classes."""
    if not known:
        raise CourseError(f"{where}: none of the tasks has classes, so there are no masks to show: train with semantic")
    task = task or next(iter(known))
    refuse_unknown("task with classes", [task], known)
    return task
