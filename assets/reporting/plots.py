"""Pictures of a run: the loss curve, drawn from its metrics, and bars of its tables."""

# pyright: basic
# matplotlib's types are partial.

from collections.abc import Mapping, Sequence
from typing import Any

from assets.node import Chart, Curves
from assets.reporting.sketch import sketch
from olmo_core.monitor.curves import drawing, encoded

LOSS = "train/CrossEntropyLoss"
RATE = "optim/learning_rate_group0"
WIDTH_INCHES = 8
COLOURS = ("#1f6feb", "#d1d5da", "#bf8700", "#1a7f37")
MOST_ROWS = 40  # of a table that is drawn: more cannot be read


def loss_curve(rows: Sequence[Mapping[str, Any]], title: str) -> bytes | None:
    """Return a PNG of loss and learning rate by step; None where no step has been logged."""
    logged = [row for row in rows if LOSS in row and RATE in row]
    if not logged:
        return None
    figure, [axes] = drawing(1, 1, (WIDTH_INCHES, 3.6))
    steps = [row["step"] for row in logged]
    axes.plot(steps, [row[LOSS] for row in logged], color=COLOURS[0], linewidth=1.5)
    axes.set(xlabel="step", ylabel="training loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(steps, [row[RATE] for row in logged], color=COLOURS[2], linewidth=1, alpha=0.8)
    rate.set_ylabel("learning rate", color=COLOURS[2])
    rate.set_ylim(bottom=0)
    return encoded(figure, "png")


def loss_sketch(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return Markdown of the loss by step, small enough to be shown in place; None without one."""
    logged = [(row["step"], float(row[LOSS])) for row in rows if row.get(LOSS) is not None]
    return sketch("loss_curve", [step for step, _ in logged], [loss for _, loss in logged], "step")


def bars(chart: Chart, rows: Sequence[Mapping[str, Any]], title: str) -> bytes | None:
    """Return a PNG of a table's rows as horizontal bars, the first on top; None without a row."""
    shown = rows[:MOST_ROWS]
    if not shown:
        return None
    if len(rows) > len(shown):
        title += f", the first {len(shown)} of {len(rows)} rows"
    from matplotlib.ticker import EngFormatter  # late, as all of matplotlib (`drawing`)

    names = [" / ".join(str(row[label]) for label in chart.labels) for row in shown]
    height = 1.2 + 0.25 * len(shown) * (1 if chart.stacked else len(chart.values))
    figure, [axes] = drawing(1, 1, (WIDTH_INCHES, height))
    thick = 0.8 if chart.stacked else 0.8 / len(chart.values)
    ends = [0.0] * len(shown)
    for number, column in enumerate(chart.values):
        values = [float(row.get(column) or 0) for row in shown]
        places = [row + (0 if chart.stacked else number * thick) for row in range(len(shown))]
        colour = COLOURS[number % len(COLOURS)]
        axes.barh(places, values, thick, left=ends, label=column, color=colour, align="edge")
        if chart.stacked:
            ends = [end + value for end, value in zip(ends, values, strict=True)]
    # A name may hold $, between two of which would stand TeX.
    axes.set_yticks([row + 0.4 for row in range(len(shown))], names, parse_math=False)
    axes.invert_yaxis()
    axes.set(title=title, xlabel=chart.values[0] if len(chart.values) == 1 else "")
    axes.grid(axis="x", alpha=0.3)
    axes.xaxis.set_major_formatter(EngFormatter())  # 4 M, not 4 and 1e6 elsewhere
    if len(chart.values) > 1:
        axes.legend()
    return encoded(figure, "png")


def curves(chart: Curves, rows: Sequence[Mapping[str, Any]], title: str) -> bytes | None:
    """Return a PNG of a table's columns over one of them; None without a row."""
    if not rows:
        return None
    figure, [axes] = drawing(1, 1, (WIDTH_INCHES, 3.6))
    x = [row[chart.x] for row in rows]
    for number, column in enumerate(chart.values):
        style = {"marker": "o"} if number == 0 else {"linestyle": "--"}
        colour = COLOURS[2 * number % len(COLOURS)]
        axes.plot(x, [row[column] for row in rows], color=colour, label=column, **style)
    axes.set(xlabel=chart.x_title, ylabel=chart.unit, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return encoded(figure, "png")
