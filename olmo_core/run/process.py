"""What the kernel knows of a process: when it began, and how much memory it holds."""

import contextlib
from pathlib import Path

import psutil


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if there is none.

    With the pid it names a process for good, pids being used again; unlike a wall-clock time it is
    the same for every observer, whatever happens to the clock.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


def own_peak_memory_bytes() -> int:
    """The most memory that this process has held, as the Linux kernel counted it.

    Not `ru_maxrss`, which a process inherits from the one that forked it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def tree_memory_bytes(process: psutil.Process) -> int:
    """Resident bytes of a process and all its descendants (shared pages counted in each)."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += member.memory_info().rss
    return total
