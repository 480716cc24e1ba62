"""Viewers for notebooks: masks that can be touched. Each draws in the browser, and shows pictures where none runs."""

from mtl_course.widgets.explorer import MaskExplorer
from mtl_course.widgets.front import FrontExplorer
from mtl_course.widgets.mixer import AlphaMixer
from mtl_course.widgets.playground import GradientPlayground
from mtl_course.widgets.scrubber import EpochScrubber

__all__ = ["AlphaMixer", "EpochScrubber", "FrontExplorer", "GradientPlayground", "MaskExplorer"]
