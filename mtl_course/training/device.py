"""Where to compute."""

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
