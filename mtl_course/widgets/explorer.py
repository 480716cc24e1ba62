"""MaskExplorer: pictures with truth, predictions and probabilities, to compare, question and edit."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import torch.nn.functional as F
import traitlets
from numpy import ndarray as Array
from torch import Tensor

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.widgets import render
from mtl_course.widgets.base import Viewer, class_ids, look, module, numbers, pixels, strip

MASKS = ("truth", "prediction", "second")
Pictures = Sequence[Tensor | Array] | Tensor | Array  # N of one or of several sizes


class MaskExplorer(Viewer):
    """One canvas for masks: opacity, classes, errors, a divider, a threshold, zoom, a cursor, a brush.

    Everything is sent to the browser once and drawn there. What is drawn with the brush comes back: `drawing(i)`.

    Args:
        images: N pictures (3, H, W), uint8 or float in [0, 1]; each may have its own size.
        truth: N masks of class ids (H, W), 255 = ignore; None where nobody has labelled the pictures.
        prediction: N masks, in which 255 is none of the classes; default the classes of the greatest probability.
        probabilities: N times (K, H, W), floats in [0, 1]; sent as bytes for every second row and column.
        classes: K names, by class id.
        second: N masks of a second model, to be compared.
        names: of the pictures; default their numbers.
        models: how the first and the second prediction are called.
        title: what the viewer shows, for those who do not see it.
        settings: where the controls stand at first, see `render.Settings`.

    Raises:
        CourseError: if counts, sizes, dtypes, class ids, probabilities or settings do not fit; nothing is sent then.
    """

    _esm = module("explorer.js")
    drawings = traitlets.Dict().tag(sync=True)  # bytes by number of the picture, as the browser sends them

    def __init__(
        self,
        images: Pictures,
        truth: Pictures | None = None,
        prediction: Pictures | None = None,
        probabilities: Pictures | None = None,
        *,
        classes: Sequence[str],
        second: Pictures | None = None,
        names: Sequence[str] | None = None,
        models: Sequence[str] = ("prediction", "second model"),
        title: str = "Pictures and their masks",
        **settings: Any,
    ):
        if not 1 <= len(classes) <= 255 or not len(images):
            raise CourseError(f"expected are a picture or more and 1 to 255 classes, not {len(images)}, {len(classes)}")
        parts = {"truth": truth, "prediction": prediction, "probabilities": probabilities, "second": second}
        given = {name: values for name, values in [*parts.items(), ("names", names)] if values is not None}
        for name, values in given.items():
            if len(values) != len(images) or any(value is None for value in values):
                raise CourseError(f"{name} are {len(values)} and the pictures {len(images)}: each needs its own")
        every = [{name: values[k] for name, values in given.items()} for k in range(len(images))]
        samples = [pack(k, image, classes, one) for k, (image, one) in enumerate(zip(images, every))]
        data = {"look": look(classes), "samples": samples, "names": [*map(str, models), "second model"], "title": title}
        super().__init__(data=data, settings=asdict(_chosen(samples[0], classes, settings, len(samples))))

    def drawing(self, sample: int = 0) -> Array:
        """The mask drawn over a picture: class ids, 255 where nothing is drawn; uint8 (H, W)."""
        one = self.data["samples"][sample]
        drawn = self.drawings.get(str(sample), b"\xff" * (one["width"] * one["height"]))
        return np.frombuffer(bytes(drawn), np.uint8).reshape(one["height"], one["width"]).copy()

    def painted(self, **settings: Any) -> Array:
        """What the canvas shows, or would with other settings: uint8 (H, W, 3)."""
        now = replace(render.Settings(**self.settings), **settings)
        image, masks, probabilities = unpacked(self.data["samples"][now.sample])
        masks["drawing"] = self.drawing(now.sample)
        return render.paint(image, masks, now, probabilities, self.data["look"]["colors"])

    def frames(self) -> list[tuple[Array, str]]:
        """The first pictures, each beside its masks."""
        told = {"truth": "the truth", "prediction": self.data["names"][0], "second": self.data["names"][1]}
        frames = []
        now, colors = replace(render.Settings(**self.settings), right=None), self.data["look"]["colors"]
        for one in self.data["samples"][:4]:
            image, masks, probabilities = unpacked(one)
            views = ["picture", *masks]
            parts = [render.paint(image, masks, replace(now, left=view), probabilities, colors) for view in views]
            seen = ", ".join(["the picture", *[told[view] for view in masks]])
            frames.append((strip(parts), f"{self.data['title']}. {one['name']}: {seen}."))
        return frames


def unpacked(sample: dict[str, Any]) -> tuple[Array, dict[str, Array], Array | None]:
    """Picture, masks and probabilities of a sample as it is sent."""
    height, width = sample["height"], sample["width"]
    image = np.frombuffer(sample["image"], np.uint8).reshape(height, width, 3)
    names = [name for name in MASKS if sample[name] is not None]
    masks = {name: np.frombuffer(sample[name], np.uint8).reshape(height, width) for name in names}
    half = ((height + 1) // 2, (width + 1) // 2)
    sent = sample["probabilities"]
    return image, masks, None if sent is None else np.frombuffer(sent, np.uint8).reshape(-1, *half)


def pack(number: int, image: Tensor | Array, classes: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
    """One picture with what is known of it, checked, as it is sent.

    Args:
        number: named in errors.
        image: (3, H, W), uint8 or float in [0, 1].
        classes: K names.
        given: what there is of truth, prediction and second (H, W), probabilities (K, H, W), and names (its name).

    Raises:
        CourseError: if a part has another form.
    """
    picture = pixels(image, f"picture {number}")
    shape = picture.shape[:2]
    sample = {
        "name": str(given.pop("names", number)),
        "height": shape[0],
        "width": shape[1],
        "image": picture.tobytes(),
    }
    probabilities = given.pop("probabilities", None)
    if probabilities is not None:
        where, whole = f"probabilities of picture {number}", (len(classes), *shape)
        fits = lambda x: x.shape == whole and x.is_floating_point()  # noqa: E731
        values = numbers(probabilities, where, f"floats {whole}", fits)
        low, high = values.aminmax()
        if not (low >= 0 and high <= 1):  # NaN fails too
            raise CourseError(f"{where} should lie in [0, 1]: use softmax(1) of the logits")
        given.setdefault("prediction", values.max(0).indices)  # of the first dimension, argmax is six times slower
        half = F.avg_pool2d(values[None].float(), 2, ceil_mode=True, count_include_pad=False)[0]
        probabilities = (half * 255).round().byte().numpy().tobytes()
    wheres = {name: f"{name} of picture {number}" for name in given}
    masks = {name: class_ids(mask, shape, len(classes), wheres[name]).tobytes() for name, mask in given.items()}
    return sample | dict.fromkeys(MASKS) | masks | {"probabilities": probabilities}


def _chosen(first: dict[str, Any], classes: Sequence[str], given: dict[str, Any], samples: int) -> render.Settings:
    """The settings at first: those given, and what suits the data; CourseError on one that is not possible."""
    refuse_unknown("setting", given, [one.name for one in fields(render.Settings)])
    needs = {name: name for name in MASKS} | {"chosen": "probabilities", "errors": "truth"}
    there = ["picture", "drawing", *[view for view, part in needs.items() if first[part] is not None]]
    left = next(name for name in ("prediction", "truth", "picture") if name in there)
    scored = next(name for name in ("prediction", "second", "drawing") if name in there)
    chosen = replace(render.usual(classes), **{"left": left, "scored": scored, **given})
    every, thresholds = range(len(classes)), [None, *range(1, 257)] if "chosen" in there else [None]
    possible = {"sample": range(samples), "left": there, "right": [None, *there], "split": range(101)}
    possible |= {"opacity": range(101), "chosen": every, "threshold": thresholds, "true": [None, *every]}
    possible |= {"scored": [name for name in ("prediction", "second", "drawing") if name in there]}
    possible |= {"predicted": [None, *every], "tool": ("look", "brush", "eraser"), "brush": range(1, 42)}
    for name, allowed in (possible | {"order": render.ORDERS}).items():
        if (value := getattr(chosen, name)) in allowed:
            chosen = replace(chosen, **{name: allowed[allowed.index(value)]})  # no number of NumPy, which JSON refuses
        else:
            told = f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 9 else ", ".join(map(str, allowed))
            raise CourseError(f"{name} is one of {told}, and not {value!r}")
    if len(chosen.visible) != len(classes) + 1:
        raise CourseError(f"visible needs {len(classes) + 1} switches, one a class and one for ignored pixels")
    return chosen
