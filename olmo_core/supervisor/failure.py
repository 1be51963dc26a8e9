"""What failed first: of all the ranks that ended with the one that did, and in which words.

Each node runner leaves `log/attempt{N}.node{K}.failure.json`; the supervisor reads them all, and
where it gives up it writes `failure.json`.
"""

import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from olmo_core.files import read_end, read_json, write_json
from olmo_core.run.attempts import CAUSES, Ended
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder

LAST_LINES = 20
_LOG_END_BYTES = 64 << 10  # of which the last lines are taken

# What ranks say that ended because another did.
_CONSEQUENCES = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "DistBackendError",
    "DistNetworkError",
    "DistStoreError",
)
_OUT_OF_MEMORY = ("OutOfMemoryError", "CUDA out of memory", "DefaultCPUAllocator: can't allocate")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How one process of a job failed."""

    rank: int | None = None
    node: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False  # the kernel killed in the control group, or torch said so
    message: str = ""  # what it said last
    log: str = ""  # its output, relative to the run folder
    time: float = 0.0


def exit_status(code: int) -> tuple[int | None, int | None]:
    """Return a process's end as (exit code, signal), from what `wait` or a shell says."""
    if code < 0:
        return None, -code
    if code > 128 and code - 128 in set(signal.Signals):
        return None, code - 128
    return code, None


def rank_log(attempt: int, rank: int) -> str:
    """Return where a rank's output goes, relative to the run folder."""
    return f"log/attempt{attempt}.rank{rank}.log"


def write_node(
    folder: RunFolder, attempt: int, node_rank: int, failures: Sequence[Failure]
) -> None:
    """Leave what failed on this node for the supervisor."""
    ranks = [asdict(failure) for failure in failures]
    content = {"schema_version": SCHEMA_VERSION, "attempt": attempt, "ranks": ranks}
    write_json(folder.log / f"attempt{attempt}.node{node_rank}.failure.json", content)


def read_nodes(folder: RunFolder, attempt: int) -> list[Failure]:
    """Return what the node runners of an attempt have left."""
    found: list[Failure] = []
    for path in sorted(folder.log.glob(f"attempt{attempt}.node*.failure.json")):
        found += [Failure(**rank) for rank in read_json(path)["ranks"]]
    return found


def first_failure(folder: RunFolder, attempt: int, code: int) -> Failure:
    """Return what failed first in an attempt whose command ended with `code`."""
    found = read_nodes(folder, attempt)
    if found:
        return by_cause(folder, found)[0]
    exit_code, number = exit_status(code)
    launch = folder.read(folder.launch) or {}
    return Failure(
        node=socket.gethostname(),
        exit_code=exit_code,
        signal=number,
        log=str(launch.get("log", "")),
        time=time.time(),
    )


def by_cause(folder: RunFolder, failures: Sequence[Failure]) -> list[Failure]:
    """Return failures, those first that no other explains, of these the earliest.

    Clocks of nodes differ, and a rank ends within moments of another's end: so what a process says
    counts before when it said it.
    """
    return sorted(failures, key=lambda each: (is_consequence(folder, each), each.time))


def says_oom(folder: RunFolder, failure: Failure) -> bool:
    """Return whether memory was what lacked, as the kernel or torch said."""
    return failure.out_of_memory or _says(folder, failure, _OUT_OF_MEMORY)


def is_consequence(folder: RunFolder, failure: Failure) -> bool:
    """Return whether a process seems to have ended because another had."""
    if failure.signal == signal.SIGTERM:
        return True  # the node runner ends what is left
    return failure.exit_code == 1 and _says(folder, failure, _CONSEQUENCES)


def _says(folder: RunFolder, failure: Failure, words: Sequence[str]) -> bool:
    said = "\n".join([failure.message, *last_lines(folder, failure.log)])
    return any(word in said for word in words)


def last_lines(folder: RunFolder, log: str) -> list[str]:
    """Return the end of a log, a path relative to the folder; empty where there is none."""
    if not log or not (folder.path / log).is_file():
        return []
    text = read_end(folder.path / log, _LOG_END_BYTES).decode(errors="replace")
    return text.splitlines()[-LAST_LINES:]


def sentence(ended: Ended, *, times: int = 1, detail: str = "") -> str:
    """Return one sentence: what, where, when, how often."""
    who = "the job" if ended.rank is None else f"rank {ended.rank}"
    if ended.node:
        who += f" on {ended.node}"
    what = CAUSES[ended.cause].words.format(
        signal=signal_name(ended.signal), exit_code=ended.exit_code
    )
    if ended.step is not None:
        what += f" at step {ended.step}"
    if detail:
        what += f": {detail}"
    if times > 1:
        since = f"step{ended.checkpoint_step}" if ended.checkpoint_step is not None else "the start"
        what += f"; failed {times} times since {since}"
    return f"{who} {what}"


def signal_name(number: int | None) -> str:
    """Return a signal as a person knows it: `signal 9 (SIGKILL)`."""
    known = {int(each): each.name for each in signal.Signals}
    return f"signal {number} ({known.get(number or 0, 'unknown')})"


def write_failure(
    folder: RunFolder, attempt: int, ended: Ended, failure: Failure, *, times: int, detail: str = ""
) -> None:
    """Write failure.json: all that a person needs to see why a run was given up."""
    launch = folder.read(folder.launch) or {}
    status = folder.read_status() or {}
    checkpoint, how = folder.last_checkpoint(), asdict(ended)
    # The failed process's own words: only the first rank's stand in status.json.
    first = failure.rank in (None, 0) and status.get("attempt") == attempt
    error = status.get("error") if first else None
    write_json(
        folder.failure,
        {
            "schema_version": SCHEMA_VERSION,
            "attempt": attempt,
            "time": time.time(),
            "cause": ended.cause,
            "summary": sentence(ended, times=times, detail=detail),
            "error": error or failure.message or None,
            **{key: how[key] for key in ("rank", "node", "exit_code", "signal", "step")},
            "attempts": attempt,
            "checkpoint": str(checkpoint) if checkpoint else None,
            "log": failure.log or None,
            "last_lines": last_lines(folder, failure.log),
            "command_line": launch.get("command_line"),
        },
    )
