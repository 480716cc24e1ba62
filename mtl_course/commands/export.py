"""python -m mtl_course export."""

import argparse
import json
import warnings
from typing import Any

import torch

from mtl_course import __version__, models, training
from mtl_course.commands.options import recall
from mtl_course.commands.predict import SIZE
from mtl_course.errors import CourseError, in_short
from mtl_course.files import write_whole

LIMIT = 1e-3  # largest difference from PyTorch, as a share of the range of the logits


@torch.no_grad()
def export(arguments: argparse.Namespace) -> None:
    """Write a checkpoint as ONNX, once onnxruntime gives the answers that PyTorch gives."""
    model, tasks = training.load(arguments.checkpoint)
    size = arguments.size or recall(arguments.checkpoint).get("size") or SIZE
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, which torch.onnx needs
    except ImportError as error:
        raise CourseError(f"{error.name} is missing: pip install 'mtl_course[export]'") from error
    # The padding of this network is computed from the size by Python code, in which torch.export would lose itself.
    any_size = not model.recipe["trunk"].startswith(models.backbones.LITE)
    model(torch.zeros(1, 3, size, size))  # it says itself, in a sentence, what size it needs
    program = _program(model, list(tasks), size, any_size)
    kinds = {name: {"kind": task.kind, "classes": task.classes, "unit": task.unit} for name, task in tasks.items()}
    for key, value in {"mtl_course": __version__, "size": str(size), "tasks": json.dumps(kinds)}.items():
        program.metadata_props.add(key=key, value=value)
    content = program.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    shapes = [(1, size, size), (3, size, size), *([(2, size + 32, size)] if any_size else [])]
    print(f"largest difference from PyTorch: {_difference(model, session, shapes):.1e} of the range of the outputs")
    shown = "any height and width" if any_size else f"height and width {size}"
    print(f"{write_whole(arguments.out, content)}: any batch size, {shown}; outputs {', '.join(tasks)}")


def _program(model: torch.nn.Module, names: list[str], size: int, any_size: bool) -> Any:
    """The model as an ONNX ModelProto, made without the exporter's warnings.

    Raises:
        CourseError: if it cannot be written so.
    """
    free = dict.fromkeys((0, 2, 3) if any_size else (0,), torch.export.Dim.DYNAMIC)
    how = {"verbose": False, "dynamic_shapes": (free,), "input_names": ["images"], "output_names": names}
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.onnx.export(model, (torch.rand(2, 3, size, size),), **how).model_proto
    except torch.onnx.OnnxExporterError as error:
        raise CourseError(f"no ONNX of this model ({in_short(error)}): choose another --size or trunk") from error


def _difference(model: torch.nn.Module, session: Any, shapes: list[tuple[int, int, int]]) -> float:
    """The largest difference between the answers of PyTorch and of onnxruntime to random pictures.

    Args:
        model: of PyTorch.
        session: of onnxruntime.
        shapes: (B, H, W) of the pictures.

    Returns:
        As a share of the range of each output.

    Raises:
        CourseError: if it is larger than `LIMIT`.
    """
    worst = 0.0
    for batch, height, width in shapes:
        images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
        expected = model(images)
        answers = session.run(list(expected), {"images": images.numpy()})
        for (name, right), found in zip(expected.items(), answers):
            share = float((torch.from_numpy(found) - right).abs().max() / (right.max() - right.min()).clamp(min=1e-6))
            if not share <= LIMIT:
                raise CourseError(f"onnxruntime's {name!r} differs from PyTorch's by {share:.1e} of its range, more "
                                  f"than {LIMIT}: nothing was written")  # fmt: skip
            worst = max(worst, share)
    return worst
