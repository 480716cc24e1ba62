"""What all viewers share: JavaScript that draws, bytes sent once, a static fallback, a page that needs no kernel."""

import base64
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image
from torch import Tensor, tensor, uint8

from mtl_course.errors import CourseError
from mtl_course.files import write_whole
from mtl_course.tasks import IGNORE_COLOR, PALETTE

Array = np.ndarray

# The one script in a static fallback.
SLIDE = "const box=this.previousElementSibling;box.scrollLeft=box.children[this.value].offsetLeft-box.offsetLeft"


def source(name: str) -> str:
    """A file of the folder js."""
    return resources.files(__package__).joinpath("js", name).read_text(encoding="utf-8")


def module(name: str) -> str:
    """The JavaScript of a viewer: its own file after what all share."""
    return source("common.js") + source(name)


class Viewer(anywidget.AnyWidget):
    """A canvas with controls, drawn in the browser; the kernel is not asked again.

    A subclass has its JavaScript in `_esm`, puts what is sent into traits, and has a method `frames()` for where no
    front end loads: a list of pictures, uint8 (H, W, 3), each with a sentence that says what it shows.
    """

    _css = source("viewer.css")
    samples: Sequence[dict] = ()  # all pictures, where `data` holds those that come with the viewer
    data = traitlets.Dict().tag(sync=True)  # what is drawn, as numbers, texts and bytes; never changes
    settings = traitlets.Dict().tag(sync=True)  # where the controls stand; the browser writes it too

    def _repr_mimebundle_(self, **options: object) -> tuple[dict, dict]:
        """The live viewer; and, for GitHub, the site, an exported page or a notebook without trust, its pictures."""
        data, metadata = super()._repr_mimebundle_(**options)
        frames = self.frames()
        return data | {"text/html": fallback(frames, self.data.get("look", {})), "text/plain": frames[0][1]}, metadata

    def save_html(self, path: str | Path, title: str | None = None) -> Path:
        """Write the viewer, as it is now, as one page that works without Jupyter, kernel and network.

        Raises:
            CourseError: if the file cannot be written.
        """
        own = set(self.class_trait_names(sync=True)) - set(anywidget.AnyWidget.class_trait_names(sync=True))
        state = {name: getattr(self, name) for name in sorted(own) if name[0] != "_"}
        plain = lambda x: {"base64": _text(x)} if isinstance(x, bytes | memoryview) else int(x)  # noqa: E731
        state["data"] = self.data | ({"samples": self.samples} if self.samples else {})
        parts = {"TITLE": html.escape(title or self.data["title"]), "STYLE": self._css, "MODULE": _text(self._esm)}
        parts["STATE"] = _text(json.dumps(state, default=plain))
        page = re.sub(r"\{\{([A-Z]+)\}\}", lambda name: parts[name[1]], source("page.html"))
        return write_whole(path, page.encode())


def _text(content: str | bytes) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def fallback(frames: Sequence[tuple[Array, str]], look: Mapping) -> str:
    """Pictures side by side in a box that scrolls, with a native slider where scripts run.

    Args:
        frames: uint8 (H, W, 3), and a sentence each.
        look: names and colours of the classes, or nothing.
    """
    style = "flex:none;image-rendering:pixelated;max-width:100%;scroll-snap-align:start"
    told = " ".join(alt for _, alt in frames)
    stroke = "border-left:1em solid {};padding:0 .7em 0 .2em;white-space:nowrap"
    names = zip(look.get("colors", ()), map(html.escape, look.get("classes", ())))
    key = "".join(f'<span style="{stroke.format(color)}">{name}</span> ' for color, name in names)
    sources = [(f"data:image/png;base64,{_png(picture)}", html.escape(alt)) for picture, alt in frames]
    images = "".join(f'<img alt="{alt}" src="{source}" style="{style}">' for source, alt in sources)
    slider = f'<input type="range" min="0" max="{len(frames) - 1}" value="0" aria-label="picture" oninput="{SLIDE}">'
    row = "display:flex;gap:8px;overflow-x:auto;scroll-snap-type:x mandatory"
    box = f'<div style="{row}" tabindex="0" role="group" aria-label="pictures">{images}</div>'
    caption = f"<figcaption>{key}<br>{html.escape(told)} Live in a running Jupyter.</figcaption>"
    return f'<figure class="mtl-fallback">{box}{slider if len(frames) > 1 else ""}{caption}</figure>'


def strip(parts: Sequence[Array], room: int = 128) -> Array:
    """Pictures uint8 (H, W, 3) side by side, pixels enlarged or left out, so that none is much larger than `room`."""
    size = max(parts[0].shape[:2])
    step, large = max(1, size * 4 // (room * 5)), max(1, room // size)
    return np.concatenate(parts, axis=1)[::step, ::step].repeat(large, 0).repeat(large, 1)


def _png(picture: Array) -> str:
    image = Image.fromarray(np.ascontiguousarray(picture)).quantize(128, Image.Quantize.FASTOCTREE, dither=0)
    image.save(out := io.BytesIO(), "png", optimize=True)
    return _text(out.getvalue())


def look(classes: Sequence[str]) -> dict:
    """Names and colours of classes, as the browser needs them."""
    colors = [PALETTE[k % len(PALETTE)] for k in range(len(classes))]
    return {"classes": [*map(str, classes)], "colors": colors, "ignoreColor": IGNORE_COLOR}


def numbers(values: Tensor | Array, where: str, expected: str, fits: Callable[[Tensor], object]) -> Tensor:
    """What was given as a tensor on the CPU, without its gradient.

    Args:
        values: real numbers in any form.
        where, expected: for the error: what is given, and what it should be.
        fits: whether it is that.

    Raises:
        CourseError: if it does not fit.
    """
    try:
        found = (values if isinstance(values, Tensor) else tensor(np.array(values, order="C"))).detach().cpu()
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CourseError(f"{where} should be {expected}, and is {type(values).__name__}") from error
    if found.is_complex() or not fits(found):
        raise CourseError(f"{where} should be {expected}, and is {str(found.dtype)[6:]} {tuple(found.shape)}")
    return found


def pixels(image: Tensor | Array, where: str) -> Array:
    """A picture as uint8 (H, W, 3).

    Args:
        image: (3, H, W), uint8, or float in [0, 1].
        where: named in the error.

    Raises:
        CourseError: if it has another form.
    """
    expected = "a picture (3, H, W), uint8 or float in [0, 1]"
    found = numbers(image, where, expected, lambda x: x.ndim == 3 and len(x) == 3 and x.numel())
    if found.is_floating_point():
        low, high = found.aminmax()
        if not (low >= 0 and high <= 1):  # NaN fails too
            raise CourseError(f"{where} is a picture of floats, which should lie in [0, 1]: divide bytes by 255")
        found = (found.float() * 255).round().byte()
    numbers(found, where, expected, lambda x: x.dtype == uint8)
    return found.permute(1, 2, 0).contiguous().numpy()


def class_ids(mask: Tensor | Array, shape: tuple[int, int], known: int, where: str) -> Array:
    """A mask as uint8 (H, W).

    Args:
        mask: whole numbers (H, W): class ids, or 255 = ignore.
        shape: (H, W) that it must have.
        known: number of classes.
        where: named in the error.

    Raises:
        CourseError: if it has another form or holds another id.
    """
    expected = f"whole numbers {shape}, as its picture is large"
    found = numbers(mask, where, expected, lambda x: x.shape == shape and not x.is_floating_point()).long()
    if len(bad := found[((found < 0) | (found >= known)) & (found != 255)]):
        raise CourseError(f"{where} holds the class id {bad[0]}; expected are 0 to {known - 1}, or 255 = ignore")
    return found.byte().contiguous().numpy()
