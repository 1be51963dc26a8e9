"""Curves over tokens: as a picture (PNG, SVG), or in characters for a terminal.

The one place that draws them: `olmo curves`, and whoever has points with errors to show.
"""

# pyright: basic
# matplotlib's types are partial.

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = ("#1f6feb", "#bf8700", "#1a7f37", "#cf222e", "#8250df", "#0a7ea4", "#57606a")
FORMATS = ("png", "svg")
MARKERS = "os^Dv"  # of curves whose colour is that of another one before, the next of these
MARKS = "ox+*#%@abcdefghijklmnpqrstuvwyz"  # of the curves, in characters
BAND = "·"
MOST_MARKERS = 40  # points of a curve that each get a marker
PANEL_INCHES = (5.5, 3.2)
LABEL_WIDTH = 9  # characters left of the axis


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of one run, by tokens: finite values, and standard errors where there are any."""

    name: str
    tokens: Sequence[float]
    values: Sequence[float]
    errors: Sequence[float | None]
    in_loop: bool = False  # found while the run trained: dashed, in the colour of its name

    @property
    def label(self) -> str:
        """Return what the legend says."""
        return f"{self.name}, in loop" if self.in_loop else self.name

    def bands(self) -> list[tuple[float, float]]:
        """Return value minus and plus its error, for each point."""
        known = [
            error if error is not None and math.isfinite(error) else 0 for error in self.errors
        ]
        pairs = zip(self.values, known, strict=True)
        return [(value - error, value + error) for value, error in pairs]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share their axes: one task."""

    title: str
    label: str  # of the values, with their unit
    curves: Sequence[Curve]


def picture(panels: Sequence[Panel], file_format: str) -> bytes:
    """Return all panels as one picture, two beside each other; bands are one standard error.

    Equal panels give equal bytes.

    Args:
        panels: At least one.
        file_format: One of `FORMATS`.
    """
    import matplotlib
    from matplotlib.ticker import EngFormatter

    across = min(2, len(panels))
    down = math.ceil(len(panels) / across)
    figure, axes = drawing(across, down, (PANEL_INCHES[0] * across, PANEL_INCHES[1] * down))
    for panel, place in zip(panels, axes, strict=False):
        names = [*dict.fromkeys(curve.name for curve in panel.curves)]
        for curve in panel.curves:
            turn, number = divmod(names.index(curve.name), len(COLOURS))
            colour = COLOURS[number]
            style = {"color": colour, "linewidth": 1.5, "markersize": 3, "label": curve.label}
            if curve.in_loop:
                style |= {"linestyle": "--", "linewidth": 1.0, "markerfacecolor": "none"}
            if len(curve.tokens) <= MOST_MARKERS or turn:
                style["marker"] = MARKERS[turn % len(MARKERS)]
                style["markevery"] = 1 + len(curve.tokens) // (MOST_MARKERS + 1)
            place.plot(curve.tokens, curve.values, **style)
            if any(error is not None for error in curve.errors):
                low, high = zip(*curve.bands(), strict=True)
                place.fill_between(curve.tokens, low, high, color=colour, alpha=0.2, linewidth=0)
        place.set(title=panel.title, xlabel="tokens", ylabel=panel.label)
        place.xaxis.set_major_formatter(EngFormatter())
        place.grid(alpha=0.3)
        for text in (*place.legend(fontsize="small").get_texts(), place.title, place.yaxis.label):
            text.set_parse_math(False)  # a name may hold $, between two of which would stand TeX
    for place in axes[len(panels) :]:
        place.remove()
    with matplotlib.rc_context({"svg.hashsalt": "olmo", "svg.fonttype": "none"}):
        return encoded(figure, file_format)


def drawing(across: int, down: int, inches: tuple[float, float]) -> tuple[Any, list[Any]]:
    """Return a figure and its axes, row by row."""
    # matplotlib takes half a second; only a run that has something to draw pays for it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [*figure.subplots(down, across, squeeze=False).flat]


def encoded(figure: Any, file_format: str) -> bytes:
    """Return a figure as a file, without the time and the library that made it."""
    written = io.BytesIO()
    names = {"png": ("Software",), "svg": ("Date", "Creator")}
    figure.savefig(written, format=file_format, metadata=dict.fromkeys(names[file_format]))
    return written.getvalue()


def characters(panel: Panel, *, width: int, height: int = 14) -> str:
    """Return a panel in characters: points by run, the bands dotted, tokens from left to right.

    Args:
        panel: With at least one point.
        width: Columns, at least 40.
        height: Lines of the chart itself.
    """
    tokens = [x for curve in panel.curves for x in curve.tokens]
    bands = [end for curve in panel.curves for band in curve.bands() for end in band]
    low, high = min(bands), max(bands)
    if low == high:
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    room = width - LABEL_WIDTH - 3
    grid = [[" "] * room for _ in range(height)]

    def column(x: float) -> int:
        return round((x - min(tokens)) / ((max(tokens) - min(tokens)) or 1) * (room - 1))

    def line(y: float) -> int:
        return height - 1 - round((y - low) / (high - low) * (height - 1))

    for curve in panel.curves:
        for x, (bottom, top) in zip(curve.tokens, curve.bands(), strict=True):
            for at in range(line(top), line(bottom) + 1):
                grid[at][column(x)] = BAND
    for mark, curve in zip(MARKS * len(panel.curves), panel.curves, strict=False):
        for x, y in zip(curve.tokens, curve.values, strict=True):
            grid[line(y)][column(x)] = mark
    marked = {0: high, height // 2: high - (high - low) * (height // 2) / (height - 1)}
    marked[height - 1] = low
    lines = [f"{panel.title} ({panel.label})"]
    for number, cells in enumerate(grid):
        label = f"{marked[number]:.4g}" if number in marked else ""
        lines.append(f"{label:>{LABEL_WIDTH}} ┤{''.join(cells)}".rstrip())
    left, right = _short(min(tokens)), f"{_short(max(tokens))} tokens"
    lines.append(f"{'':{LABEL_WIDTH}} └{'─' * room}")
    lines.append(f"{'':{LABEL_WIDTH + 2}}{left}{right:>{room - len(left)}}")
    lines += [
        f"{'':{LABEL_WIDTH + 2}}{mark} {curve.label}"
        for mark, curve in zip(MARKS * len(panel.curves), panel.curves, strict=False)
    ]
    return "\n".join(lines)


def _short(tokens: float) -> str:
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if tokens >= factor:
            return f"{tokens / factor:.3g}{suffix}"
    return f"{tokens:.3g}"
