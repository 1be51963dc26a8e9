"""Orphans: jobs that no Dagster run follows, and Dagster runs whose process is gone.

A job never needs Dagster, so an orphan is no failure: its result is found by the next run of its
asset. Until then nobody reports how it goes. `olmo orphans` lists them, a sensor adopts them.
"""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from assets.evals.sweep import partitions_name
from assets.launcher import JobState, Launcher
from pipelines.instance import orphaned_runs
from pipelines.places import Place, at_work

ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
ACTIVE = [status for status in dg.DagsterRunStatus if status not in ENDED]
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True, kw_only=True)
class Orphans:
    """What has lost its other half."""

    jobs: Mapping[Place, JobState]
    runs: Collection[dg.DagsterRun]


def find_orphans(
    instance: dg.DagsterInstance, launcher: Launcher, root: Path, recipe: str | None = None
) -> Orphans:
    """Return jobs at work, of one recipe or all, without a run, and runs without a process.

    Raises:
        EngineUnavailable: an engine does not say what is at work.
    """
    runs = orphaned_runs(instance)
    jobs = at_work(launcher, root, recipe)
    if jobs:
        followed = _followed(instance, {run.run_id for run in runs})
        jobs = {place: state for place, state in jobs.items() if _step(place) not in followed}
    return Orphans(jobs=jobs, runs=runs)


def _step(place: Place) -> tuple[str, str | None]:
    return f"{place.recipe}__{place.asset}", place.partition


def _followed(
    instance: dg.DagsterInstance, without: Collection[str]
) -> set[tuple[str, str | None]]:
    """Return steps, with their partitions, that some run is at or has yet to come to."""
    found: set[tuple[str, str | None]] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)):
        if run.run_id in without or run.execution_plan_snapshot_id is None:
            continue
        plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
        steps = set(run.step_keys_to_execute or plan.step_keys_to_execute)
        ended = {
            step.step_key
            for step in instance.get_run_step_stats(run.run_id)
            if step.status is not None and step.status.value != "IN_PROGRESS"
        }
        found.update(
            (step, partition) for step in steps - ended for partition in _partitions(instance, run)
        )
    return found


def _partitions(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str | None]:
    """Return the partitions that a run makes: of a backfill several, of the main line none.

    A run without a partition makes, of a sweep, all that lack an evaluation.
    """
    first, last = (run.tags.get(tag) for tag in RANGE_TAGS)
    recipes = {key.path[0] for key in run.asset_selection or ()} or {run.tags.get("recipe", "")}
    if not (first and last):
        if partition := run.tags.get("dagster/partition"):
            return [partition]
        every = (instance.get_dynamic_partitions(partitions_name(each)) for each in recipes)
        return [None, *itertools.chain.from_iterable(every)]
    for recipe in recipes:
        known = instance.get_dynamic_partitions(partitions_name(recipe))
        if first in known and last in known:
            return [*known[known.index(first) : known.index(last) + 1]]
    return []  # one of them has been deleted since
