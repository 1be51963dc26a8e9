"""The processes of a run on this machine: found by what they were given, whoever their parent is.

The supervisor gives every process that it starts the run folder and the attempt; whatever those
start inherits both. Free of psutil: the supervisor is to begin at once.
"""

import os
import signal
from pathlib import Path

from olmo_core.environment import ATTEMPT, RUN_FOLDER


def environment_of(pid: int) -> dict[str, str]:
    """What a process was started with; empty where there is none, or it is somebody else's."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or of another user
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in content.split(b"\0"))
    return {name: value for name, _, value in pairs if name}


def members(folder: Path, attempt: int | None = None) -> dict[int, dict[str, str]]:
    """The processes of a run, or of one attempt: pid -> environment."""
    found: dict[int, dict[str, str]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        given = environment_of(int(entry))
        if given.get(RUN_FOLDER) == str(folder) and attempt in (None, _number(given.get(ATTEMPT))):
            found[int(entry)] = given
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal those of the processes that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does (T: stopped, D: waits for a device); else ""."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def out_of_memory_kills() -> int:
    """How many processes of this one's control group the kernel has killed for want of memory."""
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


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
