"""Names with options, as the command line and the checkpoints give them: NAME or NAME:key=value,key=value."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial

from mtl_course.errors import CourseError, refuse_unknown


def choose(what: str, text: str, known: Mapping[str, Callable]) -> tuple[str, Callable]:
    """What a name with options stands for, the options bound.

    Args:
        what: "rule", "model" ..., for the error.
        text: such as "cagrad:c=0.5"; hyphens and underscores mean the same.
        known: by name.

    Returns:
        The name and the function or class with its options.

    Raises:
        CourseError: on an unknown name or option, with the nearest right one, or a value that it does not take.

    >>> choose("rule", "cagrad:c=0.4", {"cagrad": cagrad})
    ("cagrad", partial(cagrad, c=0.4))
    """
    wanted, _, rest = text.partition(":")
    name = next((key for key in known if key.replace("-", "_") == wanted.replace("-", "_")), wanted)
    refuse_unknown(what, [name], known)
    parameters = inspect.signature(known[name]).parameters
    allowed = {key: p.default for key, p in parameters.items() if isinstance(p.default, int | float | str)}
    options = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if not allowed:
            raise CourseError(f"{what} {name!r} takes no options, and these are {rest!r}")
        refuse_unknown(f"option of {name}", [key.strip()], allowed)
        kind = type(allowed[key.strip()])
        try:
            options[key.strip()] = bool(int(value)) if kind is bool else kind(value)
        except ValueError as error:
            raise CourseError(f"{what} {text!r}: {key} is a {kind.__name__}, and not {value!r}") from error
    return name, partial(known[name], **options) if options else known[name]
