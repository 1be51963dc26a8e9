"""The loss curve of a run, drawn from its metrics."""

# pyright: basic
# matplotlib's types are partial.

import io
from collections.abc import Mapping, Sequence
from typing import Any

LOSS = "train/CrossEntropyLoss"
RATE = "optim/learning_rate_group0"


def loss_curve(rows: Sequence[Mapping[str, Any]], title: str) -> bytes | None:
    """Return a PNG of loss and learning rate by step; None where no step has been logged."""
    logged = [row for row in rows if LOSS in row and RATE in row]
    if not logged:
        return None
    # matplotlib takes half a second; only a run that has something to draw pays for it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [row["step"] for row in logged]
    figure = Figure(figsize=(8, 3.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, [row[LOSS] for row in logged], color="#1f6feb", linewidth=1.5)
    axes.set(xlabel="step", ylabel="training loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(steps, [row[RATE] for row in logged], color="#bf8700", linewidth=1, alpha=0.8)
    rate.set_ylabel("learning rate", color="#bf8700")
    rate.set_ylim(bottom=0)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
