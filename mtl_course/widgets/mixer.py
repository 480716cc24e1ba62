"""AlphaMixer: f(x) = Σ αᵢ gᵢ(x) under sliders, with α a vector, a matrix, or a function of x."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtl_course import formula
from mtl_course.errors import CourseError
from mtl_course.losses import IGNORE_INDEX
from mtl_course.tasks import IGNORE_COLOR, PALETTE
from mtl_course.widgets.base import Array, Viewer, module, numbers, pixels
from mtl_course.widgets.render import rgb

COLORS = (PALETTE[0], PALETTE[1], IGNORE_COLOR)  # no, yes, ignored; as in js/mixer.js


class AlphaMixer(Viewer):
    """Sliders for α, and what they make of the parts: f(x), the answer f > 0, and its score, drawn in the browser.

    Without `gate` there is a slider for each α, and for each task a row of them with its maps. With `gate` it is
    αᵢ(x) = softmaxᵢ(sharpness · zᵢ(x) + bᵢ), and the sliders are the sharpness and the bᵢ.

    Args:
        outputs: the gᵢ(x) of N parts on B pictures, float (N, B, H, W). All are sent: take few pictures.
        truth: (T, B, H, W), or (B, H, W) for one task. Of a mask: > 0 where it is, 0 or less elsewhere, 255 = ignore.
            Of another task: the right numbers.
        labels: of the parts, N.
        learned: α found elsewhere, marked on the sliders: (T, N), or (N,) for one task. With a gate, whose z are
            learned, it stays out: marked are sharpness 1 and bᵢ = 0.
        gate: scores zᵢ(x) of the parts, float (N, B, H, W), for one task.
        tasks: T names, each with the unit of its numbers, or None where f > 0 is a mask; default one mask.
        images: what the parts saw, (B, 3, H, W), uint8 or float in [0, 1].
        title: what the viewer shows, for those who do not see it.

    Raises:
        CourseError: if shapes, dtypes or counts do not fit, or a number is not finite; nothing is sent then.
    """

    _esm = module("mixer.js")

    def __init__(self, outputs: Tensor, truth: Tensor, *, labels: Sequence[str], learned: Tensor | None = None,
                 gate: Tensor | None = None, tasks: Mapping[str, str | None] | None = None,
                 images: Tensor | None = None, title: str = "Parts mixed by α"):  # fmt: skip
        units, shape = dict(tasks or {"f": None}), (len(labels), *np.shape(outputs)[1:])
        self.outputs = _numbers(outputs, shape if len(shape) == 4 else ("N", "B", "H", "W"), "outputs")
        self.gate = None if gate is None else _numbers(gate, shape, "gate")
        if gate is not None and (learned is not None or len(units) > 1):
            raise CourseError("a gate serves one task and gives its α: leave out `learned` and further tasks")
        equal = [1 / len(labels)] * len(labels) if gate is None else [0.0] * (1 + len(labels))
        learned = learned if gate is None else np.eye(1, len(equal))
        if learned is not None:
            learned = _numbers(learned, (len(units), len(equal)), "learned").tolist()
        truths = _numbers(truth, (len(units), *shape[1:]), "truth")
        self.images = [pixels(image, f"picture {k}") for k, image in enumerate(() if images is None else images)]
        if images is not None and [one.shape[:2] for one in self.images] != [shape[2:]] * shape[1]:
            raise CourseError(f"images should be {shape[1]} of {shape[2]} × {shape[3]} pixels, as the outputs are")
        data = dict(zip(("pictures", "height", "width"), shape[1:])) | {"labels": [*map(str, labels)], "title": title}
        data |= {"outputs": self.outputs.tobytes(), "gate": None if gate is None else self.gate.tobytes()}
        data |= {"image": b"".join(one.tobytes() for one in self.images), "learned": learned}
        data |= {"equal": [equal] * len(units), "tasks": [_task(*one) for one in zip(units, units.values(), truths)]}
        super().__init__(data=data, settings={"picture": 0, "values": data["equal"]})

    def mixed(self, values: Sequence[Sequence[float]] | None = None) -> Tensor:
        """f(x) of each task, (T, B, H, W), where the sliders stand, or would with other `values`."""
        alphas = [self._alpha(row) for row in (self.settings["values"] if values is None else values)]
        return torch.stack([formula.mix(alpha, torch.from_numpy(self.outputs)[:, :, None])[:, 0] for alpha in alphas])

    def _alpha(self, row: Sequence[float]) -> Tensor:
        if self.gate is None:
            return torch.tensor(row)
        return (row[0] * torch.from_numpy(self.gate) + torch.tensor(row[1:])[:, None, None, None]).softmax(0)

    def frames(self) -> list[tuple[Array, str]]:
        """The first picture with the α that were learned, and with equal ones."""
        seen = ["the picture"] * bool(self.images) + ["α₁(x)"] * (self.gate is not None)
        told = f"{', '.join([*seen, 'f(x)'])} from blue (low) to yellow (high), the answer f > 0 of a mask, the truth"
        ways = [name for name in ("learned", "equal") if self.data[name] is not None]
        return [(self._frame(self.data[way]), f"{self.data['title']}. With {way} α: {told}.") for way in ways]

    def _frame(self, values: Sequence[Sequence[float]]) -> Array:
        from matplotlib import colormaps

        heat, flat, rows = colormaps["cividis"].resampled(15), np.array([rgb(color) for color in COLORS], np.uint8), []
        for task, row, f in zip(self.data["tasks"], values, self.mixed(values)[:, 0].numpy()):
            kind, (low, high) = np.float32 if task["unit"] is not None else np.uint8, task["range"]
            truth = np.frombuffer(task["truth"], kind)[: f.size].reshape(f.shape)
            shades = [] if self.gate is None else [self._alpha(row)[0, 0].numpy()]
            shades += [(one - low) / (high - low) for one in ([f, truth] if task["unit"] is not None else [f])]
            masks = [np.full(f.shape, 2)] if task["unit"] is not None else [f > 0, truth]
            maps = [*self.images[:1], *[heat(one, bytes=True)[..., :3] for one in shades]]
            maps += [np.take(flat, one, 0, mode="clip") for one in masks]
            rows.append(np.concatenate([np.pad(one, ((0, 2), (0, 2), (0, 0)), constant_values=255) for one in maps], 1))
        return np.concatenate(rows).repeat(2, 0).repeat(2, 1)


def _numbers(values: Tensor | Array, shape: Sequence[int | str], name: str) -> Array:
    """Finite float32 of a shape, or of that shape without a leading 1."""
    shapes = tuple(shape), tuple(shape)[shape[0] == 1 :]
    fits = lambda x: 0 not in x.shape and x.shape in shapes and x.isfinite().all()  # noqa: E731
    found = numbers(values, name, f"finite numbers ({', '.join(map(str, shape))})", fits)
    return found.float().numpy().reshape(shape)


def _task(name: str, unit: str | None, truth: Array) -> dict:
    """A task as it is sent; the truth of a mask as bytes 0, 1 and 255."""
    limits = [float(truth.min()), float(max(truth.max(), truth.min() + 1e-3))] if unit is not None else [-3.0, 3.0]
    ids = truth if unit is not None else np.where(truth == IGNORE_INDEX, IGNORE_INDEX, truth > 0).astype(np.uint8)
    return {"name": name, "unit": unit, "range": limits, "truth": ids.tobytes()}
