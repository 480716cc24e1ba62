"""A model as a file: its weights, and enough text to build it again. safetensors files run no code."""

import hashlib
import json
from pathlib import Path

import safetensors.torch
from torch import device, nn

from mtl_course import __version__
from mtl_course.errors import CourseError, Damaged, MissingFile, in_short
from mtl_course.files import write_whole
from mtl_course.models.sharing import build
from mtl_course.tasks import Task, Tasks, restore

_KEY = "mtl_course"
_BLANK = "0" * 64  # what stands in the place of the SHA-256 of the file when that is taken


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
    about = {"sha256": _BLANK, "version": __version__, "recipe": getattr(model, "recipe", None), "tasks": kinds}
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    if half:
        weights |= {name: value.half() for name, value in weights.items() if value.is_floating_point()}
    content = safetensors.torch.save(weights, metadata={_KEY: json.dumps(about)})
    return write_whole(path, content.replace(_BLANK.encode(), hashlib.sha256(content).hexdigest().encode(), 1))


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
        tasks = {task["name"]: restore(**task) for task in about["tasks"]}
        recipe = about["recipe"]
        if "pretrained" in str(recipe):  # it must not fetch anything
            raise TypeError("its recipe is not one of ours")
        if model is None and recipe is not None:
            words = recipe["model"], recipe["trunk"], tasks
            with device("meta"):  # without memory, which a recipe that lies could ask for
                build(*words, **recipe["trunk_options"]).load_state_dict(weights, assign=True)
            model = build(*words, **recipe["trunk_options"])
    except CourseError as error:  # a trunk that is not known, or needs an extra
        raise CourseError(f"{path}: {error}") from error
    except Exception as error:  # anything: the text is not ours
        why = f"cannot be built again from what it says of itself ({in_short(error)})"
        raise CourseError(f"{path} {why}: pass the model to load as well, or train it anew") from error
    if model is None:
        raise CourseError(f"{path} does not say how to build its model: pass the model to load as well")
    try:
        model.load_state_dict(weights)  # float16 becomes what the model has
    except RuntimeError as error:
        said = f"{path} holds the weights of another model than the one to fill"
        raise CourseError(f"{said}: {in_short(error)}") from error
    return model.eval(), tasks


def _read(path: Path) -> tuple[dict, dict]:
    """What the checkpoint says of itself, and its weights."""
    if not path.is_file():
        raise MissingFile(f"there is no checkpoint {path}: train one with `python -m mtl_course train`")
    content = path.read_bytes()  # an OSError tells of the disk or of rights, not of a damaged file
    try:
        weights = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header.get("__metadata__", {}).get(_KEY, "null"))
        if isinstance(about, dict):  # without a SHA-256: of an older version, or of another program
            kept = str(about.pop("sha256", None) or "")
            whole = hashlib.sha256(content.replace(kept.encode(), _BLANK.encode(), 1)).hexdigest()
            if kept not in ("", whole) or about.keys() - {"version", "recipe", "tasks"}:
                raise ValueError("its SHA-256 does not fit")
    except Exception as error:  # anything: the bytes are not ours
        last = path.with_name("last.safetensors")
        mend = f", or take {last}" if path.name == "best.safetensors" and last.is_file() else ""
        raise Damaged(f"{path} is damaged or no safetensors file ({in_short(error)}): get it anew{mend}") from error
    if about is None:
        raise CourseError(f"{path} was not written by mtl_course: expected is a file of `python -m mtl_course train`")
    return about, weights
