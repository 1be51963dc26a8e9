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
        found = _read_of(of_mix, notes)
        total = sum(found.tokens.values())
        read = "read (expected)" if found.error else "read"
        by = of_mix[0].asset if len(of_mix) == 1 else f"{len(of_mix)} runs"
        if found.error:
            notes.append(_expectation(f"{path.parent.name}, {by}", found, of_mix[0].recipe))
        charts[f"mix-{path.parent.name}-{path.name}"] = BarChart(
            title=f"{path.parent.name}: planned" + f", and read by {by}" * bool(total),
            labels=("source",),
            columns=("planned", read) if total else ("planned",),
            rows=[
                {
                    "source": row["source"],
                    "planned": row.get("planned_share", row["share"]),
                    read: found.tokens.get(row["source"], 0) / total if total else None,
                }
                for row in planned
            ],
            unit="share of tokens",
        )
    return charts


@dataclass(frozen=True, kw_only=True)
class _Read:
    """The tokens read by source, counted, or expected with an error of a share."""

    tokens: Mapping[str, float]
    error: float = 0.0  # the largest standard error of a source's share


def _read_of(runs: Sequence[Experiment], notes: list[str]) -> _Read:
    """Return what runs have read of each source of their mix; nothing if it is unknown of one."""
    tokens: dict[str, float] = {}
    error = 0.0
    for run in runs:
        if run.data.get("order") is None:
            notes.append(f"{run.id}: what it has read is counted when it has finished")
            return _Read(tokens={})
        try:
            found = _read_by(run.folder.path)
        except (InputError, FileNotFoundError, KeyError) as why:
            notes.append(f"{run.id}: what it has read cannot be counted: {why}")
            return _Read(tokens={})
        error = max(error, found.error)  # of all together it is no larger
        for source, read in found.tokens.items():
            tokens[source] = tokens.get(source, 0) + read
    return _Read(tokens=tokens, error=error)


def _expectation(readers: str, found: _Read, recipe: str) -> str:
    """Return what is said of shares that are not counted."""
    # Percentage points, with two digits.
    off = f"{200 * found.error:.2g}" if found.error > 5e-7 else "less than 0.0001"
    return (
        f"{readers}: the shares read are those that a random order gives, ± {off} percentage "
        f"points (two standard errors), since counting takes long. The model card has the count: "
        f"olmo run {recipe} --select model_card"
    )


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
