"""`olmo orphans`: jobs that no Dagster run follows, and Dagster runs whose process is gone."""

from assets.paths import root
from assets.recipe import load_recipe
from pipelines.cli.jobs import job_row
from pipelines.cli.terminal import print_json, table, terminal
from pipelines.instance import open_instance
from pipelines.launchers.router import site_launcher
from pipelines.orphans import find_orphans


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
        jobs = [job_row(place, state) for place, state in orphans.jobs.items()]
        runs = [{"run_id": run.run_id, "job": run.job_name} for run in orphans.runs]
        print_json({"jobs": jobs, "runs": runs})
        return
    rows: list[tuple[str, str, str]] = []
    for place, state in orphans.jobs.items():
        follow = f"olmo run {place.recipe} --select {place.asset}"
        if place.partition:
            follow = f"materialise {place.asset}, partition {place.partition}, in the UI"
        rows.append((place.label, f"a job without a run: {state.description}", follow))
    for run in orphans.runs:
        what = "a run whose process is gone"
        rows.append((f"{run.job_name} {run.run_id}", what, "the next `olmo run` marks it failed"))
    if rows:
        terminal().print(table(("orphan", "what it is", "what to do"), rows))
    else:
        print("No orphans: every job at work is followed by a run.")
