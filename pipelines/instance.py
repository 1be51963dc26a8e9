"""The Dagster instance that belongs to a root of results."""

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Generator
from pathlib import Path

import dagster as dg
import sqlalchemy.exc
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from assets.execution.step import HOST_TAG, PID_TAG, own_process
from assets.paths import CHECKOUT, dagster_home, root
from olmo_core.errors import StorageError
from olmo_core.run.folder import locked
from olmo_core.run.process import start_ticks

# The code location of workspace.yaml, and what Dagster calls the definitions in it.
LOCATION, REPOSITORY = "pipelines.definitions", "__repository__"
# A full disk refuses writes otherwise; /proc has no free space and is not full.
REFUSALS = (errno.EACCES, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS)
LEAST_FREE_BYTES = 32 << 20  # under which a run is not begun, and is taken to have filled the disk


def use_dagster_home() -> Path:
    """Make sure that DAGSTER_HOME is set, exists and holds our configuration; return it."""
    home = dagster_home()
    home.mkdir(parents=True, exist_ok=True)
    configuration = home / "dagster.yaml"
    if configuration.is_symlink() and not configuration.exists():
        configuration.unlink(missing_ok=True)  # of a checkout that has moved
    with contextlib.suppress(FileExistsError):
        configuration.symlink_to(CHECKOUT / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextlib.contextmanager
def storage_errors() -> Generator[None]:
    """Say in one line that the disk of the results is full or cannot be written.

    Dagster's database lies on the same disk and is often the first to notice.

    Raises:
        StorageError: in place of what Dagster, SQLite or the system raised.
    """
    try:
        yield
    except (OSError, sqlalchemy.exc.OperationalError) as error:
        if isinstance(error, OSError) and error.errno in REFUSALS:
            raise StorageError(
                f"{root()}: results cannot be written there ({error.strerror}); "
                "set OLMO_ROOT to a folder that can"
            ) from None
        folder = root()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < LEAST_FREE_BYTES:
            raise StorageError(
                f"{root()}: the disk is full ({free / 2**20:.1f} MiB free, at least "
                f"{LEAST_FREE_BYTES / 2**20:.0f} MiB are needed); free some space and run again: "
                "what is finished is kept"
            ) from None
        raise


@contextlib.contextmanager
def open_instance() -> Generator[dg.DagsterInstance]:
    """Open the instance of DAGSTER_HOME; of several first processes, one makes its databases."""
    home = use_dagster_home()
    if shutil.disk_usage(home).free < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(home))
    with contextlib.ExitStack() as stack:
        # Storages are opened, and their tables made, at the first look into each.
        with locked(home / "open.lock"):
            instance = stack.enter_context(dg.DagsterInstance.get())
            instance.get_runs(limit=1)
            instance.get_latest_materialization_event(dg.AssetKey("none"))
            instance.all_instigator_state()
        yield instance


def own_tags() -> dict[str, str]:
    """Return tags by which a run of this process is known, and shown at its job in the UI.

    A daemon that looks on does not start it again: it is a person's, who sees that it ended.
    """
    label = f"{REPOSITORY}@{LOCATION}"
    return {**own_process(), ".dagster/repository": label, "dagster/max_retries": "0"}


def show_on_timeline(instance: dg.DagsterInstance, run_id: str) -> None:
    """Give a run of this process the place of its job, without which the timeline leaves it out.

    Dagster gives it to what its own server or daemon launches, and by this call to runs that are
    moved (`dagster run migrate-repository`).
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.remote_job_origin is not None:
        return
    target = LoadableTargetOrigin(module_name=LOCATION, working_directory=str(CHECKOUT))
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name=LOCATION)
    repository = RemoteRepositoryOrigin(location, REPOSITORY)
    instance.run_storage.replace_job_origin(run, repository.get_job_origin(run.job_name))


def close_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process on this machine is gone; their jobs go on regardless."""
    orphans = orphaned_runs(instance)
    for run in orphans:
        number = run.tags[PID_TAG].partition(" ")[0]
        instance.report_run_failed(run, f"process {number}, which ran this, is gone")
    return [run.run_id for run in orphans]


def orphaned_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return runs that are taken to be at work, but whose process on this machine is gone."""
    found: list[dg.DagsterRun] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        pid = run.tags.get(PID_TAG)
        if pid is None or run.tags.get(HOST_TAG) != socket.gethostname():
            continue
        number, _, began = pid.partition(" ")
        if str(start_ticks(int(number))) != began:
            found.append(run)
    return found
