"""What is drawn: by plotly in a served page, by matplotlib in a file that stands alone.

A chart is data here; `static/charts.js` draws it, and `picture` with what draws the reports.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from assets.node import Chart as Bars
from assets.reporting.plots import bars
from assets.reporting.texts import visible
from olmo_core.monitor.curves import Curve, Panel, picture


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve: of each point the step, the tokens behind it, the value, and its error."""

    name: str
    steps: Sequence[int | None]
    tokens: Sequence[float | None]
    values: Sequence[float | None]
    errors: Sequence[float | None] = ()
    dashed: bool = False
    address: str = ""  # of the page of a step, without its number: a click on a point goes there


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Curves that share their axes."""

    title: str
    label: str  # of the values, with their unit
    lines: Sequence[Line]
    smooth: bool = False  # whether a reader may smooth it, and take differences from the first
    kind: str = "lines"

    def data(self) -> dict[str, Any]:
        """Return what the script draws."""
        return asdict(self)

    def picture(self) -> str | None:
        """Return the address of a picture within itself; None where there is no point."""
        curves: list[Curve] = []
        for line in self.lines:
            errors = line.errors or [None] * len(line.values)
            rows = zip(line.tokens, line.values, errors, strict=True)
            points = [(x, y, e) for x, y, e in rows if x is not None and y is not None]
            if points:
                x, y, e = zip(*points, strict=True)
                curves.append(
                    Curve(
                        name=visible(line.name), tokens=x, values=y, errors=e, in_loop=line.dashed
                    )
                )
        if not curves:
            return None
        panel = Panel(title=visible(self.title), label=visible(self.label), curves=curves)
        drawn = picture([panel], "svg")
        return _within(drawn, "image/svg+xml")


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """Bars of a table: one group per row, one bar per column."""

    title: str
    labels: Sequence[str]  # columns that name a row
    columns: Sequence[str]  # columns that are drawn
    rows: Sequence[Mapping[str, Any]]
    unit: str = ""
    kind: str = "bars"

    @property
    def names(self) -> list[str]:
        """Return the name of each row."""
        return [" / ".join(str(row[label]) for label in self.labels) for row in self.rows]

    def data(self) -> dict[str, Any]:
        """Return what the script draws."""
        return {
            "kind": self.kind,
            "title": self.title,
            "unit": self.unit,
            "names": self.names,
            "columns": [
                {"name": name, "values": [row.get(name) for row in self.rows]}
                for name in self.columns
            ],
        }

    def picture(self) -> str | None:
        """Return the address of a picture within itself; None where there is no row."""
        chart = Bars(table=self.title, labels=("name",), values=tuple(self.columns))
        names = [visible(name) for name in self.names]
        rows = [{**row, "name": name} for row, name in zip(self.rows, names, strict=True)]
        drawn = bars(chart, rows, visible(self.title))
        return None if drawn is None else _within(drawn, "image/png")


AnyChart = LineChart | BarChart


def _within(drawn: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(drawn).decode()}"
