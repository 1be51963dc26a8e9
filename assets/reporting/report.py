"""What Dagster is told of a finished run: what a person wants to see without opening a file."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.execution.produce import Produced
from assets.node import Chart, Node
from assets.reporting.in_loop import in_loop_tables
from assets.reporting.plots import bars, curves, loss_curve
from assets.reporting.texts import code_block
from olmo_core.forecast.measured import beside
from olmo_core.run.accepted import Acceptance
from olmo_core.run.folder import read_metrics

SAMPLE_CHARACTERS = 600
MOST_COLUMNS = 10  # of a table, beside which the page needs no scrolling


def report(
    node: Node,
    produced: Produced,
    accepted: Acceptance | None = None,
    checked: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult[Any]:
    """Return the materialisation of a finished run; the fingerprint is Dagster's data version."""
    return dg.MaterializeResult(
        check_results=checked,
        metadata=_metadata(node, produced, accepted),
        data_version=dg.DataVersion(produced.result["fingerprint"]),
    )


def partition_report(
    node: Node, produced: Produced, partition: str | None
) -> dg.AssetMaterialization:
    """Return the same of one of the partitions that a step makes, which a result cannot name."""
    return dg.AssetMaterialization(
        asset_key=node.key,
        partition=partition,
        metadata=_metadata(node, produced),
        # As Dagster itself tags what a MaterializeResult with a data version leads to.
        tags={
            "dagster/data_version": produced.result["fingerprint"],
            "dagster/data_version_is_user_provided": "true",
        },
    )


def _metadata(node: Node, produced: Produced, accepted: Acceptance | None = None) -> dict[str, Any]:
    """Return numbers, plots, tables and samples of a run, then where it lies and what it cost.

    Where it is made of something else than would be used now, also why it counts.
    """
    result, folder = produced.result, produced.folder
    parts = result["report"]
    pictures = {name: (folder.path / path).read_bytes() for name, path in parts["plots"].items()}
    logged = read_metrics(folder.metrics)
    curve = loss_curve(logged, f"{node.recipe} / {node.name}")
    if curve is not None:
        pictures["loss_curve"] = curve
    for chart in node.charts:
        title = f"{node.recipe} / {node.name}: {chart.table}"
        rows = parts["tables"].get(chart.table, [])
        drawn, kind = (
            (bars(chart, rows, title), "bars")
            if isinstance(chart, Chart)
            else (curves(chart, rows, title), "plot")
        )
        if drawn is not None:
            pictures[f"{chart.table} ({kind})"] = drawn
    return {
        **{name: _number(value) for name, value in parts["numbers"].items()},
        **{name: _picture(name, png) for name, png in pictures.items()},
        **{name: _table(fitting(rows)) for name, rows in parts["tables"].items() if rows},
        **{name: _table(rows) for name, rows in in_loop_tables(logged).items()},
        **({"forecast": _table(rows)} if (rows := beside(folder)) else {}),
        **{f"{name} samples": _samples(texts) for name, texts in parts["samples"].items() if texts},
        # Results of before have none.
        **{name: dg.MetadataValue.md(text) for name, text in parts.get("markdown", {}).items()},
        **({} if accepted is None else {"accepted": str(accepted)}),
        **({} if produced.reused_from is None else {"reused_from": produced.reused_from}),
        "path": dg.PathMetadataValue(str(folder.path)),
        "fingerprint": result["fingerprint"],
        "digest": result["digest"],
        "how": produced.how,
        "work_seconds": float(result["work_seconds"]),
        "start_seconds": float(result["start_seconds"]),
        "peak_memory_bytes": int(result["peak_memory_bytes"]),
        "attempts": int(result["attempt"]),
    }


def _number(value: int | float | str | None) -> int | float | str:
    return str(value) if isinstance(value, bool | None) else value


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if isinstance(value, str | int | bool) or value is None else str(value)


def fitting(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return a table that fits the page: a wide one of few rows on its side, as of a leaderboard.

    Its rows are then columns, named by what stands in its first column.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    names = [str(row.get(columns[0])) for row in rows] if columns else []
    if not MOST_COLUMNS < len(columns) > len(rows) or len({*names}) < len(names):
        return rows
    return [
        {columns[0]: name, **{of: row.get(name) for of, row in zip(names, rows, strict=True)}}
        for name in columns[1:]
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    kinds = {name: _column_type([row.get(name) for row in rows]) for name in columns}
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows],
        schema=dg.TableSchema(
            columns=[dg.TableColumn(name=name, type=kinds[name]) for name in columns]
        ),
    )


def _column_type(values: Sequence[Any]) -> str:
    kinds: set[Any] = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return "int"
    return "float" if kinds and kinds <= {int, float, bool} else "string"


def _samples(texts: Sequence[str]) -> dg.MetadataValue:
    shown = [text[:SAMPLE_CHARACTERS] + "…" * (len(text) > SAMPLE_CHARACTERS) for text in texts]
    return dg.MetadataValue.md("\n\n***\n\n".join(code_block(text) for text in shown))


def _picture(name: str, png: bytes) -> dg.MetadataValue:
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{encoded})")
