"""GradientPlayground: two or three task gradients whose tips can be dragged, and the step of each rule."""

from collections.abc import Sequence

import numpy as np
import torch
import traitlets
from PIL import Image, ImageDraw

from mtl_course.balancing import GRADIENT_RULES
from mtl_course.errors import refuse_unknown
from mtl_course.tasks import PALETTE
from mtl_course.widgets.base import Array, Viewer, module, numbers

Gradients = Sequence[Sequence[float]]


class GradientPlayground(Viewer):
    """Task gradients in the plane, the d of a rule, and a table of all rules.

    For two gradients the browser computes α itself. For three it asks Python, which answers while a kernel runs.

    Args:
        gradients: two or three, (K, 2).
        rule: the one that is drawn at first, a name of `balancing.GRADIENT_RULES`.
        title: what the viewer shows, for those who do not see it.

    Raises:
        CourseError: if the gradients have another form or are not finite, or the rule is not known.
    """

    _esm = module("playground.js")
    answers = traitlets.Dict().tag(sync=True)  # of Python: the gradients that were asked for, and α by rule

    def __init__(self, gradients: Gradients = ((1.0, 0.0), (-0.5, 1.0)), rule: str = "equal",
                 title: str = "Gradients and a step"):  # fmt: skip
        refuse_unknown("rule", [rule], GRADIENT_RULES)
        rows = _rows(gradients).tolist()
        first = {"gradients": rows, "rules": alphas(rows)} if len(rows) > 2 else {}
        settings = {"gradients": rows, "rule": rule, "chosen": 0, "unit": False}
        super().__init__(data={"gradients": rows, "title": title}, settings=settings, answers=first)

    @traitlets.observe("settings")
    def _answer(self, change: dict) -> None:
        asked = change["new"]["gradients"]
        if len(asked) > 2 and self.answers.get("gradients") != asked:
            self.answers = {"gradients": asked, "rules": alphas(asked)}

    def frames(self) -> list[tuple[Array, str]]:
        """The gradients, and d of the rule."""
        rows, rule = self.settings["gradients"], self.settings["rule"]
        tips, alpha = {f"g{k + 1}": np.array(g) for k, g in enumerate(rows)}, alphas(rows)[rule]
        told = alpha
        if not isinstance(alpha, str):
            tips["d"] = np.array(alpha) @ np.array(rows)
            told = f"{rule} gives α = ({', '.join(f'{a:.2f}' for a in alpha)})"
        return [(_picture(tips), f"{self.data['title']}. {len(rows)} gradients; {told}.")]


def alphas(gradients: Gradients) -> dict[str, list[float] | str]:
    """α of every gradient rule, by its name; a sentence where the rule is not defined.

    Args:
        gradients: two or three, (K, 2). PCGrad draws its orders from one seed.

    Raises:
        CourseError: if the gradients have another form or are not finite.
    """
    rows, found = _rows(gradients), {}
    for name, rule in GRADIENT_RULES.items():
        options = {"generator": torch.Generator().manual_seed(0)} if name == "pcgrad" else {}
        try:
            found[name] = rule(rows @ rows.T, **options).tolist()
        except ValueError as reason:
            found[name] = str(reason)
    return found


def _rows(gradients: Gradients) -> torch.Tensor:
    """The gradients, float64 (K, 2)."""
    fits = lambda x: x.shape in ((2, 2), (3, 2)) and x.isfinite().all()  # noqa: E731
    return numbers(gradients, "gradients", "two or three gradients of two finite numbers, (K, 2)", fits).double()


def _picture(tips: dict[str, Array]) -> Array:
    """Lines from the middle to the tips, each with its name."""
    pen = ImageDraw.Draw(image := Image.new("RGB", (320, 320), "white"))
    scale = 130 / max(1e-9, *(np.abs(tip).max() for tip in tips.values()))
    for color, (name, tip) in zip(PALETTE[5:], tips.items()):
        end = 160 + scale * tip[0], 160 - scale * tip[1]
        pen.line([(160, 160), end], fill="black" if name == "d" else color, width=3)
        pen.text(end, name, fill="black", font_size=16)
    return np.asarray(image)
