"""Targets from VOC's masks: the void ring."""

import numpy as np
import pytest

from mtl_course.datasets.targets import void_ring


def scene(ring: int = 5) -> np.ndarray:
    """A square of class 3 with a void ring, 60 x 60."""
    mask = np.zeros((60, 60), np.uint8)
    mask[20 - ring : 40 + ring, 20 - ring : 40 + ring] = 255
    mask[20:40, 20:40] = 3
    return mask


@pytest.mark.parametrize("ring", [1, 2, 5, 8])
def test_a_thin_ring_is_the_boundary(ring):
    mask = scene(ring)
    assert ((void_ring(mask) == 1) == (mask == 255)).all() and (void_ring(mask) < 255).all()


def test_a_thick_region_is_unknown():
    mask = scene()
    mask[:12, 30:] = 255
    found = void_ring(mask)
    assert (found[:12, 30:] == 255).all()
    assert (found[25:35, 15:20] == 1).all()  # the ring far from it
    assert (found[mask < 255] == 0).all()


def test_a_ring_wider_than_asked_is_unknown():
    mask = scene(12)
    assert (void_ring(mask)[mask == 255] == 255).all()


def test_the_ring_beside_another_class_is_unknown():
    mask = scene()
    found = void_ring(mask, others=mask == 3)
    assert (found[mask != 0] == 255).all() and (found[mask == 0] == 0).all()


def test_pictures_smaller_than_the_ring_and_not_square():
    for shape in ((3, 40), (40, 3), (1, 1)):
        assert (void_ring(np.full(shape, 255, np.uint8)) == 1).all()
        assert void_ring(np.zeros(shape, np.uint8)).shape == shape


def test_the_ring_within_reach_of_a_thick_region_is_unknown():
    """Squares of 9 ignored pixels have their middles from column 34 on; 4 + 8 pixels around them are unknown."""
    mask = scene()
    mask[:12, 30:] = 255
    found = void_ring(mask)
    assert (found[15:20, 22:45] == 255).all() and (found[15:20, 15:22] == 1).all()
