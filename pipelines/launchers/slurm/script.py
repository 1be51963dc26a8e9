"""What Slurm is given of a job: the batch script, the arguments of sbatch, the step's command.

Options go to sbatch as arguments, values of variables through its environment, and what stands in
the script is quoted: nothing that a recipe, a site file or a path says is ever read by a shell.
"""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core import environment
from olmo_core.errors import ConfigError
from pipelines.site.file import ResourceSpec, SlurmSite

# Of the submitter's variables a job gets these and those that the site file names, no others.
PASSED = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
PASSED_TO_CLIENTS = (*PASSED, "SLURM_CONF")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A job, or an array of jobs of one shape."""

    site: SlurmSite
    work: ResourceSpec
    launches: Sequence[Launch]
    name: str
    log: Path  # of an array: a folder with a log for each task

    @property
    def first(self) -> Launch:
        return self.launches[0]

    @property
    def is_array(self) -> bool:
        """Whether there are several jobs."""
        return len(self.launches) > 1

    @property
    def workers(self) -> int:
        """Further nodes that do tasks of the one job, which then is task 0 of an array."""
        return workers_of(self.work, self.first)

    @property
    def last_task(self) -> int:
        """The number of the last task, from 0."""
        return len(self.launches) - 1 + self.workers


def workers_of(work: ResourceSpec, launch: Launch) -> int:
    """How many workers a job is given."""
    return work.workers if launch.shares_tasks else 0


def sbatch_arguments(batch: Batch, script: Path) -> list[str]:
    """The command that queues the job."""
    site, work = batch.site, batch.work
    options: dict[str, object] = {
        "job-name": batch.name,
        "partition": work.partition or site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "reservation": site.reservation,
        "nodes": work.nodes if batch.first.distributed else 1,
        "ntasks-per-node": 1,
        "cpus-per-task": work.cpus_per_node,
        "gpus-per-node": work.devices_per_node or None,
        "mem": f"{work.memory_gib_per_node}G" if work.memory_gib_per_node else None,
        "time": work.time_limit_minutes,
        # To the batch shell, which is the supervisor: it asks the ranks for a checkpoint.
        "signal": f"B:USR1@{site.signal_seconds}",
        "open-mode": "append",  # a requeued job goes on in the same log
        "output": _output(batch),
        "array": f"0-{batch.last_task}" if batch.last_task else None,
        # All of the little that sbatch itself is given: not --export=NAMES, which fails on commas.
        "export": "ALL",
    }
    whole_node = batch.first.distributed and work.cpus_per_node is None
    return [
        "sbatch",
        "--parsable",
        "--requeue",
        *(["--exclusive"] if whole_node else []),
        *(f"--{name}={value}" for name, value in options.items() if value is not None),
        str(script),
    ]


def _output(batch: Batch) -> str:
    """The log's path as sbatch reads it: %j and the like are filled in, but not after a \\."""
    path = str(batch.log)
    if "\\" not in path:
        path = path.replace("%", "%%")
        if batch.workers:
            return f"{path.removesuffix('.log')}.worker%a.log"
        return path + ("/%a.log" if batch.is_array else "")
    if batch.last_task:
        raise ConfigError(f"{path}: Slurm cannot write an array's logs there, for the backslash")
    return path.replace("\\", "\\\\")


def batch_environment(site: SlurmSite) -> dict[str, str]:
    """What sbatch is given, and the job gets: values that may be in no file and no argument."""
    names = (*PASSED_TO_CLIENTS, *site.pass_environment)
    return {name: os.environ[name] for name in names if name in os.environ}


def script(batch: Batch) -> str:
    """The batch script: the environment, then the supervisor in the place of the shell."""
    site = batch.site
    variables = {
        **site.environment,
        **batch.first.environment,
        # Threads that spin while they wait slow each other down fourfold on a busy machine.
        "OMP_WAIT_POLICY": "PASSIVE",
        environment.SUBMITTED_AT: repr(time.time()),
    }
    ranks = batch.work.processes_per_node if batch.first.distributed else 1
    lines = [
        # `module` is a function that a login shell defines.
        "#!/bin/bash -l" if site.modules else "#!/bin/bash",
        "set -e",
        *(f"module load {shlex.quote(name)}" for name in site.modules),
        "unset PYTHONDONTWRITEBYTECODE",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        'export OLMO_PROCESSES="$SLURM_CPUS_ON_NODE"',
        f"threads=$((SLURM_CPUS_ON_NODE / {int(ranks)}))",
        'export OMP_NUM_THREADS="$((threads > 0 ? threads : 1))"',
        *_run_folder(batch),
        f"cd {shlex.quote(str(CHECKOUT))}",
        *_worker(batch),
        # exec: signals for the batch shell reach the supervisor, and its end is the job's.
        f'exec {shlex.quote(supervisor_python(site))} -m olmo_core.supervisor.supervise "$folder"',
    ]
    return "\n".join(lines) + "\n"


def _run_folder(batch: Batch) -> list[str]:
    if not batch.is_array:
        return [f"folder={shlex.quote(str(batch.first.folder.path))}"]
    folders = [f"  {shlex.quote(str(launch.folder.path))}" for launch in batch.launches]
    return ["folders=(", *folders, ")", 'folder="${folders[SLURM_ARRAY_TASK_ID]}"']


def _worker(batch: Batch) -> list[str]:
    """What tasks other than the first do in the place of the supervisor."""
    if not batch.workers:
        return []
    words = ["-m", "olmo_core.tasks.worker", str(batch.first.folder.path)]
    command = _step(batch.site, batch.work, [*_on_node(batch.site, batch.work), *words])
    return [
        f"export OLMO_WORKERS={int(batch.workers)}",
        'if [ "${SLURM_ARRAY_TASK_ID:-0}" != 0 ]; then',  # none: run by hand
        '  export OLMO_WORKER="$SLURM_ARRAY_TASK_ID"',
        f"  exec {shlex.join(command)}",
        "fi",
    ]


def run_facts(site: SlurmSite, work: ResourceSpec, launch: Launch) -> dict[str, Any]:
    """The part `run` of launch.json: what the supervisor starts, and how patient it is."""
    threads = None
    if work.cpus_per_node is not None:
        ranks = work.processes_per_node if launch.distributed else 1
        threads = max(1, work.cpus_per_node // ranks)
    return {
        "command": run_command(site, work, launch),
        "module": launch.module,
        "distributed": launch.distributed,
        "nodes": work.nodes if launch.distributed else 1,
        "processes_per_node": work.processes_per_node if launch.distributed else 1,
        "workers": workers_of(work, launch),
        "threads": threads,
        "stall_timeout_seconds": work.stall_timeout_minutes * 60,
        "max_failures": work.max_failures,
    }


def run_command(site: SlurmSite, work: ResourceSpec, launch: Launch) -> list[str]:
    """What the supervisor starts: one node runner per node, or the job itself."""
    if launch.distributed:
        job = ["-m", "olmo_core.supervisor.node", str(launch.folder.path)]
    else:
        job = ["-m", launch.module, str(launch.folder.config)]
    command = [*_on_node(site, work), *job]
    # A step of its own: when the job is preempted, Slurm asks steps at once, the batch shell last.
    if launch.distributed:
        return _srun(site, work.nodes, command)
    return _step(site, work, command)


def _on_node(site: SlurmSite, work: ResourceSpec) -> list[str]:
    """The Python that the work runs in."""
    return [*_apptainer(site, work), _rank_python(site)]


def _step(site: SlurmSite, work: ResourceSpec, command: Sequence[str]) -> list[str]:
    """The command of one process: itself, but where only srun can make its container."""
    return _srun(site, 1, command) if _pyxis(site) else list(command)


def _srun(site: SlurmSite, nodes: int, command: Sequence[str]) -> list[str]:
    return [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        "--cpu-bind=none",  # else a step's one task gets one core
        # Of ranks that fail the others learn by themselves: ended by srun, each would seem to have
        # been asked to stop. Those that do not learn are ended after a minute.
        "--kill-on-bad-exit=0",
        "--wait=60",
        "--mpi=none",
        "--export=ALL",
        *_pyxis(site),
        *command,
    ]


def supervisor_python(site: SlurmSite) -> str:
    """The node's own Python, also where the ranks run in a container: it calls srun."""
    return sys.executable if site.container else site.python or sys.executable


def _rank_python(site: SlurmSite) -> str:
    return site.python or ("python3" if site.container else sys.executable)


def _pyxis(site: SlurmSite) -> list[str]:
    if not site.container or site.container.endswith(".sif"):
        return []
    mounts = [f"--container-mounts={','.join(site.mounts)}"] if site.mounts else []
    workdir = f"--container-workdir={CHECKOUT}"
    return [f"--container-image={site.container}", *mounts, workdir]


def _apptainer(site: SlurmSite, work: ResourceSpec) -> list[str]:
    if not site.container or not site.container.endswith(".sif"):
        return []
    binds = [word for mount in site.mounts for word in ("--bind", mount)]
    devices = ["--nv"] if work.devices_per_node else []
    return ["apptainer", "exec", *devices, *binds, "--pwd", str(CHECKOUT), site.container]


def client_environment() -> dict[str, str]:
    """Of squeue, scancel and the like: without the options that variables can turn on."""
    return {name: os.environ[name] for name in PASSED_TO_CLIENTS if name in os.environ}


def quoted(command: Sequence[str]) -> str:
    """A command line that a person can type."""
    return shlex.join(command)
