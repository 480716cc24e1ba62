"""Training and evaluation: steps 5 and 6 of the method, and what keeps their result."""

from mtl_course.training.checkpoints import Keeper, load, save
from mtl_course.training.device import choose_device
from mtl_course.training.loop import evaluate, fit, run_metrics
from mtl_course.training.objective import Objective

__all__ = ["Keeper", "Objective", "choose_device", "evaluate", "fit", "load", "run_metrics", "save"]
