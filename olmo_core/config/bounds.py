"""Bounds of the numbers in a configuration, declared with each number. Free of torch."""

import math
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any


def at_least(least: float, *, default: Any, at_most: float = math.inf) -> Any:
    """Declare a number from `least` on, and up to `at_most` if that is given."""
    return _bounded(lambda value: least <= value, f"{least} or more", at_most, default)


def above(bound: float, *, default: Any, at_most: float = math.inf) -> Any:
    """Declare a number above `bound`, and up to `at_most` if that is given."""
    return _bounded(lambda value: bound < value, f"a number above {bound}", at_most, default)


def _bounded(
    from_below: Callable[[float], bool], expected: str, at_most: float, default: Any
) -> Any:
    if default is None:
        expected += ", or null"
    bounds: dict[str, Callable[[float], bool]] = {
        expected: lambda value: from_below(value) and value < math.inf
    }
    if at_most < math.inf:
        bounds[f"{at_most} or less"] = lambda value: value <= at_most
    return field(default=default, metadata={"bounds": bounds})


class Bounded:
    """Base of a dataclass that refuses numbers beyond their bounds; None passes, NaN never does."""

    def __post_init__(self) -> None:
        for each in fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, each.name)
            for expected, holds in each.metadata.get("bounds", {}).items():
                if value is not None and not holds(value):
                    raise ValueError(f"{each.name} is {value}; expected {expected}")
