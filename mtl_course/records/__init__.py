"""Long runs whose results the lessons read: run, stored with all that is needed to repeat them, checked, shown.

data/records/README.md says how a record is made; the experiments themselves stand there too, one file each.
"""

from mtl_course.records.intervals import by_arm, mean_interval, paired_difference
from mtl_course.records.runner import run
from mtl_course.records.store import Experiment, folder, load, names, problems, program

__all__ = ["Experiment", "by_arm", "folder", "load", "mean_interval", "names",
           "paired_difference", "problems", "program", "run"]  # fmt: skip
