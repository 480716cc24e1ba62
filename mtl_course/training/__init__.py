"""Training and evaluation: steps 5 and 6 of the method, and what keeps their result."""

from mtl_course.errors import Interrupted
from mtl_course.models.storage import load, save
from mtl_course.training.device import choose_device
from mtl_course.training.evaluation import evaluate, predict, run_metrics
from mtl_course.training.keeper import Keeper
from mtl_course.training.loop import fit
from mtl_course.training.objective import Objective

__all__ = ["Interrupted", "Keeper", "Objective", "choose_device", "evaluate", "fit", "load", "predict",
           "run_metrics", "save"]  # fmt: skip
