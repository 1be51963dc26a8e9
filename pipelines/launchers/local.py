"""The local engine: jobs as processes of this machine that outlive whoever started them."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from assets.launcher import JobState, Launch
from assets.paths import CHECKOUT
from olmo_core import environment
from olmo_core.run.folder import RunFolder, locked
from olmo_core.run.process import start_ticks
from olmo_core.supervisor.members import members
from pipelines.launchers.one_by_one import OneByOne
from pipelines.launchers.submission import LauncherClosed, claim, record_after, record_before
from pipelines.site.file import ResourceSpec, Site

CANCEL_PATIENCE_SECONDS = 8.0  # then SIGKILL: a cancelled job is gone within ten seconds

# Signals that a parent may have ignored (nohup, a background shell) and that a job must feel.
RESET_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(kw_only=True)
class LocalLauncher(OneByOne):
    """Runs each job in a session of its own, its output in the run folder.

    The cores that this process may use, or that the site gives the work, are shared by the ranks
    of a distributed job, which runs under a supervisor; others are short, and begun anew by whoever
    wants them.
    """

    site: Site = field(default_factory=Site)
    _closed: bool = field(default=False, repr=False)
    _children: dict[Path, "subprocess.Popen[bytes]"] = field(default_factory=dict, repr=False)

    def submit(self, launch: Launch) -> bool:
        """Start the job unless it is finished or at work; True if this call started it."""
        folder = launch.folder
        folder.path.mkdir(parents=True, exist_ok=True)
        # The lock covers looking and starting: of two submitters, the second sees the first's job.
        with locked(folder.path / "submit.lock"):
            if folder.finished or self.state(folder).alive:
                return False
            if self._closed:
                raise LauncherClosed(f"{folder.path}: not started, since the run was cancelled")
            self._start(launch)
            return True

    def close(self) -> None:
        """Start no further job; those at work go on."""
        self._closed = True

    def queues(self, launch: Launch) -> bool:
        """Never: what is submitted starts at once."""
        return False

    def state(self, folder: RunFolder) -> JobState:
        """Whether the job's process lives or, failing that, some process holds its lock."""
        child = self._children.get(folder.path)
        if child is not None and child.poll() is None:
            return JobState(alive=True, description=f"process {child.pid}")
        launch = folder.read(folder.launch) or {}
        process = _process(launch)
        if process is not None:
            return JobState(alive=True, description=f"process {process.pid}")
        if folder.is_running():  # its supervisor was killed and it lives on
            return JobState(alive=True, description="without its supervisor")
        return JobState(alive=False, exit_code=None if child is None else child.returncode)

    def cancel(self, folder: RunFolder) -> None:
        """Ask the job to reach a safe point, then end every process of it."""
        folder.cancel.touch()
        found = self._members(folder)
        for member in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(found, timeout=CANCEL_PATIENCE_SECONDS)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(alive, timeout=1)

    def _members(self, folder: RunFolder) -> list[psutil.Process]:
        """The job's processes: of its launch and status, and whoever was given its folder."""
        found: dict[int, psutil.Process] = {}
        for pid in members(folder.path):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[pid] = psutil.Process(pid)
        for record in (folder.read(folder.launch) or {}, folder.read_status() or {}):
            process = _process(record)
            if process is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    for member in [process, *process.children(recursive=True)]:
                        found[member.pid] = member
        return list(found.values())

    def _start(self, launch: Launch) -> None:
        made = claim(launch.folder)
        work = self.site.work_of(launch)
        ranks = work.processes_per_node if launch.distributed else 1
        cores = work.cpus_per_node or len(os.sched_getaffinity(0))
        threads = max(1, cores // ranks)
        variables = {
            **_inherited_environment(),
            **launch.environment,
            environment.PROCESSES: str(cores),
            environment.SUBMITTED_AT: repr(time.time()),
            "OMP_NUM_THREADS": str(threads),
            # Threads that spin while they wait slow each other down fourfold on a busy machine.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            "PYTHONUNBUFFERED": "1",
            environment.RUN_FOLDER: str(launch.folder.path),
        }
        run = {
            "command": start_command(launch, ranks),
            "module": launch.module,
            "distributed": launch.distributed,
            "nodes": 1,
            "processes_per_node": ranks,
            "threads": threads,
            "stall_timeout_seconds": work.stall_timeout_minutes * 60,
            "max_failures": work.max_failures,
        }
        command = submit_command(launch) if launch.distributed else run["command"]
        record = record_before(
            launch, made, engine="local", command=command, threads=threads, run=run
        )
        child = self._spawn(command, variables, launch.folder.path / record["log"])
        self._children[launch.folder.path] = child
        record_after(
            launch,
            record,
            job_id=str(child.pid),
            pid=child.pid,
            start_ticks=start_ticks(child.pid),
        )

    def dry_run(self, launch: Launch, work: ResourceSpec) -> str:
        """The command that a submission would start."""
        ranks = work.processes_per_node
        command = submit_command(launch) if launch.distributed else start_command(launch, ranks)
        return shlex.join(command) + "\n"

    def _spawn(
        self, command: list[str], environment: dict[str, str], log: Path
    ) -> "subprocess.Popen[bytes]":
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a signal to the orchestrator's group is not for the job
                preexec_fn=_reset_signals,
            )


def submit_command(launch: Launch) -> list[str]:
    """What a submission starts: the supervisor, which reads launch.json."""
    return [sys.executable, "-m", "olmo_core.supervisor.supervise", str(launch.folder.path)]


def start_command(launch: Launch, ranks: int) -> list[str]:
    """What starts the whole job: the job itself, or the node runner where it has several ranks."""
    if launch.distributed and ranks > 1:
        return [sys.executable, "-m", "olmo_core.supervisor.node", str(launch.folder.path)]
    return [sys.executable, "-m", launch.module, str(launch.folder.config)]


def _reset_signals() -> None:
    for number in RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _inherited_environment() -> dict[str, str]:
    """The caller's environment without what would slow or confuse a job.

    PYTHONDONTWRITEBYTECODE makes every torch process compile its modules anew, tens of seconds.
    """
    drop = ("PYTHONDONTWRITEBYTECODE", "MASTER_ADDR", "MASTER_PORT")
    drop += environment.NOT_INHERITED
    drop += ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
    return {
        key: value
        for key, value in os.environ.items()
        if key not in drop and not key.startswith("TORCHELASTIC_")
    }


def _process(record: dict[str, Any]) -> psutil.Process | None:
    """The live process that a record names; its start guards against a reused pid."""
    if record.get("host") != socket.gethostname() or "pid" not in record:
        return None
    if start_ticks(int(record["pid"])) != record["start_ticks"]:
        return None
    try:
        process = psutil.Process(int(record["pid"]))
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None
