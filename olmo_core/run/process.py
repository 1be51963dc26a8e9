"""Processes: what one runs, what the kernel says of it, and that it ends with its parent.

And those of a run on this machine: found by what they were given, asked, watched, ended. The
supervisor gives every process that it starts the run folder and the attempt; whatever those start
inherits both.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from olmo_core.environment import ATTEMPT, RUN_FOLDER

PR_SET_PDEATHSIG = 1  # linux/prctl.h

DUMP_SECONDS = 2.0  # for a stack per thread, into the rank's log
SRUN_SECONDS = 30.0  # for Slurm to end the processes on all nodes
GONE_SECONDS = 10.0

_STATES = {"T": "is stopped (SIGSTOP)", "D": "waits for a device"}


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, whatever ends it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def main_module() -> str:
    """Return the name of the module that this process runs, as another process imports it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else "__main__"


def start_ticks(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None if there is none.

    With the pid it names a process for good, pids being used again; unlike a wall-clock time it is
    the same for every observer, whatever happens to the clock.
    """
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def _stat(pid: int) -> list[str]:
    """Return the kernel's words on a process, from its state on; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def own_peak_memory_bytes() -> int:
    """Return the most memory that this process has held (bytes), as the Linux kernel counted it.

    Not `ru_maxrss`, which a process inherits from the one that forked it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class TreeUsage:
    """What this process and all its descendants use, from look to look."""

    BUSY_CORES = 0.1  # the heartbeat itself uses a hundredth of that

    def __init__(self) -> None:
        # Takes 0.2 s: supervisors, and whoever only reads definitions of jobs, do not need it.
        import psutil

        self.process, self._gone = psutil.Process(), psutil.NoSuchProcess
        self._seconds, self._time = 0.0, time.monotonic()

    def look(self) -> tuple[int, bool]:
        """Return resident bytes (shared pages count in each), and whether they computed since."""
        total, seconds = 0, 0.0
        for member in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(self._gone):
                total += member.memory_info().rss
                seconds += sum(member.cpu_times()[:4])  # with the children that have ended
        now = time.monotonic()
        busy = seconds - self._seconds > self.BUSY_CORES * (now - self._time)
        self._seconds, self._time = seconds, now
        return total, busy


def members(folder: Path, attempt: int | None = None) -> dict[int, dict[str, str]]:
    """Return the processes of a run, or of one attempt, by pid with their environment."""
    wanted = {RUN_FOLDER: str(folder)} | ({} if attempt is None else {ATTEMPT: str(attempt)})
    found: dict[int, dict[str, str]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            content = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:  # gone, or of another user
            continue
        pairs = (each.decode(errors="replace").partition("=") for each in content.split(b"\0"))
        given = {name: value for name, _, value in pairs if name}
        if wanted.items() <= given.items():
            found[int(entry)] = given
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal those of the processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def state_of(pid: int) -> str:
    """Return the kernel's letter for what a process does (T: stopped); empty if it is gone."""
    with contextlib.suppress(OSError):
        return next(iter(_stat(pid)), "")
    return ""


def out_of_memory_kills() -> int:
    """Return how many processes of this control group the kernel has killed for want of memory."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    count = 0
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:  # version 2
            count += _oom_kills(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            folder = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            # In a container the path is the host's, and its own group is mounted as the root.
            for place in (folder, Path("/sys/fs/cgroup/memory")):
                if (place / "memory.oom_control").is_file():
                    count += _oom_kills(place / "memory.oom_control")
                    break
    return count


def _oom_kills(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # the root group has no such file
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def hung_detail(folder: Path, attempt: int) -> str:
    """Return which ranks on this node are seen not to run; empty if all do."""
    seen = [
        f"; rank {given['RANK']} (process {pid}) {state}"
        for pid, given in members(folder, attempt).items()
        if "RANK" in given and (state := _STATES.get(state_of(pid)))
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
    """Return whether the command is Slurm's, whose tasks are no children of it."""
    words = command.args
    return isinstance(words, list) and Path(str(words[0])).name == "srun"


def _wait_until_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(state_of(pid) not in ("", "Z") for pid in pids):
        time.sleep(0.02)
