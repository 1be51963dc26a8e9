"""Bars of a table are a picture whose bars have the lengths that the table says."""

import io

import matplotlib.image
import numpy as np

from assets.node import Chart, Curves
from assets.reporting.plots import COLOURS, MOST_ROWS, bars, curves

ROWS = [{"source": "a", "kept": 300, "dropped": 100}, {"source": "b", "kept": 100, "dropped": 0}]


def pixels(png: bytes, colour: str) -> np.ndarray:
    """How many pixels of each line of a picture have a colour."""
    image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    wanted = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    return (np.abs(image - wanted) < 1 / 255).all(axis=2).sum(axis=1)


def test_stacked_bars_lie_side_by_side_in_the_rows_order() -> None:
    chart = Chart(table="t", labels=("source",), values=("kept", "dropped"), stacked=True)
    png = bars(chart, ROWS, "title")
    assert png is not None
    kept, dropped = (pixels(png, colour) for colour in COLOURS[:2])
    longest = kept.max()
    lines = np.flatnonzero(kept > 0.9 * longest)
    shorter = np.flatnonzero((kept > 0.3 * longest) & (kept < 0.4 * longest))
    assert lines.max() < shorter.min()  # the first row is on top
    assert 0.3 < dropped[lines].max() / longest < 0.4
    # Outside the legend, the second row has nothing of the other colour.
    assert np.median(dropped[shorter]) == 0


def test_a_long_table_says_how_much_of_it_is_drawn() -> None:
    chart = Chart(table="t", labels=("n",), values=("n",))
    rows = [{"n": n} for n in range(MOST_ROWS + 1)]
    assert bars(chart, [], "title") is None
    whole, cut = bars(chart, rows[:-1], "title"), bars(chart, rows, "title")
    assert whole is not None
    assert cut is not None
    assert matplotlib.image.imread(io.BytesIO(whole)).shape == (
        matplotlib.image.imread(io.BytesIO(cut)).shape
    )
    assert whole != cut


def test_a_name_is_drawn_as_it_stands() -> None:
    """Rules have any names; between two $, matplotlib would read TeX."""
    chart = Chart(table="t", labels=("rule",), values=("dropped",))
    assert bars(chart, [{"rule": "below $100_$", "dropped": 3}], "title") is not None


def test_curves_are_drawn_over_a_column() -> None:
    values = ("loss", "line")
    chart = Curves(table="c", x="share", x_title="from a to b", values=values, unit="nats")

    def drawn(*losses: float) -> np.ndarray:
        rows = [{"share": n / 2, "loss": loss, "line": 2.0} for n, loss in enumerate(losses)]
        png = curves(chart, rows, "title")
        assert png is not None
        return pixels(png, COLOURS[0])

    flat, bent = drawn(2.5, 2.5, 2.5), drawn(2.5, 5.0, 2.5)
    assert np.count_nonzero(flat) < 40 < np.count_nonzero(bent)  # lines of the picture, legend too
    assert curves(chart, [], "title") is None
