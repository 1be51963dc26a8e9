"""The values that a number of a configuration may have. Free of torch."""

import math
from collections.abc import Callable, Sequence


def at_least(config: object, least: int, *keys: str) -> None:
    """Refuse a value of `config` below `least`, and one that is not finite; None passes.

    Raises:
        ValueError: names the key, what was found and what would be right.
    """
    _check(config, keys, f"{least} or more", lambda value: least <= value < math.inf)


def above(config: object, bound: int, *keys: str) -> None:
    """As `at_least`, for values that must not reach `bound` either."""
    _check(config, keys, f"a number above {bound}", lambda value: bound < value < math.inf)


def at_most(config: object, most: int, *keys: str) -> None:
    """As `at_least`, for values that must not exceed `most`."""
    _check(config, keys, f"{most} or less", lambda value: value <= most)


def _check(
    config: object, keys: Sequence[str], expected: str, holds: Callable[[float], bool]
) -> None:
    for key in keys:
        value = getattr(config, key)
        if value is not None and not holds(value):  # NaN holds nowhere
            raise ValueError(f"{key} is {value}; expected {expected}")
