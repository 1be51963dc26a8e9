"""Curves that Dagster shows in place."""

import base64
import math
import xml.etree.ElementTree as ET

import pytest

from assets.reporting.sketch import sketch

IN_PLACE = 1000  # characters of Markdown from which on Dagster shows a button


def drawn(text: str | None) -> tuple[list[tuple[float, float]], list[str]]:
    """Return the points of the curve, and what is written beside it."""
    assert text is not None
    encoded = text.removeprefix("![loss](data:image/svg+xml;base64,").removesuffix(")")
    drawing = ET.fromstring(base64.b64decode(encoded))
    _, path = drawing.findall("{*}path")
    start, _, rest = path.attrib["d"].removeprefix("M").partition("l")
    numbers = [float(number) for number in rest.replace("-", " -").split()]
    x, y = map(float, start.split())
    points = [(x, y)]
    for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
        x, y = x + dx, y + dy
        points.append((x, y))
    return points, [str(label.text) for label in drawing.findall("{*}text")]


@pytest.mark.parametrize("steps", [2, 3, 61, 391, 100_000])
def test_a_curve_of_any_length_is_short_enough_to_be_shown_in_place(steps: int) -> None:
    at = [1.0 + step for step in range(steps)]
    text = sketch("loss", at, [11 / math.sqrt(step) + math.sin(step) for step in at], "step")
    assert text is not None
    assert len(text) < IN_PLACE
    points, _ = drawn(text)
    assert len(points) >= min(steps, 40)


def test_the_curve_goes_where_the_values_go() -> None:
    points, labels = drawn(sketch("loss", [0, 10, 20], [8.0, 6.0, 4.0], "step"))
    (x0, y0), (x1, y1), (x2, y2) = points
    assert y0 < y1 < y2  # an SVG's y goes down
    assert (x1 - x0, y1 - y0) == (x2 - x1, y2 - y1)
    assert labels == ["8", "4", "0", "step 20"]


def test_what_is_not_finite_is_passed_over() -> None:
    values = [8.0, math.nan, math.inf, 4.0]
    assert sketch("loss", [1, 2, 3, 4], values, "step") == sketch("loss", [1, 4], [8, 4], "step")


def test_without_two_points_there_is_no_curve() -> None:
    assert sketch("loss", [], [], "step") is None
    assert sketch("loss", [1], [8.0], "step") is None
    assert sketch("loss", [1, 2], [8.0, math.nan], "step") is None


def test_a_constant_is_a_curve() -> None:
    points, _ = drawn(sketch("loss", [1, 2], [3.0, 3.0], "step"))
    assert len({y for _, y in points}) == 1
