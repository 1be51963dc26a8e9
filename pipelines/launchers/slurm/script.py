"""What Slurm is given of a job: the batch script, the arguments of sbatch, the step's command.

Options go to sbatch as arguments, values of variables through its environment, and what stands in
the script is quoted: nothing that a recipe, a site file or a path says is ever read by a shell.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core import environment
from olmo_core.errors import ConfigError
from pipelines.launchers import submission
from pipelines.site.file import ResourceSpec, SlurmSite


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A job, or an array of jobs of one shape, as sbatch is given it."""

    site: SlurmSite
    work: ResourceSpec
    launches: Sequence[Launch]
    name: str
    path: Path  # of the script; the logs are written beside it

    @property
    def is_array(self) -> bool:
        """Whether there are several jobs."""
        return len(self.launches) > 1

    @property
    def last_task(self) -> int:
        """The number of the last task, from 0; a job with workers is task 0, and they follow."""
        return len(self.launches) - 1 + self.work.workers

    @property
    def command(self) -> list[str]:
        """The command that queues the job."""
        site, work = self.site, self.work
        distributed = self.launches[0].distributed
        options: dict[str, object] = {
            "job-name": self.name,
            "partition": work.partition or site.partition,
            "account": site.account,
            "qos": site.qos,
            "constraint": site.constraint,
            "reservation": site.reservation,
            "nodes": work.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": work.cpus_per_node,
            "gpus-per-node": work.devices_per_node or None,
            "mem": f"{work.memory_gib_per_node}G" if work.memory_gib_per_node else None,
            "time": work.time_limit_minutes,
            # To the batch shell, which is the supervisor: it asks the ranks for a checkpoint.
            "signal": f"B:USR1@{site.signal_seconds}",
            "open-mode": "append",  # a requeued job goes on in the same log
            "output": self._output,
            "array": f"0-{self.last_task}" if self.last_task else None,
            # All of the little that sbatch is given: not --export=NAMES, which fails on commas.
            "export": "ALL",
        }
        return [
            "sbatch",
            "--parsable",
            "--requeue",
            *(["--exclusive"] if distributed and work.cpus_per_node is None else []),
            *(f"--{name}={value}" for name, value in options.items() if value is not None),
            str(self.path),
        ]

    @property
    def _output(self) -> str:
        """The log's path as sbatch reads it: %j is filled in, but nothing after a backslash."""
        folder, name = str(self.path.parent), self.path.stem
        if "\\" in folder:
            if self.last_task:
                raise ConfigError(
                    f"{folder}: Slurm cannot write an array's logs there, for the backslash"
                )
            return f"{folder}/{name}.log".replace("\\", "\\\\")
        if self.last_task:
            name = "%a" if self.is_array else f"{name}.worker%a"
        return f"{folder.replace('%', '%%')}/{name}.log"

    @property
    def script(self) -> str:
        """The batch script: the environment, then the supervisor in the place of the shell."""
        site, first = self.site, self.launches[0]
        variables = {
            **site.environment,
            **first.environment,
            # Threads that spin while they wait slow each other down fourfold on a busy machine.
            "OMP_WAIT_POLICY": "PASSIVE",
            environment.SUBMITTED_AT: repr(time.time()),
        }
        # The node's own Python, also where the ranks run in a container: it calls srun.
        python = sys.executable if site.container else site.python or sys.executable
        lines = [
            # `module` is a function that a login shell defines.
            "#!/bin/bash -l" if site.modules else "#!/bin/bash",
            "set -e",
            *(f"module load {shlex.quote(name)}" for name in site.modules),
            "unset PYTHONDONTWRITEBYTECODE",
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            'export OLMO_PROCESSES="$SLURM_CPUS_ON_NODE"',
            f"threads=$((SLURM_CPUS_ON_NODE / {self.work.processes_per_node}))",
            'export OMP_NUM_THREADS="$((threads > 0 ? threads : 1))"',
            *self._choose_folder(),
            f"cd {shlex.quote(str(CHECKOUT))}",
            *self._begin_worker(),
            # exec: signals for the batch shell reach the supervisor, and its end is the job's.
            f'exec {shlex.quote(python)} -m olmo_core.supervisor.supervise "$folder"',
        ]
        return "\n".join(lines) + "\n"

    def _choose_folder(self) -> list[str]:
        paths = [shlex.quote(str(launch.folder.path)) for launch in self.launches]
        if not self.is_array:
            return [f"folder={paths[0]}"]
        folders = [f"  {path}" for path in paths]
        return ["folders=(", *folders, ")", 'folder="${folders[SLURM_ARRAY_TASK_ID]}"']

    def _begin_worker(self) -> list[str]:
        """Return what tasks other than the first do in the place of the supervisor."""
        if not self.work.workers:
            return []
        words = ["-m", "olmo_core.tasks.worker", str(self.launches[0].folder.path)]
        return [
            f"export OLMO_WORKERS={self.work.workers}",
            'if [ "${SLURM_ARRAY_TASK_ID:-0}" != 0 ]; then',  # none: run by hand
            '  export OLMO_WORKER="$SLURM_ARRAY_TASK_ID"',
            f"  exec {shlex.join(_step(self.site, self.work, [_rank_python(self.site), *words]))}",
            "fi",
        ]


def job_command(site: SlurmSite, work: ResourceSpec, launch: Launch) -> list[str]:
    """Return what the supervisor starts: one node runner per node, or the job itself."""
    command = submission.node_command(launch, _rank_python(site), ranks=launch.distributed)
    # A step of its own: when the job is preempted, Slurm asks steps at once, the batch shell last.
    return _step(site, work, command, on_all_nodes=launch.distributed)


def _rank_python(site: SlurmSite) -> str:
    return site.python or ("python3" if site.container else sys.executable)


def _step(
    site: SlurmSite, work: ResourceSpec, command: Sequence[str], *, on_all_nodes: bool = False
) -> list[str]:
    """Return a command as it is run in the site's container; only srun can make one of Pyxis'."""
    pyxis: list[str] = []
    if site.container and site.container.endswith(".sif"):
        binds = [word for mount in site.mounts for word in ("--bind", mount)]
        devices = ["--nv"] if work.devices_per_node else []
        where = ["--pwd", str(CHECKOUT), site.container]
        command = ["apptainer", "exec", *devices, *binds, *where, *command]
    elif site.container:
        mounts = [f"--container-mounts={','.join(site.mounts)}"] if site.mounts else []
        workdir = f"--container-workdir={CHECKOUT}"
        pyxis = [f"--container-image={site.container}", *mounts, workdir]
    if not pyxis and not on_all_nodes:
        return list(command)
    return [
        "srun",
        f"--nodes={work.nodes}",
        f"--ntasks={work.nodes}",
        "--ntasks-per-node=1",
        "--cpu-bind=none",  # else a step's one task gets one core
        # Of ranks that fail the others learn by themselves: ended by srun, each would seem to have
        # been asked to stop. Those that do not learn are ended after a minute.
        "--kill-on-bad-exit=0",
        "--wait=60",
        "--mpi=none",
        "--export=ALL",
        *pyxis,
        *command,
    ]
