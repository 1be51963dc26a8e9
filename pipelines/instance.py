"""The Dagster instance that belongs to a root of results."""

import contextlib
import os
import socket
from collections.abc import Generator
from pathlib import Path

import dagster as dg

from assets.paths import CHECKOUT, root
from olmo_core.run.folder import locked
from olmo_core.run.process import start_ticks

PID_TAG, HOST_TAG = "olmo/pid", "olmo/host"


def use_dagster_home() -> Path:
    """Make sure that DAGSTER_HOME is set and exists: the caller's, else `<root>/dagster`."""
    home = Path(os.environ.get("DAGSTER_HOME") or root() / "dagster")
    home.mkdir(parents=True, exist_ok=True)
    configuration = home / "dagster.yaml"
    if configuration.is_symlink() and not configuration.exists():
        configuration.unlink(missing_ok=True)  # of a checkout that has moved
    with contextlib.suppress(FileExistsError):
        configuration.symlink_to(CHECKOUT / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextlib.contextmanager
def open_instance() -> Generator[dg.DagsterInstance]:
    """The instance of DAGSTER_HOME; of several first processes, one makes its databases."""
    home = use_dagster_home()
    with contextlib.ExitStack() as stack:
        # Storages are opened, and their tables made, at the first look into each.
        with locked(home / "open.lock"):
            instance = stack.enter_context(dg.DagsterInstance.get())
            instance.get_runs(limit=1)
            instance.get_latest_materialization_event(dg.AssetKey("none"))
            instance.all_instigator_state()
        yield instance


def own_tags() -> dict[str, str]:
    """Tags by which a run of this process is known as such, and shown at its job in the UI."""
    return {
        PID_TAG: f"{os.getpid()} {start_ticks(os.getpid())}",
        HOST_TAG: socket.gethostname(),
        ".dagster/repository": "__repository__@pipelines.definitions",
    }


def close_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process on this machine is gone; their jobs go on regardless."""
    closed: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        pid = run.tags.get(PID_TAG)
        if pid is None or run.tags.get(HOST_TAG) != socket.gethostname():
            continue
        number, _, began = pid.partition(" ")
        if str(start_ticks(int(number))) != began:
            instance.report_run_failed(run, f"process {number}, which ran this, is gone")
            closed.append(run.run_id)
    return closed
