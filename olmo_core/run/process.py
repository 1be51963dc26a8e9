"""A process: what it runs, what the kernel says of it, and that it ends with its parent."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


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
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


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
        import psutil  # takes 0.2 s, and who only reads definitions of jobs needs none

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
