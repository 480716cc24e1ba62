"""A model as a file: its weights, and enough text to build it again. safetensors files run no code."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from mtl_course import __version__
from mtl_course import tasks as task_makers
from mtl_course.errors import CourseError, MissingFile
from mtl_course.files import write_whole
from mtl_course.models.sharing import build
from mtl_course.tasks import Task, Tasks

_KEY = "mtl_course"


def save(path: str | Path, model: nn.Module, tasks: Tasks, *, half: bool = False) -> Path:
    """Write the weights and the recipe of a model made by `models.build`, whole or not at all.

    Args:
        path: ends in .safetensors.
        model: from `models.build`; a model without a recipe is saved too, and `load` then needs the model.
        tasks: by name.
        half: write float16, half the bytes; `load` gives float32 again.

    Raises:
        CourseError: if the file cannot be written.
    """
    kinds = [{"name": task.name, "kind": task.kind, "classes": task.classes} for task in tasks.values()]
    about = {"version": __version__, "recipe": getattr(model, "recipe", None), "tasks": kinds}
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    if half:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    return write_whole(path, to_bytes(weights, metadata={_KEY: json.dumps(about)}))


def load(path: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, dict[str, Task]]:
    """The model of a checkpoint, on the CPU and in evaluation mode, and its tasks (with the usual loss of their kind).

    Args:
        path: a file that `save` wrote.
        model: the model to fill, for one that `models.build` did not make.

    Raises:
        CourseError: if the file is missing, damaged, or of another model.
    """
    about, weights = _read(Path(path))
    try:
        tasks = {task["name"]: task_makers.restore(**task) for task in about["tasks"]}
        recipe = about["recipe"]
        if model is None and recipe is None:
            raise CourseError(f"{path} does not say how to build its model: pass the model to load as well")
        model = model or build(recipe["model"], recipe["trunk"], tasks, **recipe["trunk_options"])
    except (KeyError, TypeError) as error:
        raise CourseError(f"{path} was written by another version of mtl_course ({error}): train it anew") from error
    try:
        model.load_state_dict(weights)  # float16 becomes what the model has
    except RuntimeError as error:
        raise CourseError(f"{path} holds the weights of another model than the one to fill: {_first(error)}") from error
    return model.eval(), tasks


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise MissingFile(f"there is no checkpoint {path}: train one with `python -m mtl_course train`")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CourseError(f"{path} is damaged or no safetensors file: get it anew ({_first(error)})") from error
    if about is None:
        raise CourseError(f"{path} was not written by mtl_course: expected is a file of `python -m mtl_course train`")
    return about, weights


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
