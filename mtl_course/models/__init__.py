"""Trunks g(x, θ) and the ways in which tasks share them."""

from mtl_course.models.sharing import HardSharing, SingleTask, build, head
from mtl_course.models.trunks import UNet

__all__ = ["HardSharing", "SingleTask", "UNet", "build", "head"]
