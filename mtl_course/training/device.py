"""Where to compute, and in which form of the model."""

import torch

from mtl_course.errors import CourseError

Device = str | torch.device


def choose_device(name: Device = "auto") -> torch.device:
    """The device to compute on: cuda if there is one, else mps, else cpu; or the one named.

    Raises:
        CourseError: if the named device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # not every device that torch names is there, or holds numbers
    except (RuntimeError, AssertionError) as error:
        raise CourseError(f"device {str(name)!r} is not available here: choose auto, cpu, cuda or mps") from error
    return torch.device(name)


def placed(model: torch.nn.Module, place: torch.device, compile: bool = False) -> None:
    """Bring a model to a device in the form that is fast there, and compile its parts if asked to.

    On a GPU convolutions are fastest with the channels last. The parts are compiled, not the model as a whole, so that
    the features between trunk and heads stay where the balancers find them.
    """
    model.to(place, memory_format=torch.channels_last if place.type == "cuda" else torch.preserve_format)
    if compile:
        for part in model.children():
            for module in part.values() if isinstance(part, torch.nn.ModuleDict) else [part]:
                module.compile()
