"""A curve so small that Dagster draws it on the page of an asset, and not behind a button.

Dagster shows Markdown of fewer than 1,000 characters in place. A picture fits if it is drawn by
hand: some sixty points of an SVG.
"""

import base64
import itertools
import math
from collections.abc import Sequence

IN_PLACE_CHARACTERS = 999
WIDTH, HEIGHT = 400, 110  # pixels
LEFT, TOP, BOTTOM = 40, 6, 94  # of the field in which the curve is drawn
MOST_POINTS = 60
COLOUR = "#1f6feb"


def sketch(name: str, x: Sequence[float], y: Sequence[float], unit: str) -> str | None:
    """Return Markdown of a curve, drawn through the means of neighbouring points.

    Args:
        name: Of the picture.
        x: In ascending order.
        y: What is drawn; values that are not finite are passed over.
        unit: Of x, as in `step`.

    Returns:
        None where fewer than two points are finite.
    """
    points = [(at, value) for at, value in zip(x, y, strict=True) if math.isfinite(value)]
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    for most in range(MOST_POINTS, 1, -4):
        text = _markdown(name, _means(points, most), unit)
        if len(text) <= IN_PLACE_CHARACTERS:
            return text
    return None


def _means(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most so many points: the means of parts of equal length, but each end as it is."""
    count = min(most, len(points))
    bounds = [len(points) * number // count for number in range(count + 1)]
    parts = [points[start:end] for start, end in itertools.pairwise(bounds)]
    means = [
        (math.fsum(at for at, _ in part) / len(part), math.fsum(v for _, v in part) / len(part))
        for part in parts
    ]
    return [points[0], *means[1:-1], points[-1]]


def _markdown(name: str, points: Sequence[tuple[float, float]], unit: str) -> str:
    values = [value for _, value in points]
    low, high = min(values), max(values)
    across = (WIDTH - LEFT) / (points[-1][0] - points[0][0])
    down = (BOTTOM - TOP) / ((high - low) or 1.0)
    places = [
        (round(LEFT + (at - points[0][0]) * across), round(TOP + (high - value) * down))
        for at, value in points
    ]
    path = f"M{places[0][0]} {places[0][1]}l" + " ".join(
        f"{x - before_x} {y - before_y}"
        for (before_x, before_y), (x, y) in itertools.pairwise(places)
    )
    labels = (
        (0, TOP + 8, f"{high:.3g}"),
        (0, BOTTOM, f"{low:.3g}"),
        (LEFT, HEIGHT - 3, f"{points[0][0]:.12g}"),
        (WIDTH - 90, HEIGHT - 3, f"{unit} {points[-1][0]:,.12g}"),
    )
    texts = "".join(f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in labels)
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'font-size="11" fill="#888"><path d="M{LEFT} 0V{BOTTOM}H{WIDTH}" fill="none" '
        f'stroke="#bbb"/><path d="{path.replace(" -", "-")}" fill="none" stroke="{COLOUR}" '
        f'stroke-width="2"/>{texts}</svg>'
    )
    encoded = base64.b64encode(drawing.encode()).decode()
    return f"![{name}](data:image/svg+xml;base64,{encoded})"
