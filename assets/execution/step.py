"""A step of a Dagster run: what it makes, what it submits early, how it notices a cancel.

Steps of a run only wait for jobs, one after another; jobs that need nothing of each other are to
wait in an engine's queue together. So whatever has its inputs is submitted at once, and its own
step follows it when its turn comes.
"""

import collections
import contextlib
import itertools
import os
import socket
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import dagster as dg
from sqlalchemy.exc import DBAPIError

from assets.execution.hold import results_held
from assets.execution.produce import AssetBuild, Maker, launch_of, main_line_work, queues
from assets.execution.whole import shown_by
from assets.graph import Graph
from assets.launcher import EngineUnavailable, Launcher, Observer, Refused
from assets.paths import root
from assets.reuse import own_jobs
from olmo_core.run.folder import RunFolder
from olmo_core.run.process import start_ticks

LOOK_EVERY_SECONDS = 2.0  # at the run's status, and at results of jobs submitted early
PID_TAG, HOST_TAG = "olmo/pid", "olmo/host"


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What one run has submitted before the step that follows it."""

    begun: set[str] = field(default_factory=set[str])  # assets whose own step has come
    submitted: dict[str, RunFolder] = field(default_factory=dict[str, RunFolder])
    finished: set[str] = field(default_factory=set[str])  # of these, as of the last look


_ahead: dict[str, Ahead] = collections.defaultdict(Ahead)  # by run, as far as in this process


@dataclass(kw_only=True)
class AssetStep:
    """One step at work."""

    graph: Graph
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    launcher: Launcher
    observer: Observer
    force: bool  # make a new version although there is a finished one
    _next_look: float = field(default=0.0, repr=False)

    @property
    def asset_context(self) -> dg.AssetExecutionContext:
        """What Dagster gives a step that makes an asset; a check's is another."""
        assert isinstance(self.context, dg.AssetExecutionContext)
        return self.context

    @property
    def ahead(self) -> Ahead:
        """What this run has submitted before its step."""
        return _ahead[self.context.run.run_id]

    @property
    def maker(self) -> Maker:
        """What makes the work of this step."""
        return Maker(
            root=root(),
            launcher=self.launcher,
            observer=self.observer,
            force=self.force,
            submitted=self.ahead.submitted,
            meanwhile=self.meanwhile,
        )

    def meanwhile(self) -> None:
        """End a cancelled run; submit assets whose inputs are finished. Looks every two seconds.

        Raises:
            DagsterExecutionInterruptedError: as `end_if_cancelled`.
        """
        if self.end_if_cancelled():
            finished = {name for name, run in self.ahead.submitted.items() if run.finished}
            if not finished <= self.ahead.finished:
                self.ahead.finished.update(finished)
                self._submit_ahead()

    def end_if_cancelled(self) -> bool:
        """Look every two seconds whether the run goes on; returns whether this call has looked.

        Raises:
            DagsterExecutionInterruptedError: the run has been cancelled. Dagster's own message
                reaches a run only through the code server that started it, and servers restart.
        """
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + LOOK_EVERY_SECONDS
        with contextlib.suppress(DBAPIError):  # a database that restarts: the next look will do
            if self._cancelled():
                raise dg.DagsterExecutionInterruptedError
        return True

    @contextlib.contextmanager
    def at_work(
        self, name: str, works: Iterable[AssetBuild], others: Iterable[RunFolder] = ()
    ) -> Generator[None]:
        """Begin the step of an asset: tell which process runs it, submit what need not wait for it.

        Ends the jobs when the run is cancelled in Dagster, and lets them live when a worker dies:
        Dagster raises the same interrupt for both; only the status of the run tells them apart.
        `others` are folders of jobs that make no asset.
        """
        try:
            tags = own_process()
            if any(self.context.run.tags.get(key) != value for key, value in tags.items()):
                self.context.instance.add_run_tags(self.context.run.run_id, tags)
            self.ahead.begun.add(name)
            self._submit_ahead()
            yield
        except dg.DagsterExecutionInterruptedError:
            if self._cancelled():
                own = itertools.chain(*(own_jobs(work.parent, root()) for work in works))
                cancel_jobs(self.launcher, [*own, *others, *self.ahead.submitted.values()])
            raise

    def _cancelled(self) -> bool:
        record = self.context.instance.get_run_by_id(self.context.run.run_id)
        return record is not None and record.status == dg.DagsterRunStatus.CANCELING

    @property
    def forces(self) -> bool:
        """Whether this run makes anything anew although it is finished."""
        ops = cast(Mapping[str, Any], self.context.run.run_config.get("ops") or {})
        return any(entry.get("config", {}).get("force") for entry in ops.values())

    def makes(self, key: Sequence[str]) -> bool:
        """Return whether this run makes an asset; a retry makes the rest."""
        steps = self.context.run.step_keys_to_execute
        keys = self.context.job_def.asset_layer.executable_asset_keys
        return dg.AssetKey(key) in keys and (not steps or "__".join(key) in steps)

    def _submit_ahead(self) -> None:
        """Submit each asset that this run makes, that has its inputs and that can be queued.

        One that is refused is left to its own step, which says why.
        """
        if self.forces:
            return  # a forced asset is made anew by its own step, and what reads it comes after
        progress = shown_by(self.observer, self.end_if_cancelled)
        for name, node in self.graph.nodes.items():
            if name in self.ahead.begun or name in self.ahead.submitted or not self.makes(node.key):
                continue
            if not queues(node, self.launcher) or self.graph.finished(root(), name) is not None:
                continue
            if any(self.graph.finished(root(), entry) is None for entry in node.inputs):
                continue
            with contextlib.suppress(Refused, EngineUnavailable), results_held(root()):
                work = main_line_work(self.graph, name, root())
                launch = launch_of(work, root(), progress=progress)
                if self.launcher.submit([launch]):
                    self.ahead.submitted[name] = launch.folder
                    self.observer.started(name, launch.folder, "submitted")


def own_process() -> dict[str, str]:
    """Return tags of a run that name the process at work on it, also when it is gone."""
    return {
        PID_TAG: f"{os.getpid()} {start_ticks(os.getpid())}",
        HOST_TAG: socket.gethostname(),
    }


def cancel_jobs(launcher: Launcher, folders: Iterable[RunFolder]) -> None:
    """End what is at work in these folders, all at once."""
    each = {run.path: run for run in folders}.values()
    launcher.cancel([run for run in each if not run.finished])
