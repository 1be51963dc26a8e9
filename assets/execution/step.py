"""A step of a Dagster run beside the job that it follows: siblings submitted, a cancel noticed."""

import contextlib
import functools
import itertools
import os
import socket
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import dagster as dg
from sqlalchemy.exc import DBAPIError

from assets.execution.ahead import Ahead
from assets.graph import Graph
from assets.launcher import Launcher, Observer
from assets.paths import root
from assets.reuse import siblings, submitter
from olmo_core.run.folder import RunFolder
from olmo_core.run.process import start_ticks

LOOK_EVERY_SECONDS = 2.0  # of a run's status in the database, and of results of siblings
PID_TAG, HOST_TAG = "olmo/pid", "olmo/host"


@functools.cache
def ahead_of(run_id: str) -> Ahead:
    """What this process has submitted early for a run."""
    return Ahead()


@dataclass(kw_only=True)
class AssetStep:
    """One step at work."""

    graph: Graph
    context: dg.AssetExecutionContext
    launcher: Launcher
    observer: Observer
    _next_look: float = field(default=0.0, repr=False)

    @property
    def ahead(self) -> Ahead:
        """What this run has submitted before its step."""
        return ahead_of(self.context.run.run_id)

    def begin(self, name: str) -> None:
        """Leave word of which process runs this, and submit what need not wait for this step."""
        tags = own_process()
        if any(self.context.run.tags.get(key) != value for key, value in tags.items()):
            self.context.instance.add_run_tags(self.context.run.run_id, tags)
        self.ahead.begun.add(name)
        self._submit_ahead()

    def meanwhile(self) -> None:
        """Every two seconds: end with the run's cancellation, submit what has its inputs now.

        Raises:
            DagsterExecutionInterruptedError: as `end_if_cancelled`.
        """
        if self.end_if_cancelled() and self.ahead.new_result():
            self._submit_ahead()

    def end_if_cancelled(self) -> bool:
        """Every two seconds, look whether the run goes on; returns whether this call has looked.

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
    def cancelling(self, *parents: Path) -> Generator[None]:
        """End the jobs when the run is cancelled in Dagster; let them live when a worker dies.

        Dagster raises the same interrupt for both; only the status of the run tells them apart.
        """
        try:
            yield
        except dg.DagsterExecutionInterruptedError:
            if self._cancelled():
                own = itertools.chain(*(own_jobs(parent, root()) for parent in parents))
                cancel_jobs(self.launcher, [*own, *self.ahead.submitted.values()])
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
        """Whether this run makes an asset; a retry makes the rest."""
        steps = self.context.run.step_keys_to_execute
        keys = self.context.job_def.asset_layer.executable_asset_keys
        return dg.AssetKey(key) in keys and (not steps or "__".join(key) in steps)

    def _submit_ahead(self) -> None:
        if self.forces:
            return  # a forced asset is made anew by its own step, and what reads it comes after
        self.ahead.submit(
            self.graph,
            self._wanted(),
            root=root(),
            launcher=self.launcher,
            observer=self.observer,
            meanwhile=self.end_if_cancelled,
        )

    def _wanted(self) -> set[str]:
        """The assets of the recipe's main line that this run makes."""
        return {name for name, node in self.graph.nodes.items() if self.makes(node.key)}


def own_process() -> dict[str, str]:
    """Tags of a run that name the process at work on it, also when it is gone."""
    return {
        PID_TAG: f"{os.getpid()} {start_ticks(os.getpid())}",
        HOST_TAG: socket.gethostname(),
    }


def own_jobs(parent: Path, root: Path) -> list[RunFolder]:
    """The unfinished jobs of an asset that its own recipe has submitted, in whichever folder.

    `parent` is the recipe's folder of the asset. A job of another recipe that this one only
    follows is not among them.
    """
    recipe = parent.relative_to(root).parts[0]
    folders = [folder for folder in (parent, *siblings(parent, root)) if folder.is_dir()]
    runs = [RunFolder(path) for folder in folders for path in folder.iterdir() if path.is_dir()]
    return [run for run in runs if not run.finished and submitter(run) == recipe]


def cancel_jobs(launcher: Launcher, folders: Iterable[RunFolder]) -> None:
    """End what is at work in these folders, all at once."""
    each = {run.path: run for run in folders}.values()
    launcher.cancel([run for run in each if not run.finished])
