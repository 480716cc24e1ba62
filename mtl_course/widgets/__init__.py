"""Viewers for notebooks: masks that can be touched. Each draws in the browser, and shows pictures where none runs."""

from mtl_course.widgets.explorer import MaskExplorer

__all__ = ["MaskExplorer"]
