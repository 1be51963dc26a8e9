"""What launch.json says of how a job runs; supervisors, node runners and pods read it."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from olmo_core import environment
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """How a job runs: the command, its shape, and when it is given up."""

    engine: str
    log: str  # of the first node, relative to the run folder
    command: Sequence[str] = ()  # starts the whole job; in each of several pods its node's part
    module: str = ""  # of each rank
    nodes: int = 1
    processes_per_node: int = 1
    threads: int | None = None  # of each process
    distributed: bool = False
    stall_timeout_seconds: float | None = None
    max_failures: int = 3

    @property
    def slurm_job(self) -> str | None:
        """Return the number of the Slurm job that this process is of, if Slurm was to run it.

        Within somebody's allocation the local engine's jobs see a number that is not theirs.
        """
        return os.environ.get("SLURM_JOB_ID") if self.engine == "slurm" else None

    @property
    def in_pod(self) -> bool:
        """Return whether this is a pod: its controller starts it again if the exit code says so."""
        return self.engine == "kubernetes" and environment.job_id() is not None

    @property
    def in_jobset(self) -> bool:
        """Return whether it is one pod of several, which are only started again together."""
        return self.in_pod and self.nodes > 1

    @property
    def job_id(self) -> str:
        """Return the engine's name of the job; of an array's task `4711_17`, as in its queue."""
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        if self.slurm_job and array:
            return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        return self.slurm_job or environment.job_id() or str(os.getpid())


def read_launch_spec(folder: RunFolder, *required: str) -> LaunchSpec:
    """Return what launch.json says of the run.

    Raises:
        ConfigError: it is not there, or lacks a required key.
    """
    launch = folder.read(folder.launch) or {}
    run: Mapping[str, Any] = launch.get("run") or {}
    if missing := [key for key in required if not run.get(key)]:
        raise ConfigError(f"{folder.launch}: run: {', '.join(missing)} missing")
    known = {field.name: run[field.name] for field in fields(LaunchSpec) if field.name in run}
    engine, log = str(launch.get("engine", "local")), str(launch.get("log", ""))
    return LaunchSpec(**known, engine=engine, log=log)


def free_port() -> int:
    """Return a port of this machine that nobody has."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]
