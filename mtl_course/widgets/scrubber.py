"""EpochScrubber: what a model answers for one picture, epoch by epoch of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy import ndarray as Array
from torch import Tensor

from mtl_course.errors import CourseError
from mtl_course.widgets import render
from mtl_course.widgets.base import Viewer, class_ids, look, pixels


class EpochScrubber(Viewer):
    """A picture whose predicted mask follows a slider over the epochs, or plays; beside it the curves of the scores.

    Picture and truth are sent once, and a mask for each epoch. The IoU of the chosen class is counted in the browser.

    Args:
        image: (3, H, W), uint8 or float in [0, 1]; or N of them.
        truth: class ids (H, W), 255 = ignore; or N of them.
        predictions: class ids (E, H, W), a mask an epoch; or N of them.
        classes: names, by class id.
        scores: lists of E numbers, by name; NaN where there is none.
        epochs: E whole numbers; default 0, 1, ...
        names: of N pictures; default their numbers.
        title: what the viewer shows, for those who do not see it.

    Raises:
        CourseError: if sizes, dtypes, class ids or counts do not fit; nothing is sent then.
    """

    script = "scrubber.js"

    def __init__(
        self,
        image: Tensor | Array,
        truth: Tensor | Array,
        predictions: Tensor | Array,
        *,
        classes: Sequence[str],
        scores: Mapping[str, Sequence[float]] | None = None,
        epochs: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        title: str = "Predictions over the epochs",
    ):
        one = np.asarray(image).ndim == 3
        images, truths, masks = ([given] if one else given for given in (image, truth, predictions))
        counts = {len(images), len(truths), len(masks), len(images if names is None else names)}
        if len(counts) != 1 or not len(images) or not 1 <= len(classes) <= 255 or not len(masks[0]):
            raise CourseError("expected are as many truths and predictions as pictures, classes, and an epoch or more")
        steps = [int(epoch) for epoch in (range(len(masks[0])) if epochs is None else epochs)]
        lengths = {"epochs": steps, **(scores or {})} | {f"predictions {k}": one for k, one in enumerate(masks)}
        for name, values in lengths.items():
            if len(values) != len(steps):
                raise CourseError(f"{name} has {len(values)} entries, and there are {len(steps)} epochs")
        curves = {
            str(name): [float(v) if np.isfinite(v) else None for v in one] for name, one in (scores or {}).items()
        }
        data = {"look": look(classes), "epochs": steps, "scores": curves, "title": title, "samples": []}
        for number, parts in enumerate(zip(names or range(len(images)), images, truths, masks)):
            data["samples"].append(_sample(number, *parts, len(classes)))
        clear = str(classes[0]) in ("background", "inside")
        start = {"chosen": min(1, len(classes) - 1), "visible": (not clear, *[True] * len(classes))}
        super().__init__(data=data, settings=asdict(render.Settings(**start)) | {"epoch": len(steps) - 1})

    def painted(self, sample: int | None = None, **settings: Any) -> Array:
        """What the canvas shows, or would with other settings: uint8 (H, W, 3)."""
        now = dict(self.settings) | settings
        epoch, one = now.pop("epoch"), self.data["samples"][now["sample"] if sample is None else sample]
        shape = (one["height"], one["width"])
        masks = np.frombuffer(one["predictions"], np.uint8).reshape(-1, *shape)
        masks = {"truth": np.frombuffer(one["truth"], np.uint8).reshape(shape), "prediction": masks[epoch]}
        image = np.frombuffer(one["image"], np.uint8).reshape(*shape, 3)
        return render.paint(image, masks, render.Settings(**now), colors=self.data["look"]["colors"])

    def frames(self) -> list[tuple[Array, str]]:
        """For the first pictures: the picture, up to five epochs, the truth."""
        epochs, frames = self.data["epochs"], []
        some = sorted({round(k * (len(epochs) - 1) / 4) for k in range(5)})
        for number, one in enumerate(self.data["samples"][:4]):
            parts = [self.painted(number, left="picture")]
            parts += [self.painted(number, left="prediction", epoch=k) for k in some]
            parts += [self.painted(number, left="truth")]
            step, large = max(1, one["width"] // 128), max(1, 128 // one["width"])
            strip = np.concatenate([part[::step, ::step] for part in parts], axis=1).repeat(large, 0).repeat(large, 1)
            told = ", ".join(str(epochs[k]) for k in some)
            seen = f"the picture, the prediction after epoch {told}, the truth."
            frames.append((strip, f"{self.data['title']}. {one['name']}: {seen}"))
        return frames


def _sample(
    number: int, name: object, image: Tensor | Array, truth: Tensor | Array, masks: Tensor | Array, known: int
) -> dict[str, Any]:
    """One picture, checked, as bytes."""
    picture = pixels(image, f"picture {number}")
    shape = picture.shape[:2]
    found = [class_ids(mask, shape, known, f"prediction {k} of picture {number}") for k, mask in enumerate(masks)]
    sample = {"name": str(name), "height": shape[0], "width": shape[1], "image": picture.tobytes()}
    sample["truth"] = class_ids(truth, shape, known, f"truth of picture {number}").tobytes()
    return sample | {"predictions": np.stack(found).tobytes()}
