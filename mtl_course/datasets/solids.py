"""Solids with a texture: where a ray hits them, which way they face, what colour they have.

World coordinates in metres: x to the right, y up, z towards the viewer. N is pixels, in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import cos, hypot, pi, sin

import numpy as np

Coordinates = Sequence[np.ndarray | float]  # x, y, z; each a number or an array, and together they broadcast


def dot(vector: Coordinates, points: Coordinates) -> np.ndarray:
    """Scalar products (N,) of a vector (3,) with `points` (3, N); `@` could round differently on another machine."""
    return vector[0] * points[0] + vector[1] * points[1] + vector[2] * points[2]


def turn(points: Coordinates, yaw: float) -> Coordinates:
    """`points` in axes that are turned about the vertical by `yaw`, in radians; with -yaw they are turned back."""
    x, y, z = points
    c, s = cos(yaw), sin(yaw)
    return c * x - s * z, y, s * x + c * z


@dataclass(frozen=True)
class Look:
    """A surface's texture: two colours (R, G, B in [0, 1]) mixed by a pattern in the solid's own coordinates.

    Args:
        colors: the two colours.
        pattern: "checker", "stripes" or "marble".
        waves: what turns coordinates in metres into the pattern's three phases, (3, 3).
        offset: added to the phases, (3,).
    """

    colors: np.ndarray
    pattern: str
    waves: np.ndarray
    offset: np.ndarray

    def paint(self, points: Coordinates) -> np.ndarray:
        """Colours (3, N) at points (3, N) in the solid's own coordinates."""
        phases = (dot(wave, points) + offset for wave, offset in zip(self.waves, self.offset))
        if self.pattern == "checker":
            share = sum(np.floor(phase) for phase in phases) % 2
        elif self.pattern == "stripes":
            share = np.clip(0.5 + 2 * np.sin(pi * next(phases)), 0, 1)
        else:
            first, second, third = phases
            share = 0.5 + 0.5 * np.sin(3 * first + 2 * np.sin(2 * second + np.sin(3 * third)))
        first, second = self.colors[:, :, None]
        return first + (second - first) * share


@dataclass(frozen=True)
class Solid:
    """A convex solid that stands on the floor.

    Args:
        shape: "sphere", "box", "cylinder" or "cone".
        x, z: the middle of its foot, in metres.
        radius: of sphere, cylinder and cone; half the width of a box, in metres.
        height: in metres; a sphere's is twice the radius, whatever is said.
        thickness: half the depth of a box, in metres.
        yaw: turn about the vertical, in radians.
        look: its texture; without one it cannot be painted.
    """

    shape: str
    x: float
    z: float
    radius: float
    height: float
    thickness: float
    yaw: float = 0.0
    look: Look | None = None

    @property
    def top(self) -> float:
        """Height of its highest point."""
        return 2 * self.radius if self.shape == "sphere" else self.height

    def local(self, points: Coordinates) -> Coordinates:
        """World points in the solid's own coordinates: origin in the middle of its foot, turned by yaw."""
        x, y, z = points
        return turn((x - self.x, y, z - self.z), self.yaw)

    def hit(self, origin: Coordinates, direction: Coordinates) -> np.ndarray:
        """t where the rays origin + t·direction enter the solid; NaN where they miss.

        Args:
            origin, direction: in world coordinates; one of them is often a single point or direction.
        """
        return _HIT[self.shape](self, self.local(origin), turn(direction, self.yaw))

    def extent(self) -> tuple[float, float]:
        """Half the room it takes along the world's x and z."""
        if self.shape != "box":
            return self.radius, self.radius
        c, s = abs(cos(self.yaw)), abs(sin(self.yaw))
        return c * self.radius + s * self.thickness, s * self.radius + c * self.thickness

    @property
    def reach(self) -> float:
        """Radius of its foot, or of the circle about a box's."""
        return hypot(self.radius, self.thickness) if self.shape == "box" else self.radius

    @property
    def bound(self) -> float:
        """Radius of a sphere about (x, top / 2, z) that holds the solid."""
        return self.radius if self.shape == "sphere" else hypot(self.reach, self.top / 2)

    def normal(self, points: np.ndarray) -> np.ndarray:
        """Outward unit normals (3, N) at points (3, N) on the surface, in the solid's own coordinates."""
        return _NORMAL[self.shape](self, points)


def _roots(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both solutions of a t² + 2 b t + c = 0; NaN where there are none."""
    root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def _slab(low: float, high: float, o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave low <= o + t d <= high."""
    one, two = (low - o) / d, (high - o) / d
    return np.minimum(one, two), np.maximum(one, two)


def _common(*spans: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Where rays enter what lies in all spans (enter, leave); NaN where nothing does."""
    enter, leave = reduce(np.maximum, [span[0] for span in spans]), reduce(np.minimum, [span[1] for span in spans])
    return np.where(enter < leave, enter, np.float32(np.nan))


def _hit_sphere(solid: Solid, o: Coordinates, d: Coordinates) -> np.ndarray:
    (x, y, z), (dx, dy, dz) = o, d
    y = y - solid.radius
    return _roots(dx * dx + dy * dy + dz * dz, x * dx + y * dy + z * dz, x * x + y * y + z * z - solid.radius**2)[0]


def _hit_box(solid: Solid, o: Coordinates, d: Coordinates) -> np.ndarray:
    low, high = (-solid.radius, 0, -solid.thickness), (solid.radius, solid.height, solid.thickness)
    return _common(*map(_slab, low, high, o, d))


def _hit_cylinder(solid: Solid, o: Coordinates, d: Coordinates) -> np.ndarray:
    (x, y, z), (dx, dy, dz) = o, d
    side = _roots(dx * dx + dz * dz, x * dx + z * dz, x * x + z * z - solid.radius**2)
    return _common(side, _slab(0, solid.height, y, dy))


def _hit_cone(solid: Solid, o: Coordinates, d: Coordinates) -> np.ndarray:
    (x, y, z), (dx, dy, dz) = o, d
    slope, below = (solid.radius / solid.height) ** 2, y - solid.height
    a, b = dx * dx + dz * dz - slope * dy * dy, x * dx + z * dz - slope * below * dy
    roots = _roots(a, b, x * x + z * z - slope * below * below)
    # A quadric cone has a mirror image above the apex; the foot is never seen.
    on_cone = [np.where((y + t * dy >= 0) & (below + t * dy <= 0), t, np.float32(np.nan)) for t in roots]
    return np.fmin(*on_cone)


def _normal_sphere(solid: Solid, p: np.ndarray) -> np.ndarray:
    return (p - np.float32([[0], [solid.radius], [0]])) / solid.radius


def _normal_box(solid: Solid, p: np.ndarray) -> np.ndarray:
    half = np.float32([[solid.radius], [solid.height / 2], [solid.thickness]])
    p = (p - np.float32([[0], [solid.height / 2], [0]])) / half
    return np.where(np.abs(p) == np.abs(p).max(0), np.sign(p), 0)


def _normal_cylinder(solid: Solid, p: np.ndarray) -> np.ndarray:
    side = p / solid.radius
    side[1] = 0
    return np.where(p[1] > solid.height - 1e-4, np.float32([[0], [1], [0]]), side)


def _normal_cone(solid: Solid, p: np.ndarray) -> np.ndarray:
    normals = p * (solid.height / np.sqrt(p[0] ** 2 + p[2] ** 2).clip(1e-6))
    normals[1] = solid.radius
    return normals / hypot(solid.height, solid.radius)


_HIT = {"sphere": _hit_sphere, "box": _hit_box, "cylinder": _hit_cylinder, "cone": _hit_cone}
_NORMAL = {"sphere": _normal_sphere, "box": _normal_box, "cylinder": _normal_cylinder, "cone": _normal_cone}
SHAPES = tuple(_HIT)
