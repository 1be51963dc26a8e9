"""Run in each pod of a job: `python -m olmo_core.supervisor.pod RUN_FOLDER`.

The first pod runs the supervisor. Each other one runs its node's part of the attempt that the first
has begun. Several pods make one attempt: when one of them fails, the controller (JobSet) starts all
anew. Whether it should, the first pod decides: the others wait for its word, and exit as it does.
"""

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path

from olmo_core import environment
from olmo_core.errors import REFUSALS, ExitCode, exit_codes
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder, folder_argument
from olmo_core.supervisor.launch_spec import LaunchSpec, read_launch_spec
from olmo_core.supervisor.supervise import ASKING, TICK_SECONDS, WATCHED, Supervisor, supervise

INDEX = "JOB_COMPLETION_INDEX"  # Kubernetes' number of a pod: which node of the job this is
EXIT_FILES = 74  # sysexits' EX_IOERR: a shared file system fails; the controller counts how often
VERDICT_SECONDS = 60.0  # for the first pod to say what a failure means
LOG_SECONDS = 5.0  # for what was printed last


def main(arguments: list[str] | None = None) -> None:
    """Run this pod's part of the job to its end."""
    folder = folder_argument(
        arguments,
        "Run one pod's part of the job of a run folder.",
        f"Which of the job's nodes this is: {INDEX}; else 0.",
    )
    # From here on they are waited for, never delivered: none can come at a wrong moment.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    with _exit_codes():
        rank, spec = int(os.environ.get(INDEX, "0")), read_launch_spec(folder, "command", "nodes")
        logs = [folder.path / spec.log]
        # Of this start of the pods: each makes its own, which tells the first one that it is there.
        logs += [
            logs[0].with_suffix(f".restart{environment.restart()}.node{node}.log")
            for node in range(1, spec.nodes)
        ]
        with _logged(logs[rank]), _exit_codes():
            raise SystemExit(_other(folder, spec) if rank else _first(folder, spec, logs))


def _first(folder: RunFolder, spec: LaunchSpec, logs: Sequence[Path]) -> int:
    """Supervise the job, unless its last word has been spoken and only this pod was lost after."""
    if failure := folder.read(folder.failure):
        return attempts.CAUSES[failure["cause"]].exit_code
    while not folder.finished and not all(log.exists() for log in logs):
        if _asked():
            return ExitCode.REQUEUE
    return supervise(folder, spec)


def _other(folder: RunFolder, spec: LaunchSpec) -> int:
    """Take part in the first pod's attempt, and leave it to that pod to say why it failed."""
    while (number := _begun(folder, spec)) is None:
        if folder.finished or _asked():
            return ExitCode.FINISHED if folder.finished else ExitCode.REQUEUE
    part = Supervisor(folder, spec).watch(number)
    if part.code == 0:
        return ExitCode.FINISHED
    deadline = time.monotonic() + VERDICT_SECONDS
    while (verdict := _verdict(folder, number)) is None:
        if part.asked or time.monotonic() > deadline or _asked():
            return ExitCode.REQUEUE
    return verdict


def _verdict(folder: RunFolder, number: int) -> int | None:
    """Return the exit code by which the first pod ends an attempt; None while it has not."""
    row = attempts.ended(folder).get(number)
    if row is None:
        return None
    final = attempts.CAUSES[row["cause"]].exit_code
    return final if row["next"] == "stop" else ExitCode.REQUEUE


def _begun(folder: RunFolder, spec: LaunchSpec) -> int | None:
    """Return the number of the attempt that the first of these very pods has begun."""
    own = (spec.job_id, environment.restart())
    begun = attempts.began(folder).items()
    return max((n for n, row in begun if (row["job_id"], row["restart"]) == own), default=None)


def _asked() -> bool:
    """Return whether this pod is asked to end; waits for it a moment."""
    return signal.sigtimedwait(ASKING, TICK_SECONDS) is not None


@contextlib.contextmanager
def _exit_codes() -> Generator[None]:
    """Turn errors into exit codes: those that any job has, and one that has the pods try again."""
    with exit_codes():
        try:
            yield
        except OSError as error:
            if error.errno in REFUSALS:
                raise
            traceback.print_exc()
            raise SystemExit(EXIT_FILES) from None


@contextlib.contextmanager
def _logged(path: Path) -> Generator[None]:
    """Write what this process and its children print to a file as well."""
    shown = os.dup(1)
    readable, writable = os.pipe()
    for descriptor in (1, 2):
        os.dup2(writable, descriptor)
    os.close(writable)
    path.touch()
    copying = threading.Thread(target=_copy, args=(readable, shown, path), daemon=True)
    copying.start()
    try:
        yield
    finally:
        for descriptor in (1, 2):
            os.dup2(shown, descriptor)
        copying.join(LOG_SECONDS)  # somebody who was left over may keep the pipe open


def _copy(readable: int, shown: int, path: Path) -> None:
    with path.open("ab", buffering=0) as log:
        while data := os.read(readable, 1 << 16):
            os.write(shown, data)
            with contextlib.suppress(OSError):  # a full disk must not stop the job's output
                log.write(data)


if __name__ == "__main__":
    main()
