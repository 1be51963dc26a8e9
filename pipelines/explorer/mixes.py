"""What a model was to read and has read, by source, and what the filters dropped: as bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.errors import InputError
from olmo_core.evals.store.tokens_behind import inputs_of
from olmo_core.release.tokens_read import tokens_read
from pipelines.explorer.charts import AnyChart, BarChart
from pipelines.explorer.descent import report_of
from pipelines.explorer.experiments import Experiment
from pipelines.explorer.files import kept

MOST_WINDOWS = 20_000_000  # of a run that are counted while a reader waits
MOST_RULES = 25


def mix_charts(runs: Sequence[Experiment], notes: list[str]) -> dict[str, AnyChart]:
    """Return a chart per mix that some runs have read: each source's share, planned and read.

    What cannot be counted is said in `notes`.
    """
    readers: dict[Path, list[Experiment]] = {}
    for run in runs:
        for name, path in inputs_of(run.folder.path).items():
            if name.endswith("_mix"):
                readers.setdefault(path, []).append(run)
    charts: dict[str, AnyChart] = {}
    for path, of_mix in readers.items():
        planned: Sequence[Mapping[str, Any]] = report_of(path).get("tables", {}).get("sources", ())
        if not planned:
            notes.append(f"{path.parent.name}/{path.name}: the mix is not here any more")
            continue
        read = _read_of(path, of_mix, notes)
        total = sum(read.values())
        columns = ("planned", "read") if total else ("planned",)
        by = of_mix[0].asset if len(of_mix) == 1 else f"{len(of_mix)} runs"
        charts[f"mix-{path.parent.name}-{path.name}"] = BarChart(
            title=f"{path.parent.name}: planned" + f", and read by {by}" * bool(total),
            labels=("source",),
            columns=columns,
            rows=[
                {
                    "source": row["source"],
                    "planned": row.get("planned_share", row["share"]),
                    "read": read.get(row["source"], 0) / total if total else None,
                }
                for row in planned
            ],
            unit="share of tokens",
        )
    return charts


def _read_of(mix: Path, runs: Sequence[Experiment], notes: list[str]) -> dict[str, int]:
    """Return the tokens that runs have read of each source of a mix; nothing if one is unknown."""
    read: dict[str, int] = {}
    for run in runs:
        order: Mapping[str, Any] | None = run.data.get("order")
        if order is None:
            notes.append(f"{run.id}: what it has read is counted when it has finished")
            return {}
        if run.data["step"] * order["global_batch_size"] > MOST_WINDOWS:
            notes.append(f"{run.id}: what it has read is on the model card: long to be counted")
            return {}
        try:
            counted = _counted(run.folder.path)
        except (InputError, FileNotFoundError, KeyError) as error:
            notes.append(f"{run.id}: what it has read cannot be counted: {error}")
            return {}
        for source, tokens in counted.items():
            read[source] = read.get(source, 0) + tokens
    return read


@kept("result.json")
def _counted(path: Path) -> dict[str, int]:
    [mix] = [folder for name, folder in inputs_of(path).items() if name.endswith("_mix")]
    return tokens_read(mix, report_of(path)["data"])


def dropped_chart(filtered: Path | None) -> dict[str, AnyChart]:
    """Return the documents that each rule has dropped; nothing where nothing was filtered."""
    if filtered is None:
        return {}
    tables: Mapping[str, Any] = report_of(filtered).get("tables", {})
    rows = sorted(tables.get("dropped by rule", ()), key=lambda row: -row["dropped"])
    rows = [row for row in rows if row["dropped"]]
    if not rows:
        return {}
    shown = rows[:MOST_RULES]
    title = "documents dropped by rule"
    if len(shown) < len(rows):
        title += f", the {MOST_RULES} of {len(rows)} that drop most"
    return {
        "dropped": BarChart(
            title=title,
            labels=("source", "rule"),
            columns=("dropped",),
            rows=shown,
            unit="documents",
        )
    }
