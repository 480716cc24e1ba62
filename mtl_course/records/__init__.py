"""Long runs whose results the lessons read: stored with all that is needed to repeat them, and checked.

data/records/README.md says how a record is made; the experiments themselves stand there too, one file each;
`python -m mtl_course records` runs and shows them.
"""

from mtl_course.records.intervals import bootstrap_interval, by_arm, judge, mean_interval, paired_difference
from mtl_course.records.store import Experiment, folder, load, names, program

__all__ = ["Experiment", "bootstrap_interval", "by_arm", "folder", "judge", "load", "mean_interval", "names",
           "paired_difference", "program"]  # fmt: skip
