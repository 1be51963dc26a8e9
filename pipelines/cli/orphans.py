"""`olmo orphans`: jobs that no Dagster run follows, and Dagster runs whose process is gone."""

import json
from typing import Any

from rich.table import Table

from assets.paths import root
from assets.recipe import load_recipe
from pipelines.cli.terminal import terminal
from pipelines.instance import open_instance
from pipelines.launchers.router import site_launcher
from pipelines.orphans import Orphans, find_orphans


def print_orphans(recipe: str | None, *, as_json: bool) -> None:
    """Print jobs without a run and runs without a process; changes nothing.

    Raises:
        EngineUnavailable: an engine does not say what is at work.
    """
    if recipe is not None:
        load_recipe(recipe)  # an unknown name is an error
    with open_instance() as instance:
        orphans = find_orphans(instance, site_launcher(), root(), recipe)
    if as_json:
        print(json.dumps(_rows(orphans), indent=1, ensure_ascii=False))
        return
    console = terminal()
    if not orphans.jobs and not orphans.runs:
        console.print("No orphans: every job at work is followed by a run.", highlight=False)
        return
    table = Table(box=None, padding=(0, 2))
    for title in ("orphan", "what it is", "what to do"):
        table.add_column(title, overflow="fold")
    for place, state in orphans.jobs.items():
        follow = f"olmo run {place.recipe} --select {place.asset}"
        if place.partition:
            follow = f"materialise {place.asset}, partition {place.partition}, in the UI"
        table.add_row(place.label, f"a job without a run: {state.description}", follow)
    for run in orphans.runs:
        what = "a run whose process is gone"
        table.add_row(f"{run.job_name} {run.run_id}", what, "the next `olmo run` marks it failed")
    console.print(table)


def _rows(orphans: Orphans) -> dict[str, Any]:
    return {
        "jobs": [
            {
                "recipe": place.recipe,
                "asset": place.asset,
                "partition": place.partition,
                "path": str(place.folder.path),
                "state": "queued" if state.queued else "at work",
                "description": state.description,
            }
            for place, state in orphans.jobs.items()
        ],
        "runs": [{"run_id": run.run_id, "job": run.job_name} for run in orphans.runs],
    }
