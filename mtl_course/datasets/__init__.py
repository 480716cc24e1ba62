"""Data: made scenes, Pascal VOC, and your own folder of pictures and masks."""

from mtl_course.datasets.folder import Folder
from mtl_course.datasets.loading import loader
from mtl_course.datasets.photos import split
from mtl_course.datasets.scenes import Scenes
from mtl_course.datasets.transforms import joint_transform
from mtl_course.datasets.voc import VOC, VOC_CLASSES

__all__ = ["VOC", "VOC_CLASSES", "Folder", "Scenes", "joint_transform", "split", "loader"]
