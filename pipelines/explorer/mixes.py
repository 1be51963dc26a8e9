"""What a model was to read and has read, by source, and what the filters dropped: as bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.errors import InputError
from olmo_core.evals.store.tokens_behind import inputs_of
from olmo_core.lineage.expected_read import expected_read, windows_to_count
from olmo_core.release.tokens_read import tokens_read
from pipelines.explorer.charts import AnyChart, BarChart
from pipelines.explorer.descent import report_of
from pipelines.explorer.experiments import Experiment
from pipelines.explorer.files import kept

MOST_WINDOWS = 5_000_000  # that are put in order, to be counted, while a reader waits: seconds
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


def _read_of(mix: Path, runs: Sequence[Experiment], notes: list[str]) -> dict[str, float]:
    """Return the tokens that runs have read of each source of a mix; nothing if one is unknown."""
    read: dict[str, float] = {}
    for run in runs:
        if run.data.get("order") is None:
            notes.append(f"{run.id}: what it has read is counted when it has finished")
            return {}
        try:
            found = _read_by(run.folder.path)
        except (InputError, FileNotFoundError, KeyError) as error:
            notes.append(f"{run.id}: what it has read cannot be counted: {error}")
            return {}
        if found.error:
            notes.append(
                f"{run.id}: what it has read is too long to be counted here, so its shares are "
                f"those of the windows of the mix, as a random order gives them: ± "
                f"{_points(2 * found.error)} percentage points (two standard errors). The model "
                f"card has the count: olmo run {run.recipe} --select model_card"
            )
        for source, tokens in found.tokens.items():
            read[source] = read.get(source, 0) + tokens
    return read


def _points(share: float) -> str:
    """Return a share in percentage points, with two digits."""
    return f"{100 * share:.2g}" if share >= 1e-6 else "less than 0.0001"


@dataclass(frozen=True, kw_only=True)
class _Read:
    """The tokens that a run has read by source, counted, or expected with an error of a share."""

    tokens: Mapping[str, float]
    error: float = 0.0  # the largest standard error of a source's share


@kept("result.json")
def _read_by(path: Path) -> _Read:
    [mix] = [folder for name, folder in inputs_of(path).items() if name.endswith("_mix")]
    run = report_of(path)["data"]
    if windows_to_count(run) <= MOST_WINDOWS:
        return _Read(tokens=tokens_read(mix, run))
    expected = expected_read(mix, run)
    return _Read(tokens=expected.tokens, error=expected.error_of_shares)


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
