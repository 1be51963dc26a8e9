"""What Dagster's history tells: checks that failed, and runs that failed without a failed job."""

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from assets.evals.sweep import KEY
from assets.execution.follow import JobFailed
from pipelines.alerts.message import Alert, alert
from pipelines.orphans import ACTIVE

# Before the last look: clocks differ, and a database shows a transaction only when it has ended.
OVERLAP_SECONDS = 300.0
MOST_EVENTS = 500  # of one run that are read at once

EVENTS = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.RUN_FAILURE}
WILL_RETRY_TAG = "dagster/will_retry"
# Errors of steps of which another alert tells.
TOLD_OTHERWISE = (JobFailed.__name__, "DagsterAssetCheckFailedError")


@dataclass(kw_only=True)
class Runs:
    """The runs of an instance; `cursors` are of those at work and of those that ended just now."""

    first_look: float | None = None  # Unix time
    last_look: float | None = None
    cursors: dict[str, str] = field(default_factory=dict[str, str])
    # What each check that fails said last: it is told again only when it says something else.
    failing: dict[str, str] = field(default_factory=dict[str, str])

    def look(self, instance: dg.DagsterInstance, *, now: float) -> list[Alert]:
        """Return what is new since the last look; what was there before the first is not told."""
        self.first_look = now if self.first_look is None else self.first_look
        since = max(self.first_look, (self.last_look or 0.0) - OVERLAP_SECONDS)
        updated = dg.RunsFilter(updated_after=datetime.datetime.fromtimestamp(since, datetime.UTC))
        runs = {
            record.dagster_run.run_id: record.dagster_run
            for record in instance.get_run_records(updated)
        }
        runs |= {run.run_id: run for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE))}
        found: list[Alert] = []
        cursors: dict[str, str] = {}
        for run_id, run in runs.items():
            known = self.cursors.get(run_id)
            cursors[run_id] = known or ""
            more = True
            while more:
                page = instance.get_records_for_run(
                    run_id, cursor=cursors[run_id] or None, of_type=EVENTS, limit=MOST_EVENTS
                )
                cursors[run_id], more = page.cursor, page.has_more
                for record in page.records:
                    # A run that ended long ago is updated, too, when somebody tags it.
                    if known is not None or record.timestamp >= since:
                        found += self._told(instance, run, record.event_log_entry)
        self.cursors, self.last_look = cursors, now
        return sorted(found, key=lambda each: each.time)

    def _told(
        self, instance: dg.DagsterInstance, run: dg.DagsterRun, entry: dg.EventLogEntry
    ) -> Iterator[Alert]:
        event = entry.get_dagster_event()
        if event.event_type == DagsterEventType.RUN_FAILURE:
            yield from _run_failure(instance, run, event.message, entry.timestamp)
            return
        evaluation = event.asset_check_evaluation_data
        key = "/".join([*evaluation.asset_key.path, evaluation.check_name])
        key += f" {evaluation.partition}" if evaluation.partition else ""
        if evaluation.passed:
            self.failing.pop(key, None)
            return
        made = _Made.of(instance, evaluation)
        said = hashlib.sha256(f"{made.version}\n{evaluation.description}".encode()).hexdigest()[:16]
        if self.failing.get(key) != said:
            self.failing[key] = said
            yield _failed_check(evaluation, made, entry)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """The materialisation that a check was about."""

    path: str | None = None
    version: str | None = None  # None, too, of one partition of several: the check is about all
    step: int | None = None

    @classmethod
    def of(cls, instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation) -> "_Made":
        event = instance.get_latest_materialization_event(evaluation.asset_key)
        made = event.asset_materialization if event is not None else None
        if made is None or (made.partition is not None and evaluation.partition is None):
            return cls()
        values: Mapping[str, Any] = {name: each.value for name, each in made.metadata.items()}
        path = values.get("path")
        step = str(values.get("steps", "")).replace(",", "")  # as the asset's page shows it
        return cls(
            path=path,
            version=path.rpartition("/")[2] if path else None,
            step=int(step) if step.isdigit() else None,
        )


def _failed_check(
    evaluation: dg.AssetCheckEvaluation, made: _Made, entry: dg.EventLogEntry
) -> Alert:
    recipe, asset = _names(evaluation.asset_key)
    partition = evaluation.partition
    match = KEY.fullmatch(partition or "")
    words = "a blocking check" if evaluation.blocking else "a check"
    seen = f"{evaluation.check_name} ({words}, {evaluation.severity.value})"
    command = f"olmo show {recipe} {asset}"
    return alert(
        "check_failed",
        recipe=recipe,
        asset=asset,
        partition=partition,
        run=made.version or entry.run_id,
        step=int(match["step"]) if match else made.step,
        seen=f"{seen}: {evaluation.description or 'it says nothing'}",
        look=f"{made.path}, {command}" if made.path else command,
        time=entry.timestamp,
    )


def _run_failure(
    instance: dg.DagsterInstance, run: dg.DagsterRun, message: str | None, time: float
) -> Iterator[Alert]:
    """Yield that a run failed, unless its jobs or checks say so or Dagster repeats it."""
    current = instance.get_run_by_id(run.run_id) or run
    if current.tags.get(WILL_RETRY_TAG) == "true":
        return
    errors: dict[str, str] = {}
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE):
        event = entry.get_dagster_event()
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None and error.cls_name in TOLD_OTHERWISE:
            return
        errors[event.step_key or ""] = error.message.strip() if error else "no error was kept"
    step_key = next(iter(errors), "")
    recipe, _, asset = step_key.partition("__")
    yield alert(
        "run_failed",
        recipe=recipe or run.tags.get("recipe") or run.job_name,
        asset=asset or "no asset's step",
        partition=run.tags.get("dagster/partition"),
        run=run.run_id,
        step=None,
        seen="\n".join(errors.values()) or message or "it says nothing",
        look=f"the run {run.run_id} in Dagster's UI",
        time=time,
    )


def _names(key: dg.AssetKey) -> tuple[str, str]:
    """Return recipe and asset."""
    return key.path[0], "/".join(key.path[1:])
