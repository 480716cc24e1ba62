"""MaskExplorer: pictures with truth, predictions and probabilities, to compare, question and edit."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace

import numpy as np
import traitlets
from torch import Tensor, nn

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.widgets import render
from mtl_course.widgets.base import Array, Viewer, class_ids, look, module, numbers, pixels, strip

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
    at_first = 16_000_000  # bytes that come with the viewer; the browser asks for the others, picture by picture
    drawings = traitlets.Dict().tag(sync=True)  # bytes by number of the picture, as the browser sends them

    def __init__(self, images: Pictures, truth: Pictures | None = None, prediction: Pictures | None = None,
                 probabilities: Pictures | None = None, *, classes: Sequence[str], second: Pictures | None = None,
                 names: Sequence[str] | None = None, models: Sequence[str] = ("prediction", "second model"),
                 title: str = "Pictures and their masks", **settings: object):  # fmt: skip
        if not 1 <= len(classes) <= 255 or not len(images):
            raise CourseError(f"expected are a picture or more and 1 to 255 classes, not {len(images)}, {len(classes)}")
        parts = {"truth": truth, "prediction": prediction, "probabilities": probabilities, "second": second}
        parts = {name: values for name, values in parts.items() if values is not None}
        names = range(len(images)) if names is None else names
        for name, values in [*parts.items(), ("names", names)]:
            if len(values) != len(images) or any(value is None for value in values):
                raise CourseError(f"{name} are {len(values)} and the pictures {len(images)}: each needs its own")
        given = [{part: values[k] for part, values in parts.items()} for k in range(len(images))]
        self.samples = [pack(k, images[k], classes, given[k], name) for k, name in enumerate(names)]
        chosen = _chosen(self.samples[0], classes, settings, len(images))
        sizes = np.cumsum([sum(map(len, one["parts"].values())) for one in self.samples])
        early = [k == chosen.sample or size <= self.at_first for k, size in enumerate(sizes)]
        samples = [one if soon else one | {"parts": {}} for one, soon in zip(self.samples, early)]
        data = {"look": look(classes), "samples": samples, "names": [*map(str, models), "second model"], "title": title}
        super().__init__(data=data, settings=asdict(chosen))
        self.on_msg(self._more)

    def _more(self, _: object, asked: dict[str, int], __: object) -> None:
        """Send the bytes of a picture that the browser asks for."""
        parts = self.samples[asked["sample"]]["parts"]
        self.send({**asked, "parts": list(parts)}, list(parts.values()))

    def drawing(self, sample: int = 0) -> Array:
        """The mask drawn over a picture: class ids, 255 where nothing is drawn; uint8 (H, W)."""
        one = self.samples[sample]
        drawn = self.drawings.get(str(sample), b"\xff" * (one["width"] * one["height"]))
        return np.frombuffer(bytes(drawn), np.uint8).reshape(one["height"], one["width"]).copy()

    def painted(self, **settings: object) -> Array:
        """What the canvas shows, or would with other settings: uint8 (H, W, 3)."""
        now = replace(render.Settings(**self.settings), **settings)
        image, masks, probabilities = unpacked(self.samples[now.sample])
        masks["drawing"] = self.drawing(now.sample)
        return render.paint(image, masks, now, probabilities, self.data["look"]["colors"])

    def frames(self) -> list[tuple[Array, str]]:
        """The first pictures, each beside its masks."""
        (first, second, *_), frames = self.data["names"], []
        told = {"picture": "the picture", "truth": "the truth", "prediction": first, "second": second}
        for number, one in enumerate(self.samples[:4]):
            views = [view for view in told if view == "picture" or view in one["parts"]]
            parts = [self.painted(sample=number, left=view, right=None) for view in views]
            seen = ", ".join(told[view] for view in views)
            frames.append((strip(parts), f"{self.data['title']}. {one['name']}: {seen}."))
        return frames


def unpacked(sample: dict) -> tuple[Array, dict[str, Array], Array | None]:
    """Picture, masks and probabilities of a sample as it is sent."""
    shape = (sample["height"], sample["width"])
    parts = {name: np.frombuffer(part, np.uint8) for name, part in sample["parts"].items()}
    masks = {name: parts[name].reshape(shape) for name in MASKS if name in parts}
    half = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    probabilities = parts["probabilities"].reshape(-1, *half) if "probabilities" in parts else None
    return parts["image"].reshape(*shape, 3), masks, probabilities


def pack(number: int, image: Tensor | Array, classes: Sequence[str], given: dict, name: object) -> dict:
    """One picture with what is known of it, checked, as it is sent: name, height, width, and bytes by part.

    Args:
        number: named in errors.
        image: (3, H, W), uint8 or float in [0, 1].
        classes: K names.
        given: what there is of truth, prediction and second (H, W), and probabilities (K, H, W).
        name: of the picture.

    Raises:
        CourseError: if a part has another form.
    """
    picture = pixels(image, f"picture {number}")
    shape, parts = picture.shape[:2], {"image": picture.tobytes()}
    if "probabilities" in given:
        where, whole = f"probabilities of picture {number}", (len(classes), *shape)
        fits = lambda x: x.shape == whole and x.is_floating_point()  # noqa: E731
        values = numbers(given["probabilities"], where, f"floats {whole}", fits)
        low, high = values.aminmax()
        if not (low >= 0 and high <= 1):  # NaN fails too
            raise CourseError(f"{where} should lie in [0, 1]: use softmax(1) of the logits")
        given = {"prediction": values.max(0).indices, **given}  # of the first dimension, argmax is six times slower
        half = nn.functional.avg_pool2d(values[None].float(), 2, ceil_mode=True, count_include_pad=False)[0]
        parts["probabilities"] = (half * 255).round().byte().numpy().tobytes()
    for mask in [name for name in MASKS if name in given]:
        parts[mask] = class_ids(given[mask], shape, len(classes), f"{mask} of picture {number}").tobytes()
    return {"name": str(name), "height": shape[0], "width": shape[1], "parts": parts}


def _chosen(first: dict, classes: Sequence[str], given: dict, samples: int) -> render.Settings:
    """The settings at first: those given, and what suits the data; CourseError on one that is not possible."""
    refuse_unknown("setting", given, [one.name for one in fields(render.Settings)])
    needs = {name: name for name in MASKS} | {"chosen": "probabilities", "errors": "truth"}
    there = ["picture", "drawing", *[view for view, part in needs.items() if part in first["parts"]]]
    left = next(name for name in ("prediction", "truth", "picture") if name in there)
    scored = [name for name in ("prediction", "second", "drawing") if name in there]
    chosen = replace(render.usual(classes), **{"left": left, "scored": scored[0], **given})
    every, thresholds = range(len(classes)), [None, *range(1, 257)] if "chosen" in there else [None]
    possible = {"sample": range(samples), "left": there, "right": [None, *there], "split": range(101)}
    possible |= {"opacity": range(101), "chosen": every, "threshold": thresholds, "true": [None, *every]}
    possible |= {"scored": scored, "predicted": [None, *every], "tool": ("look", "brush", "eraser")}
    for name, allowed in (possible | {"brush": range(1, 42), "order": render.ORDERS}).items():
        if (value := getattr(chosen, name)) not in allowed:
            told = f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 9 else ", ".join(map(str, allowed))
            raise CourseError(f"{name} is one of {told}, and not {value!r}")
    if len(chosen.visible) != len(classes) + 1:
        raise CourseError(f"visible needs {len(classes) + 1} switches, one a class and one for ignored pixels")
    return chosen
