"""Tables and figures as the page of an asset shows them: read at a glance, and never cut off.

Dagster draws a plot of every number that an asset reports, over the time of its materialisations.
A figure of one result is no series, so figures are reported as texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.reporting.texts import visible

Rows = Sequence[Mapping[str, Any]]

MOST_COLUMNS = 10  # of a table of few rows, which stands on its side if it has more
# Of the column of values, on a window 1440 pixels wide. Dagster's tables do not scroll: what is
# wider is cut off. Its fonts are monospaced.
PAGE_PIXELS = 422
HEAD_PIXELS, CELL_PIXELS, PADDING_PIXELS = 7.2, 8.4, 16  # per character, and per column
LONG_TEXT = 28  # characters; a longer text is broken into lines, down to this width
MANY = 10_000  # from which on a number with a fraction is shown without it


def figure(value: Any) -> str:
    """Return a figure as text: whole numbers with their digits in groups, others with six."""
    if isinstance(value, float):
        whole = abs(value) < 1e12 and value.is_integer()
        return f"{value:,.0f}" if whole or MANY <= abs(value) < 1e9 else f"{value:.6g}"
    whole = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if whole else visible(str(value))


def tables(name: str, rows: Rows) -> dict[str, dg.MetadataValue]:
    """Return a table by its name; one that is wider than the page in parts, one below another."""
    parts = parted(turned(rows))
    names = [name, *(f"{name} ({number} of {len(parts)})" for number in range(2, len(parts) + 1))]
    return {name: table(part) for name, part in zip(names, parts, strict=True)}


def turned(rows: Rows) -> Rows:
    """Return a wide table of few rows on its side, as of a leaderboard, and another as it is.

    Its rows are then columns, named by what stands in its first column.
    """
    columns = _columns(rows)
    names = [str(row.get(columns[0])) for row in rows] if columns else []
    if not MOST_COLUMNS < len(columns) > len(rows) or len({*names}) < len(names):
        return rows
    return [
        {columns[0]: name, **{of: row.get(name) for of, row in zip(names, rows, strict=True)}}
        for name in columns[1:]
    ]


def parted(rows: Rows) -> list[Rows]:
    """Return a table in parts that fit the page, each with the first column and some others.

    A column that is wider than the page alone stands in a part of its own.
    """
    first, *others = _columns(rows) or [""]
    widths = {name: _pixels(name, rows) for name in (first, *others)}
    parts: list[list[str]] = [[]]
    for name in others:
        taken = sum(widths[each] for each in (first, *parts[-1]))
        if parts[-1] and taken + widths[name] > PAGE_PIXELS:
            parts.append([])
        parts[-1].append(name)
    return [[{name: row.get(name) for name in (first, *part)} for row in rows] for part in parts]


def table(rows: Rows) -> dg.MetadataValue:
    """Return a table as Dagster has them."""
    columns = _columns(rows)
    kinds = {name: _column_type([row.get(name) for row in rows]) for name in columns}
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: cell(row.get(name)) for name in columns}) for row in rows],
        schema=dg.TableSchema(
            columns=[dg.TableColumn(name=name, type=kinds[name]) for name in columns]
        ),
    )


def cell(value: Any) -> str | int | float | bool | None:
    """Return a value as a cell shows it."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and abs(value) < MANY:
        return float(f"{value:.6g}")
    return value if isinstance(value, int) and abs(value) < 1000 else figure(value)


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _pixels(name: str, rows: Rows) -> float:
    shown = [cell(row.get(name)) for row in rows]
    longest = max((len(str(value)) for value in shown if value is not None), default=0)
    return PADDING_PIXELS + max(HEAD_PIXELS * len(name), CELL_PIXELS * min(longest, LONG_TEXT))


def _column_type(values: Sequence[Any]) -> str:
    kinds: set[Any] = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return "int"
    return "float" if kinds and kinds <= {int, float, bool} else "string"
