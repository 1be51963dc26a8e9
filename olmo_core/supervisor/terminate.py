"""End every process of an attempt, having let it say where it stood."""

import contextlib
import signal
import subprocess
import time
from pathlib import Path

from olmo_core.supervisor.members import members, send, state_of

DUMP_SECONDS = 2.0  # for a stack a thread, into the rank's log
SRUN_SECONDS = 30.0  # for Slurm to end the processes on all nodes
GONE_SECONDS = 10.0

_STATES = {"T": "is stopped (SIGSTOP)", "D": "waits for a device"}


def hung_detail(folder: Path, attempt: int) -> str:
    """Which of the ranks on this node are seen not to run; empty if all do."""
    seen = [
        f"; rank {given['RANK']} (process {pid}) {_STATES[state_of(pid)]}"
        for pid, given in members(folder, attempt).items()
        if "RANK" in given and state_of(pid) in _STATES
    ]
    return "".join(sorted(seen))


def terminate(folder: Path, attempt: int, command: "subprocess.Popen[bytes]") -> None:
    """End the command and all that it has started; ranks that can write their stacks first.

    Returns once none is left on this node. On others srun ends them, or their node runner, which
    reads that the attempt has ended.
    """
    if command.poll() is None:
        given = members(folder, attempt)
        # Of one process alone, that one; the command of several starts others on its way.
        talking = [pid for pid in given if "RANK" in given[pid]] or (
            [] if is_srun(command) else [command.pid]
        )
        send(talking, signal.SIGABRT)
        _wait_until_gone(talking, DUMP_SECONDS)
    if command.poll() is None and is_srun(command):
        command.terminate()  # on which srun kills the ranks on all nodes
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(SRUN_SECONDS)
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline and (left := list(members(folder, attempt))):
        send(left, signal.SIGKILL)
        command.poll()  # a dead child is there until somebody asks
        _wait_until_gone(left, 0.2)


def is_srun(command: "subprocess.Popen[bytes]") -> bool:
    """Whether the command is Slurm's, whose tasks are no children of it."""
    words = command.args
    return isinstance(words, list) and Path(str(words[0])).name == "srun"


def _wait_until_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(state_of(pid) not in ("", "Z") for pid in pids):
        time.sleep(0.02)
