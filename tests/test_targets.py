"""Targets made from a mask."""

import numpy as np
import pytest

from mtl_course.datasets import targets


@pytest.fixture
def mask():
    return np.random.default_rng(0).choice([0, 1, 7, 255], (9, 12)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_foreground_keeps_ignore_and_dtype(mask, dtype):
    mask = mask.astype(dtype)
    found = targets.foreground(mask)
    assert found.dtype == dtype and found.shape == mask.shape
    assert ((found == 255) == (mask == 255)).all()
    assert ((found == 0) == (mask == 0)).all()
    assert ((found == 1) == ((mask != 0) & (mask != 255))).all()


def test_foreground_with_two_backgrounds(mask):
    assert ((targets.foreground(mask, (0, 1)) == 1) == (mask == 7)).all()


def test_targets_leave_their_input_alone(mask):
    before = mask.copy()
    targets.foreground(mask)
    targets.boundary(mask, mask == 255, width=2)
    assert (mask == before).all()


def _boundary_by_loops(regions, ignore, width):
    """The definition for width 1; every further step adds the 4-neighbours."""
    height, across = regions.shape
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    inside = [(r, c) for r in range(height) for c in range(across)]
    near = {
        (r, c): [(r + dr, c + dc) for dr, dc in steps if 0 <= r + dr < height and 0 <= c + dc < across]
        for r, c in inside
    }
    edge = {p for p in inside if any(regions[p] != regions[q] for q in near[p])}
    unknown = {p for p in inside if ignore[p]}
    for _ in range(width - 1):
        edge |= {q for p in edge for q in near[p]}
    for _ in range(width):
        unknown |= {q for p in unknown for q in near[p]}
    return np.array([255 if p in unknown else int(p in edge) for p in inside]).reshape(regions.shape)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("with_ignore", [False, True])
def test_boundary_equals_its_definition(width, with_ignore):
    rng = np.random.default_rng(width)
    regions = np.kron(rng.integers(0, 3, (3, 4)), np.ones((4, 5), int))
    ignore = rng.random(regions.shape) < (0.05 if with_ignore else 0)
    found = targets.boundary(regions, ignore if with_ignore else None, width)
    assert found.dtype == np.uint8
    assert (found == _boundary_by_loops(regions, ignore, width)).all()


def test_boundary_flips_with_the_regions():
    regions = np.random.default_rng(1).integers(0, 3, (8, 8))
    assert (targets.boundary(regions)[:, ::-1] == targets.boundary(regions[:, ::-1])).all()


def test_one_region_has_no_boundary():
    assert not targets.boundary(np.full((5, 5), 300)).any()
