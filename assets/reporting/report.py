"""What Dagster is told of a finished run: what a person wants to see without opening a file."""

import base64
from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.evals.sweep import SWEEP
from assets.execution.produce import Produced
from assets.node import Chart, Node
from assets.reporting.forecasts import readable
from assets.reporting.in_loop import in_loop_tables
from assets.reporting.plots import bars, curves, loss_curve, loss_sketch
from assets.reporting.tables import figure, tables
from assets.reporting.texts import code_block
from olmo_core.forecast.measured import beside
from olmo_core.run.accepted import Acceptance
from olmo_core.run.folder import RunFolder, read_metrics

SAMPLE_CHARACTERS = 600
SHOWN_DIGITS = 16  # of a hash, the whole of which would be wider than any table
COST = ("work_seconds", "start_seconds", "peak_memory_bytes")


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

    Where it is made of something else than would be used now, also why it counts. Dagster plots
    every number over the partitions, or over time: a sweep's figures are such a series, others
    would be a plot of one dot each and are texts.
    """
    number = plotted if node.name in SWEEP else figure
    result, folder = produced.result, produced.folder
    parts = result["report"]
    pictures = {name: (folder.path / path).read_bytes() for name, path in parts["plots"].items()}
    logged = read_metrics(folder.metrics)
    curve, small = loss_curve(logged, f"{node.recipe} / {node.name}"), loss_sketch(logged)
    if curve is not None:
        pictures["loss_curve (large)"] = curve
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
    all_tables = {**parts["tables"], **in_loop_tables(logged), "forecast": _forecast(folder)}
    shown = {
        title: part
        for name, rows in all_tables.items()
        if rows
        for title, part in tables(name, rows).items()
    }
    return {
        **({} if small is None else {"loss_curve": dg.MetadataValue.md(small)}),
        **{name: number(value) for name, value in parts["numbers"].items()},
        **{name: _picture(name, png) for name, png in pictures.items()},
        **shown,
        **{f"{name} samples": samples(texts) for name, texts in parts["samples"].items() if texts},
        # Results of before have none.
        **{name: dg.MetadataValue.md(text) for name, text in parts.get("markdown", {}).items()},
        **({} if accepted is None else {"accepted": str(accepted)}),
        **({} if produced.reused_from is None else {"reused_from": produced.reused_from}),
        "path": dg.PathMetadataValue(str(folder.path)),
        "fingerprint": result["fingerprint"][:SHOWN_DIGITS],
        "digest": result["digest"][:SHOWN_DIGITS],
        "how": produced.how,
        **{name: figure(result[name]) for name in COST},
        "attempts": figure(result["attempt"]),
    }


def plotted(value: Any) -> Any:
    """Return a figure as a number, of which Dagster makes a plot; as text what is none."""
    return value if isinstance(value, (int, float)) else figure(value)


def _forecast(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the forecast beside what was measured, in units."""
    return readable(beside(folder))


def samples(texts: Sequence[str]) -> dg.MetadataValue:
    """Return the beginnings of texts of whatever origin, as Markdown that shows them as found."""
    shown = [text[:SAMPLE_CHARACTERS] + "…" * (len(text) > SAMPLE_CHARACTERS) for text in texts]
    return dg.MetadataValue.md("\n\n***\n\n".join(code_block(text) for text in shown))


def _picture(name: str, png: bytes) -> dg.MetadataValue:
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{encoded})")
