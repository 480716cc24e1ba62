"""An analytic ray caster: solids on a floor before a wall, under one far light, with every label exact.

The camera stands at (0, camera_height, 0), looks along -z and is tilted down. Its rays have length 1 along its axis, so
a ray's t is the z-depth. H and W are a picture's pixels, N its pixels in the order of their regions.
"""

from dataclasses import dataclass
from math import cos, hypot, sin

import numpy as np

from mtl_course.datasets.solids import Coordinates, Look, Solid, dot, turn

HALF_FIELD = 0.5  # tangent of half the field of view


@dataclass(frozen=True)
class Scene:
    """What the camera sees.

    Args:
        solids: the objects on the floor y = 0.
        floor, wall: their textures.
        wall_distance: from the camera to the wall along -z, in metres.
        wall_yaw: turn of the wall about the vertical, in radians.
        light: unit vector (3,) towards the light.
        ambient: the share of light that comes from everywhere, in [0, 1].
        camera_height: in metres.
        pitch: how far the camera looks down, in radians.
    """

    solids: tuple[Solid, ...]
    floor: Look
    wall: Look
    wall_distance: float = 6.0
    wall_yaw: float = 0.0
    light: tuple[float, float, float] = (0.48, 0.64, 0.6)
    ambient: float = 0.4
    camera_height: float = 1.8
    pitch: float = 0.25

    @property
    def wall_normal(self) -> np.ndarray:
        """Unit vector (3,) out of the wall."""
        return np.float32([sin(self.wall_yaw), 0, cos(self.wall_yaw)])


@dataclass(frozen=True)
class Rendering:
    """What comes out, all (H, W) or (3, H, W), float32 but for the ids.

    Args:
        image: colours in [0, 1], without noise.
        regions: 0 wall, 1 floor, 2 + k solid k; uint8.
        depth: along the camera's axis (z-depth), in metres.
        normals: unit vectors (right, up, towards the camera).
    """

    image: np.ndarray
    regions: np.ndarray
    depth: np.ndarray
    normals: np.ndarray


def render(scene: Scene, size: int) -> Rendering:
    """Draw `scene` as a picture of size × size pixels.

    Two things make it fast: each solid is tried only on the rays of its window, and the pixels are sorted by region
    once, so that every surface is painted as one slice.
    """
    with np.errstate(all="ignore"):  # a ray that misses is NaN
        x, y, z = _rays(size, scene.pitch)
        regions, depth = _trace(scene, size, (x, y, z))
        points = np.stack([x * depth, y * depth + np.float32(scene.camera_height), z * depth])
        order = np.argsort(regions, axis=None, kind="stable")
        starts = np.searchsorted(regions.ravel()[order], np.arange(len(scene.solids) + 3))
        image, normals = _shade(scene, np.take(points.reshape(3, -1), order, axis=1), starts)
    shown = np.empty((2, 3, size * size), np.float32)
    shown[:, :, order] = image, _to_camera(normals, scene.pitch)
    image, normals = shown.reshape(2, 3, size, size)
    return Rendering(image, regions, depth, normals)


def _rays(size: int, pitch: float) -> Coordinates:
    """World directions x (1, W), y (H, 1), z (H, 1): the camera has no yaw, so x depends on the column alone."""
    across = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1) * np.float32(HALF_FIELD)
    up = -across[:, None]
    return across[None], up * cos(pitch) - sin(pitch), -up * sin(pitch) - cos(pitch)


def _to_camera(v: np.ndarray, pitch: float) -> np.ndarray:
    """World directions (3, ...) in camera axes: right, up, towards the camera."""
    c, s = cos(pitch), sin(pitch)
    return np.stack([v[0], c * v[1] - s * v[2], s * v[1] + c * v[2]])


def _trace(scene: Scene, size: int, rays: Coordinates) -> tuple[np.ndarray, np.ndarray]:
    """Which region every ray meets first, uint8 (H, W), and at which depth, float32 (H, W)."""
    x, y, z = rays
    nx, _, nz = scene.wall_normal
    depth = -scene.wall_distance * nz / (nx * x + nz * z)
    floor = np.where(y < 0, -np.float32(scene.camera_height) / y, np.inf)  # (H, 1)
    regions = (floor < depth).view(np.uint8)  # (H, W)
    depth = np.minimum(depth, floor)
    for k, (solid, (rows, columns)) in enumerate(zip(scene.solids, _windows(scene, size))):
        t = solid.hit((0.0, scene.camera_height, 0.0), (x[:, columns], y[rows], z[rows]))
        nearer = t < depth[rows, columns]
        np.copyto(depth[rows, columns], t, where=nearer)
        np.copyto(regions[rows, columns], np.uint8(2 + k), where=nearer)
    return regions, depth


def _windows(scene: Scene, size: int) -> list[tuple[slice, slice]]:
    """The rows and columns that each solid can cover: the corners of its bounding box, as the camera sees them."""
    room = np.reshape([(s.x, s.top / 2, s.z, *s.extent(), s.top / 2) for s in scene.solids], (-1, 6))  # (K, 6)
    corners = room[:, [0, 1, 2]] + _CORNERS[:, None] * room[:, [3, 5, 4]]  # (8, K, 3)
    corners[..., 1] -= scene.camera_height
    across, up, towards = _to_camera(np.moveaxis(corners, -1, 0), scene.pitch)  # (8, K)
    seen = np.stack([-up, across]) / np.maximum(-towards, 1e-3) / HALF_FIELD  # (2, 8, K), in [-1, 1] inside
    pixels = (seen + 1) * (size / 2)
    ends = np.stack([np.floor(pixels.min(1)), np.ceil(pixels.max(1))]).clip(0, size).astype(int)  # (2, 2, K)
    return [(slice(*rows), slice(*columns)) for rows, columns in ends.T.tolist()]


_CORNERS = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])


def _shade(scene: Scene, points: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours and world normals (3, N) at `points` (3, N), which are sorted by region."""
    image, normals = np.empty_like(points), np.empty_like(points)
    wall, floor, *own = map(slice, starts[:-1], starts[1:])
    normals[:, wall], normals[:, floor] = scene.wall_normal[:, None], np.float32([[0], [1], [0]])
    for look, here in ((scene.wall, wall), (scene.floor, floor)):
        image[:, here] = look.paint(turn(points[:, here], scene.wall_yaw))  # the wall at right angles to z
    for solid, here in zip(scene.solids, own):
        local = np.stack(solid.local(points[:, here]))
        image[:, here], normals[:, here] = solid.look.paint(local), turn(solid.normal(local), -solid.yaw)
    light = np.maximum(dot(scene.light, normals), 0)  # Lambert
    _cast_shadows(scene, points, own, light)
    image *= scene.ambient + (1.1 - scene.ambient) * light
    return image, normals


def _cast_shadows(scene: Scene, points: np.ndarray, own: list[slice], light: np.ndarray) -> None:
    """Set `light` (N,) to 0 where a solid stands between the point and the light; `own` are the solids' points."""
    x, y, z = scene.light
    flat = hypot(x, z)
    aside, above = (z / flat, 0.0, -x / flat), (-x * y / flat, flat, -y * z / flat)  # at right angles to the light
    u, v = dot(aside, points), dot(above, points)
    for solid, here in zip(scene.solids, own):
        middle = (solid.x, solid.top / 2, solid.z)
        du, dv = u - dot(aside, middle), v - dot(above, middle)
        near = du * du + dv * dv < solid.bound**2
        near[here] = False  # a convex solid's shadow on itself is where light = 0
        near = np.flatnonzero(near & (light > 0))
        t = solid.hit(points[:, near], scene.light)
        light[near[t > 1e-3]] = 0
