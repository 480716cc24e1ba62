"""How an exercise is checked: the learner's function on drawn cases, beside the right answer and typical wrong ones."""

import copy
import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves, tree_map

NOISE = r"\(up to.*?allowed\)|torch\.Size|(?<=\.\d{4})\d+|Relative diff.*|\S+ are not (close|equal)!"  # of assert_close
ELSEWHERE = "Right here, but not on a GPU: make tensors with device=..., or from the inputs."


class Case(NamedTuple):
    """Arguments for the learner's function; `label` names an edge case, such as "all pixels ignored"."""

    inputs: tuple
    label: str = ""


class Wrong(Exception):
    """A sentence that ends a check."""


@dataclass(frozen=True)
class Check:
    """One exercise: `check.NAME(your_function)` prints that it is right, or the likely mistake.

    Args:
        answers: (*inputs) -> the right answer, then that of each typical mistake. Its docstring holds the sentences:
            first what is understood by who solves it, then a "- " item for each mistake, in the same order.
        cases: torch.Generator -> the cases, ordinary ones first, then the edges.
        gradient: compare also the gradients of the sum of the answer with respect to the float inputs.
    """

    answers: Callable[..., Sequence[Any]]
    cases: Callable[[torch.Generator], Iterable[Case]]
    gradient: bool = False

    @classmethod
    def on(cls, cases: Callable[[torch.Generator], Iterable[Case]], **options: Any) -> Callable[[Callable], "Check"]:
        """A decorator that makes the check of an `answers` function."""
        return lambda answers: cls(answers, cases, **options)

    def __call__(self, function: Callable, seed: int = 0) -> None:
        """Print the verdict on the learner's function."""
        right, says = self.judge(function, seed)
        print(f"{self.answers.__name__}: {says if right is None else ('right. ' if right else 'not yet. ') + says}")

    def sentences(self) -> list[str]:
        """What is understood, then one sentence for each typical mistake."""
        told = inspect.getdoc(self.answers) or ""  # python -OO has none
        return [" ".join(part.split()) for part in re.split("^- ", told, flags=re.MULTILINE)]

    def judge(self, function: Callable, seed: int = 0) -> tuple[bool | None, str]:
        """Try the learner's function on the cases of a seed; the same seed gives the same verdict.

        Returns:
            Whether it is right, None where nothing was tried yet; and the sentence for the learner.
        """
        understood, *mistakes = self.sentences()
        # Of each case [answer, gradients]: of the learner, the right function, the mistakes; and what is wrong first.
        tried, wrong = [], ""
        try:
            with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
                cases = list(self.cases(torch.Generator().manual_seed(seed)))
                for case in cases:
                    tried.append([self._answer(function, case), *self._measured(self.answers, case)])
                    wrong = wrong or self._what_differs(case, *tried[-1][:2])
                with _OtherDevice():
                    made = () if wrong else self._answer(function, cases[0])
                if _tensors(cases[0].inputs) and any(getattr(tensor, "away", False) for tensor in _tensors(made)):
                    wrong = ELSEWHERE
        except NotImplementedError:
            says = "It returns nothing for some inputs." if tried else "not solved yet. (It returns nothing.)"
            return False if tried else None, says
        except Wrong as sentence:
            wrong = wrong or str(sentence)
        if not wrong:
            return True, understood
        # A mistake fits if it gives the learner's answers: of the ordinary cases, unless only an edge is wrong.
        ordinary = [row for row, case in zip(tried, cases) if not case.label]
        rows = next((rows for rows in (ordinary, tried) if any(_gap(*row[:2]) for row in rows)), ())
        fits = [rows and all(not _gap(row[0], row[2 + k]) for row in rows) for k in range(len(mistakes))]
        return False, next((says for says, fit in zip(mistakes, fits) if fit), _factor(tried) or wrong)

    def _answer(self, function: Callable, case: Case) -> list[Any]:
        """[answer, gradients] of the learner's function."""
        try:
            ((value, gradients),) = self._measured(lambda *inputs: [function(*inputs)], case)
        except Exception as error:
            if isinstance(error, Wrong) or repr(error) == "NotImplementedError()":  # as a stub raises it
                raise
            raise Wrong(_stopped(error, case)) from None
        if value is None or value is ...:
            raise NotImplementedError
        if self.gradient and gradients is None and isinstance(value, Tensor | float):
            where = f"Right on ordinary inputs, but for {case.label} your" if case.label else "Your"
            raise Wrong(f"{where} answer has no gradient: item(), detach(), float(), no_grad or a new tensor has none.")
        return [value, gradients]

    def _measured(self, give: Callable[..., Sequence[Any]], case: Case) -> list[list[Any]]:
        """[answer, gradients] of every answer that `give` has to a case; gradients are None where there are none."""
        torch.manual_seed(0)
        inputs, rows = copy.deepcopy(case.inputs), []
        leaves = [leaf.requires_grad_() for leaf in _tensors(inputs) if self.gradient and leaf.is_floating_point()]
        for value in give(*inputs):
            seeks = isinstance(value, Tensor) and value.requires_grad and leaves
            rows.append([value, list(grad(value.sum(), seeks, None, True, materialize_grads=True)) if seeks else None])
        if _gap(_tensors(inputs), _tensors(case.inputs), 0):
            raise Wrong("Your function changes its arguments: work on a copy.")
        return rows

    def _what_differs(self, case: Case, mine: list, right: list) -> str:
        where = f"Right on ordinary inputs, but not for {case.label}:" if case.label else "For"
        for what, a, b in zip(("answer", "gradient"), mine, right):
            if gap := _gap(a, b):
                return f"{where} inputs {_shown(case.inputs)}, another {what} is expected. {gap}"
        return ""


class _OtherDevice(TorchFunctionMode):
    """What is made without `device=` counts as lying elsewhere than the inputs, as it would beside inputs on a GPU."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made, tensors = function(*args, **(kwargs or {})), [t for t in _tensors((args, kwargs)) if t.dim()]
        if function is Tensor.type_as or (function is Tensor.to and not isinstance(args[-1], torch.dtype)):
            return made.view_as(made)  # a new object, which is not elsewhere
        away = [getattr(tensor, "away", False) for tensor in tensors]
        # These may take tensors of both places.
        mixes = function in (Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__)
        if any(away) and not all(away) and not mixes:
            raise Wrong(ELSEWHERE)
        new = function in _device_constructors() and "device" not in (kwargs or {}) and not tensors
        for tensor in _tensors(made) if new or (any(away) and (away[0] or not mixes)) else ():
            tensor.away = tensor.dim() > 0
        return made


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _gap(mine: Any, right: Any, tolerance: float = 1e-4) -> str:
    """How two answers differ in structure, shape, kind (bool, integer, float) or value; "" if not. NaN equals NaN."""
    try:
        torch.testing.assert_close(*tree_map(_widened, (mine, right)), rtol=tolerance, atol=tolerance, equal_nan=True)
    except AssertionError as error:
        plainer = r"The values for attribute '(\w+)' do not match: (.*) != (.*)\."
        return " ".join(re.sub(plainer, r"Its \1 is \2, expected \3.", re.sub(NOISE, "", str(error))).split())
    except Exception:  # of whatever else a learner's function may return
        return f"It is {_shown(mine)}, expected {_shown(right)}."
    return ""


def _widened(leaf: Any) -> Any:
    """A number or tensor as a tensor of the widest type of its kind; of one number the kind does not matter."""
    if not (isinstance(leaf, int | float) or hasattr(leaf, "__array__")):  # a number, a tensor, or NumPy's
        return leaf
    tensor = torch.as_tensor(leaf).detach()
    if tensor.is_floating_point() or not tensor.dim():
        return tensor.double()
    return tensor if tensor.dtype == torch.bool else tensor.long()


def _factor(tried: list[list]) -> str:
    """Whether the answers of several cases are the same multiple of the right ones."""
    try:
        flat = [[_widened(answer).double().flatten() for answer, _ in row[:2]] for row in tried]
        mine, right = map(torch.cat, zip(*flat))
        factor = (mine @ right / (right @ right)).item()
    except Exception:  # of answers that are no numbers, or of another shape
        return ""
    if len(tried) < 2 or abs(factor - 1) < 1e-3 or not abs(factor) > 1e-6 or _gap(mine, factor * right):
        return ""
    return f"Your answer is {factor:.4g} times the right one."


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, Tensor) and value.dim():
        return str(list(value.shape))
    return shorten(f"{value:.4g}" if isinstance(value, float) else f"{value}", 40)


def _stopped(error: Exception, case: Case) -> str:
    """Which line of the learner's function raised what, for which inputs."""
    frames = traceback.extract_tb(error.__traceback__)[3:]
    lines = [f" at `{frame.line}`" for frame in frames if not re.search("site-packages|lib.python", frame.filename)]
    what = shorten(f"{type(error).__name__}: {error}", 200)
    return f"Your function stopped{''.join(lines[-1:])}, for {case.label or 'inputs'} {_shown(case.inputs)}: {what}"
