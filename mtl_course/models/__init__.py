"""Trunks g(x, θ) and the ways in which tasks share them."""

from mtl_course.models.backbones import backbone
from mtl_course.models.costs import cost, ratios
from mtl_course.models.mixing import AttentionSharing, CrossStitch, Mixture
from mtl_course.models.parts import head
from mtl_course.models.sharing import HardSharing, SingleTask, SoftSharing, build
from mtl_course.models.trunks import Trunk, UNet

__all__ = ["AttentionSharing", "CrossStitch", "HardSharing", "Mixture", "SingleTask", "SoftSharing", "Trunk", "UNet",
           "backbone", "build", "cost", "head", "ratios"]  # fmt: skip
