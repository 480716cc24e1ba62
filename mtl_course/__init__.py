"""Multi-task learning for image segmentation: the package that the lessons import.

Submodules load on first use, so `import mtl_course` costs nothing and pulls in neither Jupyter nor matplotlib.
"""

from importlib import import_module

__version__ = "0.1.0"

_SUBMODULES = ("formula", "losses", "metrics", "tasks", "datasets", "models", "balancing", "training", "records",
               "plotting", "widgets", "exercises", "doctor")  # fmt: skip


def __getattr__(name: str):
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'mtl_course' has no attribute {name!r}; it has {', '.join(_SUBMODULES)}")
