"""python -m mtl_course evaluate."""

import argparse
import json

from torch import nn
from torch.utils.data import Dataset

from mtl_course import datasets, training
from mtl_course.commands.options import open_data, recall
from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.files import write_whole


def evaluate(arguments: argparse.Namespace) -> None:
    """Score a checkpoint, on the data of its run if no other is meant."""
    model, data = opened(arguments)
    print(f"{len(data)} pictures of {arguments.data or 'scenes'}; tasks {', '.join(data.tasks)}")
    scores = training.evaluate(model, data.tasks, datasets.loader(data, arguments.batch_size), arguments.device)
    report(scores)
    if arguments.json:
        write_whole(arguments.json, (json.dumps(scores, indent=2) + "\n").encode())


def opened(arguments: argparse.Namespace) -> tuple[nn.Module, Dataset]:
    """The model of a checkpoint and the val split of its data, of the run's if no other is meant.

    Raises:
        CourseError: if the data has other tasks or classes than the checkpoint.
    """
    model, tasks = training.load(arguments.checkpoint)
    config = recall(arguments.checkpoint)
    if arguments.data in (None, config.get("data")):
        for name in ("data", "root", "classes", "size", "seed"):
            if getattr(arguments, name) is None:
                setattr(arguments, name, config.get(name))
    arguments.tasks = arguments.tasks or ",".join(tasks)
    data = open_data(arguments, "val")
    refuse_unknown("task of this checkpoint", data.tasks, tasks)
    for name, task in data.tasks.items():
        if task.classes != tasks[name].classes:
            known, here = ", ".join(tasks[name].classes), ", ".join(task.classes)
            said = f"{arguments.checkpoint} knows the classes {known} for {name!r}, and this data {here}"
            raise CourseError(f"{said}: pass the same --classes as in training")
    return model, data


def report(scores: dict[str, dict[str, float]]) -> None:
    """Print the scores of each task, {task: {metric: value}}; each class has a row of its own."""
    width = max(len(name) for found in scores.values() for name in found)
    for task, found in scores.items():
        print(task)
        for name, value in found.items():
            print(f"  {name:{width}}  {value:8.4f}")
