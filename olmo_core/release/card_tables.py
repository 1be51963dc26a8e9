"""Markdown tables of a model card."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return rows as a Markdown table, numbers right-aligned; nothing where there are none."""
    if not rows:
        return ""
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    numeric = [all(isinstance(row.get(name), int | float) for row in rows) for name in names]
    lines = [
        f"| {' | '.join(names)} |",
        f"| {' | '.join('---:' if right else '---' for right in numeric)} |",
    ]
    lines += [f"| {' | '.join(_cell(row.get(name)) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|")
