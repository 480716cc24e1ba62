"""How many scenes a second are made fresh, beside a plain ray caster over all pixels and all objects.

Run: python benchmarks/scenes.py  (--write puts the table into benchmarks/RESULTS.md)
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _report import report

from mtl_course.datasets import raycast
from mtl_course.datasets.layout import draw
from mtl_course.datasets.raycast import Rendering, Scene
from mtl_course.datasets.scenes import Scenes
from mtl_course.datasets.solids import turn


def plain_render(scene: Scene, size: int) -> Rendering:
    """The textbook way: every ray meets every solid, every surface is painted everywhere, in float64."""
    x, y, z = (np.broadcast_to(v, (size, size)).astype(float).ravel() for v in raycast._rays(size, scene.pitch))
    eye, up = (0.0, scene.camera_height, 0.0), np.array([[0.0], [1.0], [0.0]])
    nx, _, nz = scene.wall_normal.astype(float)
    with np.errstate(all="ignore"):
        depths = [-scene.wall_distance * nz / (nx * x + nz * z), np.where(y < 0, -scene.camera_height / y, np.inf)]
        depths = np.stack(depths + [np.nan_to_num(s.hit(eye, (x, y, z)), nan=np.inf) for s in scene.solids])
        regions, depth = depths.argmin(0), depths.min(0)
        points = np.stack([x * depth, y * depth + scene.camera_height, z * depth])
        own = [np.stack(solid.local(points)) for solid in scene.solids]
        paints = [look.paint(turn(points, scene.wall_yaw)) for look in (scene.wall, scene.floor)]
        paints += [solid.look.paint(p) for solid, p in zip(scene.solids, own)]
        faces = [scene.wall_normal[:, None] + 0 * points, up + 0 * points]
        faces += [turn(solid.normal(p), -solid.yaw) for solid, p in zip(scene.solids, own)]
        image, normals = (np.take_along_axis(np.stack(v), regions[None, None], 0)[0] for v in (paints, faces))
        light = np.maximum(np.array(scene.light) @ normals, 0)
        for k, solid in enumerate(scene.solids):
            light[(regions != 2 + k) & (solid.hit(points, scene.light) > 1e-3)] = 0
    image = image * (scene.ambient + (1.1 - scene.ambient) * light)
    shape = (-1, size, size)
    return Rendering(
        image.reshape(shape), regions.reshape(size, size), depth.reshape(size, size),
        raycast._to_camera(normals, scene.pitch).reshape(shape),
    )  # fmt: skip


def per_second(make: Callable[[], int]) -> float:
    """Scenes a second, the best of 7 runs of `make`, which says how many it made: others may use the machine too."""
    make()
    rates = []
    for _ in range(7):
        start = time.perf_counter()
        rates.append(make() / (time.perf_counter() - start))
    return max(rates)


def main() -> None:
    """Measure, print, and write the table if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fresh = Scenes(400, options.size, cache=False)
    few = [draw(np.random.default_rng([0, i]), 0.3) for i in range(40)]
    cached = Scenes(400, options.size)
    rates = {
        "plain caster, geometry and shading only, 1 process": per_second(
            lambda: len([plain_render(s, options.size) for s in few])
        ),
        "this caster, geometry and shading only, 1 process": per_second(
            lambda: len([raycast.render(s, options.size) for s in few])
        ),
        "Scenes, all labels, fresh, 1 process": per_second(lambda: len([fresh[i] for i in range(400)])),
        "Scenes, all labels, fresh, DataLoader, 2 workers": per_second(
            lambda: sum(len(b["image"]) for b in DataLoader(Scenes(2000, options.size, cache=False), 50, num_workers=2))
        ),
        "Scenes, all labels, cached, 1 process": per_second(lambda: len([cached[i] for i in range(400)])),
        "Scenes, all labels, cached, stack() of 40": per_second(
            lambda: sum(len(cached.stack(range(k, k + 40))["image"]) for k in range(0, 400, 40))
        ),
    }
    first = next(iter(rates.values()))
    rows = [{"what": k, "scenes/s": f"{v:.0f}", "ratio": f"{v / first:.1f}"} for k, v in rates.items()]
    if options.write:
        report(f"Scenes at {options.size}×{options.size}", "python benchmarks/scenes.py --write", rows)
    else:
        print("\n".join(f"{row['what']:52} {row['scenes/s']:>7} scenes/s {row['ratio']:>7}×" for row in rows))


if __name__ == "__main__":
    main()
