"""Random scenes: which solids stand where, in which colours, under which light."""

from colorsys import hsv_to_rgb
from dataclasses import replace
from math import cos, hypot, pi, radians, sin

import numpy as np

from mtl_course.datasets.raycast import HALF_FIELD, Scene
from mtl_course.datasets.solids import SHAPES, Look, Solid

_PATTERNS = ("checker", "stripes", "marble")
_TRIES = 48
# Crates and columns: without it, box and cylinder are hard to tell apart at 64 pixels.
_PROPORTIONS = {"sphere": (1, 1, 1), "box": (1, 0.75, 1), "cylinder": (0.85, 1.1, 1), "cone": (1.1, 1.1, 1)}


def draw(rng: np.random.Generator, difficulty: float) -> Scene:
    """A random scene.

    Args:
        rng: where the randomness comes from.
        difficulty: in [0, 1]: more and smaller objects, more of them in the colours of the room.
    """
    wall_distance, wall_yaw = rng.uniform(5.5, 7.0), rng.uniform(-0.35, 0.35)
    room = [_look(rng, _colors(rng, 0.15 + 0.5 * difficulty), rng.uniform(0.8, 1.4)) for _ in range(2)]
    solids = tuple(_dress(rng, s, difficulty, room) for s in _place(rng, difficulty, wall_distance, wall_yaw))
    elevation, azimuth = radians(rng.uniform(35, 60)), radians(rng.uniform(-70, 70))
    light = (cos(elevation) * sin(azimuth), sin(elevation), cos(elevation) * cos(azimuth))
    ambient, camera_height, pitch = rng.uniform((0.3, 1.8, 0.28), (0.45, 2.4, 0.4)).tolist()
    return Scene(solids, *room, wall_distance, wall_yaw, light, ambient, camera_height, pitch)


def _place(rng: np.random.Generator, difficulty: float, wall_distance: float, wall_yaw: float) -> list[Solid]:
    """2 to 5 solids that touch neither each other nor the wall, still without yaw and look."""
    wanted = 2 + rng.binomial(3, 0.25 + 0.5 * difficulty)
    scale = (1.28 - 0.38 * difficulty) * np.linspace(1, 0.5, _TRIES)[:, None]  # smaller until it fits
    sizes = scale * rng.uniform((0.42, 0.9, 0.4), (0.65, 1.5, 0.6), (_TRIES, 3))  # radius, height, thickness
    middles = rng.uniform((-0.85, 2.9), (0.85, 5.0), (_TRIES, 2)).tolist()  # share of the half field, distance
    kinds = rng.integers(0, len(SHAPES), _TRIES).tolist()
    placed: list[Solid] = []
    for kind, (side, distance), size in zip(kinds, middles, sizes.tolist()):
        x, z = side * distance * HALF_FIELD, -distance
        new = Solid(SHAPES[kind], x, z, *(s * c for s, c in zip(size, _PROPORTIONS[SHAPES[kind]])))
        room_behind = sin(wall_yaw) * x + cos(wall_yaw) * (z + wall_distance)
        if room_behind > new.reach and all(hypot(x - s.x, z - s.z) > new.reach + s.reach for s in placed):
            placed.append(new)
        if len(placed) == wanted:
            break
    return placed


def _dress(rng: np.random.Generator, solid: Solid, difficulty: float, room: list[Look]) -> Solid:
    hidden = rng.random() < 0.6 * difficulty  # in the colours of wall or floor, with a texture of its own
    colors = room[rng.integers(2)].colors if hidden else _colors(rng, 0.8)
    return replace(solid, yaw=rng.uniform(0.2, pi / 2 - 0.2), look=_look(rng, colors, rng.uniform(1.6, 3.2)))


def _look(rng: np.random.Generator, colors: np.ndarray, waves: float) -> Look:
    """A random pattern of these colours; `waves` in half periods a metre."""
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    turn = rng.uniform(-pi, pi)
    c, s = cos(turn), sin(turn)
    axes = np.eye(3) if pattern == "checker" else np.array([[c, 0.6, s], [-s, 0.6, c], [s, 0.6, -c]])
    return Look(colors, pattern, np.float32(waves * axes), rng.random(3, np.float32))


def _colors(rng: np.random.Generator, saturation: float) -> np.ndarray:
    """A light and a dark colour (2, 3) of neighbouring hues."""
    hue, step, strength, light, dark = rng.uniform((0, 0.03, 0.75, 0.85, 0.58), (1, 0.14, 1.15, 1, 0.76)).tolist()
    strong = min(saturation * strength, 1)
    return np.float32([hsv_to_rgb(hue, strong, light), hsv_to_rgb(hue + step, strong, dark)])
