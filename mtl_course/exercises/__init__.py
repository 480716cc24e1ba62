"""The checks of the exercises: `check.NAME(your_function)` in notebooks/exercises.

Each lessons_NN_MM.py holds those of two lessons: functions that give the right answer and the typical wrong ones.
"""

from importlib import import_module
from pkgutil import iter_modules

from mtl_course.errors import unknown
from mtl_course.exercises.engine import Check


class _Checks:
    """Every exercise by its name."""

    def __init__(self) -> None:
        for module in sorted(found.name for found in iter_modules(__path__) if found.name.startswith("lessons_")):
            every = vars(import_module(f"{__name__}.{module}")).items()
            vars(self).update({name: part for name, part in every if isinstance(part, Check)})

    def __getattr__(self, name: str) -> Check:
        raise AttributeError(str(unknown("exercise", name, vars(self))))


check = _Checks()
