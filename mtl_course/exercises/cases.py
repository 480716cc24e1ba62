"""What the checks try a function on: drawn shapes and numbers, then edge cases."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from mtl_course.exercises.engine import Case

ONE, CLASS_0, IGNORED, ORDER = "a batch of one", "a mask of class 0 alone", "all pixels ignored", "another memory order"


def of(*specs: str) -> Callable[[torch.Generator], Iterator[Case]]:
    """Cases for a function whose arguments are said in a line each: the axes, then what the numbers are.

    An axis is a number or a capital letter, whose size (2 to 5) is drawn for all arguments together; without axes the
    argument is a number. What the numbers are: nothing (any), `+` (above 0), `p` (0 to 1), `?` (true or false), `<K`
    (integers below the size of K), `<K!` (the same, some of them 255 = ignored).

    >>> of("B K H W", "B H W <K!")  # logits and masks
    """

    def cases(generator: torch.Generator) -> Iterator[Case]:
        text = " ".join(specs)
        edges = {ONE: "B" in text, CLASS_0: "<" in text, IGNORED: "!" in text, ORDER: re.search(r"\w \w", text)}
        for label in ("", "", "", *(label for label, fits in edges.items() if fits)):
            sizes = {axis: int(torch.randint(2, 6, (), generator=generator)) for axis in re.findall("[A-Z]", text)}
            yield Case(tuple(_drawn(spec, sizes, label, generator) for spec in specs), label)

    return cases


def _drawn(spec: str, sizes: dict[str, int], label: str, generator: torch.Generator) -> Any:
    axes, kind = re.fullmatch(r"([A-Z0-9 ]*)(.*)", spec).groups()
    shape = [1 if (label, axis) == (ONE, "B") else sizes.get(axis) or int(axis) for axis in axes.split()]
    uniform, normal = torch.rand(shape, generator=generator), torch.randn(shape, generator=generator)
    drawn = {"": normal, "+": 0.2 + 2 * uniform, "p": uniform, "?": uniform > 0.5}.get(kind)
    if kind[:1] == "<":
        most = 9 if not kind[2:] else -9 if label == IGNORED else 1  # what is normal and above it becomes 255
        drawn = (uniform * sizes[kind[1]] * (label != CLASS_0)).long().where(normal <= most, 255)
    if label == ORDER and drawn.dim() > 1:
        drawn = drawn.mT.contiguous().mT
    return drawn if shape else drawn.item()
