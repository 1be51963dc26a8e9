"""The local engine: jobs as processes of this machine that outlive whoever started them."""

import contextlib
import functools
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from assets.launcher import JobState, Launch
from assets.paths import CHECKOUT
from olmo_core import environment
from olmo_core.run.folder import RunFolder
from olmo_core.run.in_turn import EXIT_CODE, Turn
from olmo_core.run.process import members, send, start_ticks
from pipelines.launchers import in_turn, submission
from pipelines.launchers.in_turn import InTurn
from pipelines.site.file import Site

CANCEL_PATIENCE_SECONDS = 8.0  # then SIGKILL: a cancelled job is gone within ten seconds


@dataclass(kw_only=True)
class LocalLauncher:
    """Runs each job in a session of its own, its output in the run folder.

    The cores that this process may use, or that the site gives the work, are shared by the ranks
    of a distributed job, which runs under a supervisor; others are short, and begun anew by whoever
    wants them. Of those that come in turn one process runs one after another.
    """

    site: Site = field(default_factory=Site)
    _children: dict[Path, "subprocess.Popen[bytes]"] = field(default_factory=dict, repr=False)
    _in_turn: InTurn = field(default_factory=InTurn, repr=False)

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        """Start those jobs that are neither finished nor at work; returns them."""
        return [launch for launch in launches if self._submit(launch)]

    def dry_run(self, launch: Launch) -> str:
        """Return the command that a submission would start."""
        return shlex.join(_command(launch)) + "\n"

    def queues(self, launch: Launch) -> bool:
        """Return False: what is submitted starts at once."""
        return False

    def state(self, folder: RunFolder) -> JobState:
        """Return whether the job's process lives or, failing that, some process holds its lock."""
        child, launch = self._children.get(folder.path), submission.read_launch(folder)
        ended = EXIT_CODE in launch  # and the process that ran it may be at work elsewhere
        if child is not None and not ended and child.poll() is None:
            return JobState(alive=True, description=f"process {child.pid}")
        process = None if ended else _process(launch)
        if process is not None:
            return JobState(alive=True, description=f"process {process.pid}")
        if folder.is_running():  # its supervisor was killed and it lives on
            return JobState(alive=True, description="without its supervisor")
        code = None if child is None else child.returncode
        return JobState(alive=False, exit_code=launch.get(EXIT_CODE, code))

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        """Ask the jobs to reach a safe point, then end every process of them."""
        found: dict[int, psutil.Process] = {}
        for folder in folders:
            processes = _processes(folder)
            # The file alone reaches a job of which no process is seen: one on another node, say.
            if processes or self.state(folder).alive:
                folder.cancel.touch()
            found |= processes
        send([*found], signal.SIGTERM)
        _, alive = psutil.wait_procs([*found.values()], timeout=CANCEL_PATIENCE_SECONDS)
        send([process.pid for process in alive], signal.SIGKILL)
        psutil.wait_procs(alive, timeout=1)

    def _submit(self, launch: Launch) -> bool:
        with submission.lock(launch.folder):
            if launch.folder.finished or self.state(launch.folder).alive:
                return False
            self._start(launch)
            return True

    def _start(self, launch: Launch) -> None:
        work = self.site.work_of(launch)
        work = replace(work, cpus_per_node=work.cpus_per_node or len(os.sched_getaffinity(0)))
        command = _command(launch)
        record = submission.record_before(
            launch,
            work,
            submission.claim(launch.folder),
            energy=self.site.energy,
            engine="local",
            command=command,
            # A single rank needs no node runner.
            start=submission.node_command(launch, ranks=work.processes_per_node > 1),
        )
        variables = {
            **_inherited_environment(self.site),
            **launch.environment,
            environment.PROCESSES: str(work.cpus_per_node),
            "OMP_NUM_THREADS": str(record["run"]["threads"]),
            # Threads that spin while they wait slow each other down fourfold on a busy machine.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            "PYTHONUNBUFFERED": "1",
        }
        of_job = {
            environment.SUBMITTED_AT: repr(time.time()),
            environment.RUN_FOLDER: str(launch.folder.path),
        }
        log = launch.folder.path / record["log"]
        if launch.in_turn:
            start = functools.partial(_popen, variables=variables, log=log, stdin=subprocess.PIPE)
            child = self._in_turn.process(launch, variables, start)
        else:
            child = _popen(command, variables={**variables, **of_job}, log=log)
        self._children[launch.folder.path] = child
        process = {"pid": child.pid, "start_ticks": start_ticks(child.pid)}
        submission.record_after(launch, record, job_id=str(child.pid), **process)
        if launch.in_turn:  # by now its record names the process, which the job's end takes out
            turn = Turn(folder=str(launch.folder.path), log=record["log"], environment=of_job)
            in_turn.give(child, turn)


def _popen(
    command: list[str],
    *,
    variables: Mapping[str, str],
    log: Path,
    stdin: int = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, its output in a log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=variables,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a signal to the orchestrator's group is not for the job
            preexec_fn=_reset_signals,
        )


def _command(launch: Launch) -> list[str]:
    """Return what a submission starts: the supervisor of a distributed job, or the job itself."""
    if launch.distributed:
        return [sys.executable, "-m", "olmo_core.supervisor.supervise", str(launch.folder.path)]
    return submission.node_command(launch, ranks=False)


def _processes(folder: RunFolder) -> dict[int, psutil.Process]:
    """Return the job's processes: of its launch and status, and whoever was given its folder."""
    found: dict[int, psutil.Process] = {}
    for pid in members(folder.path):
        with contextlib.suppress(psutil.NoSuchProcess):
            found[pid] = psutil.Process(pid)
    launch = submission.read_launch(folder)
    if EXIT_CODE in launch:  # the process that ran it may be at work elsewhere
        return found
    for record in (launch, folder.read_status() or {}):
        if (process := _process(record)) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for member in [process, *process.children(recursive=True)]:
                    found[member.pid] = member
    return found


def _reset_signals() -> None:
    # A parent may have ignored them (nohup, a background shell), and a job must feel them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def _inherited_environment(site: Site) -> dict[str, str]:
    """Return the caller's environment without what would slow or confuse a job.

    PYTHONDONTWRITEBYTECODE makes every torch process compile its modules anew, tens of seconds. The
    address of a webhook is a secret that no job needs.
    """
    drop = {"PYTHONDONTWRITEBYTECODE", "MASTER_ADDR", "MASTER_PORT", *environment.NOT_INHERITED}
    drop |= {site.alerts.url_variable} if site.alerts else set()
    drop |= {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"}
    return {
        key: value
        for key, value in os.environ.items()
        if key not in drop and not key.startswith("TORCHELASTIC_")
    }


def _process(record: Mapping[str, Any]) -> psutil.Process | None:
    """Return the live process that a record names; its start guards against a reused pid."""
    if record.get("host") != socket.gethostname() or "pid" not in record:
        return None
    if start_ticks(int(record["pid"])) != record["start_ticks"]:
        return None
    try:
        process = psutil.Process(int(record["pid"]))
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None
