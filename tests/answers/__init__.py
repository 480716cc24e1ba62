"""Right and wrong answers to the exercises, as a learner would write them; one file for two lessons."""

from collections import defaultdict
from collections.abc import Callable

RIGHT: dict[str, list[Callable]] = defaultdict(list)
WRONG: dict[str, list[tuple[Callable, str]]] = defaultdict(list)


def right(exercise: str) -> Callable:
    """The function answers the exercise in another way than its solution."""

    def remember(function: Callable) -> Callable:
        RIGHT[exercise].append(function)
        return function

    return remember


def wrong(exercise: str, words: str) -> Callable:
    """The function makes the mistake that its name says; the check's sentence must hold the words."""

    def remember(function: Callable) -> Callable:
        WRONG[exercise].append((function, words))
        return function

    return remember
