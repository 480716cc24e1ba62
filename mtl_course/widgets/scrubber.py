"""EpochScrubber: what a model answers for one picture, epoch by epoch of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from mtl_course.errors import CourseError
from mtl_course.widgets import render
from mtl_course.widgets.base import Array, Viewer, class_ids, look, module, strip
from mtl_course.widgets.explorer import Pictures, pack, unpacked


class EpochScrubber(Viewer):
    """A picture whose predicted mask follows a slider over the epochs, or plays; beside it the curves of the scores.

    Picture and truth are sent once, and a mask for each epoch. The IoU of the chosen class is counted in the browser.

    Args:
        images: N pictures (3, H, W), uint8 or float in [0, 1].
        truth: N masks of class ids (H, W), 255 = ignore.
        predictions: N times (E, H, W), a mask an epoch.
        classes: names, by class id.
        scores: lists of E numbers, by name; NaN where there is none.
        epochs: E whole numbers; default 0, 1, ...
        names: of the pictures; default their numbers.
        title: what the viewer shows, for those who do not see it.

    Raises:
        CourseError: if sizes, dtypes, class ids or counts do not fit; nothing is sent then.
    """

    _esm = module("scrubber.js")

    def __init__(self, images: Pictures, truth: Pictures, predictions: Pictures, *, classes: Sequence[str],
                 scores: Mapping[str, Sequence[float]] | None = None, epochs: Sequence[int] | None = None,
                 names: Sequence[str] | None = None, title: str = "Predictions over the epochs"):  # fmt: skip
        counts = {len(images), len(truth), len(predictions), len(images if names is None else names)}
        if len(counts) != 1 or not len(images) or not 1 <= len(classes) <= 255 or not len(predictions[0]):
            raise CourseError("expected are as many truths and predictions as pictures, classes, and an epoch or more")
        steps = [*(range(len(predictions[0])) if epochs is None else epochs)]
        if [*map(int, steps)] != sorted(set(steps)):
            raise CourseError(f"epochs should be whole numbers, each larger than the one before, not {steps}")
        lengths = {"epochs": steps, **(scores or {})} | {f"predictions {k}": one for k, one in enumerate(predictions)}
        for name, values in lengths.items():
            if len(values) != len(steps):
                raise CourseError(f"{name} has {len(values)} entries, and there are {len(steps)} epochs")
        curves = {name: [float(v) if np.isfinite(v) else None for v in one] for name, one in (scores or {}).items()}
        data = {"look": look(classes), "epochs": [*map(int, steps)], "scores": curves, "title": title, "samples": []}
        for number, name in enumerate(names or range(len(images))):
            one = pack(number, images[number], classes, {"truth": truth[number]}, name)
            where, shape = f"predictions of picture {number}", (one["height"], one["width"])
            found = [class_ids(mask, shape, len(classes), where) for mask in predictions[number]]
            one["parts"]["predictions"] = np.stack(found).tobytes()
            data["samples"].append(one)
        super().__init__(data=data, settings=asdict(render.usual(classes)) | {"epoch": len(steps) - 1})

    def painted(self, **settings: object) -> Array:
        """What the canvas shows, or would with other settings: uint8 (H, W, 3)."""
        now = dict(self.settings) | settings
        epoch, one = now.pop("epoch"), self.data["samples"][now["sample"]]
        image, masks, _ = unpacked(one)
        every = np.frombuffer(one["parts"]["predictions"], np.uint8)
        masks["prediction"] = every.reshape(-1, *masks["truth"].shape)[epoch]
        return render.paint(image, masks, render.Settings(**now), colors=self.data["look"]["colors"])

    def frames(self) -> list[tuple[Array, str]]:
        """For the first pictures: the picture, up to five epochs, the truth."""
        epochs, frames = self.data["epochs"], []
        some = sorted({round(k * (len(epochs) - 1) / 4) for k in range(5)})
        told = ", ".join(str(epochs[k]) for k in some)
        looks = [{"left": "picture"}, *[{"left": "prediction", "epoch": k} for k in some], {"left": "truth"}]
        for number, one in enumerate(self.data["samples"][:4]):
            parts = [self.painted(sample=number, **now) for now in looks]
            seen = f"the picture, the prediction after epoch {told}, the truth."
            frames.append((strip(parts), f"{self.data['title']}. {one['name']}: {seen}"))
        return frames
