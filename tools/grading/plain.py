"""Plain data as JSON, in both directions: what may pass between a submission and its judge.

Numbers, texts, None, lists, tuples, dicts, tensors and NumPy arrays pass; nothing else does, and nothing is unpickled.
What comes out of `decode` has one of these exact types, whatever object went into `encode` in the other process.
"""

import base64
import math
from typing import Any

import numpy as np
import torch

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
SCALARS = (type(None), bool, int, float, str)


class NotPlain(TypeError):
    """An object that is no plain data."""


def encode(value: Any) -> Any:
    """A value as what JSON can hold.

    Raises:
        NotPlain: if it is, or holds, something else than plain data.
    """
    if type(value) in SCALARS:
        return value
    if isinstance(value, torch.Tensor):
        # A parameter or a tensor that needs a gradient is sent as its values.
        return _array("tensor", value.detach().cpu().resolve_conj().numpy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _array("ndarray", value)
    if isinstance(value, list | tuple):
        return ["tuple" if isinstance(value, tuple) else "list", [encode(item) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(item)] for key, item in value.items()]]
    raise NotPlain(
        f"a {type(value).__name__}, and expected are tensors, numbers, texts, lists, tuples or dicts of them"
    )


def _array(kind: str, values: np.ndarray) -> list:
    if values.dtype.name not in DTYPES:
        raise NotPlain(f"an array of {values.dtype.name}, and expected is one of {', '.join(DTYPES)}")
    return [kind, values.dtype.name, list(values.shape), base64.b64encode(values.tobytes()).decode()]


def decode(data: Any) -> Any:
    """The value that `encode` wrote.

    Raises:
        NotPlain: if the data were written by something else.
    """
    if type(data) in SCALARS:
        return data
    match data:
        case ["list", list(items)]:
            return [decode(item) for item in items]
        case ["tuple", list(items)]:
            return tuple(decode(item) for item in items)
        case ["dict", list(pairs)] if all(type(pair) is list and len(pair) == 2 for pair in pairs):
            return {_key(key): decode(item) for key, item in pairs}
        case ["tensor" | "ndarray" as kind, str(dtype), list(shape), str(text)] if dtype in DTYPES:
            values = _values(dtype, shape, text)
            return torch.from_numpy(values) if kind == "tensor" else values
    raise NotPlain("an answer that is no plain data")


def _key(data: Any) -> Any:
    key = decode(data)
    if type(key) not in (*SCALARS, tuple):
        raise NotPlain("a dict whose keys are not numbers or texts")
    return key


def _values(dtype: str, shape: list, text: str) -> np.ndarray:
    whole = all(type(side) is int and side >= 0 for side in shape)
    raw = base64.b64decode(text, validate=True)
    if not whole or len(raw) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise NotPlain("an array whose shape does not fit its numbers")
    if dtype == "bool":  # a byte that is neither 0 nor 1 would be a third truth value
        return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape).copy()
