"""Processes and signals of one node of a gang."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Generator, Mapping
from pathlib import Path

EXIT_STOPPED = 4  # a node's ranks have left at a safe point, and so do all others
EXIT_AGAIN = 75  # sysexits' EX_TEMPFAIL: another turn is wanted

TICK_SECONDS = 0.5
LAST_WORDS_SECONDS = 5.0  # for the others to say how their parts ended
PARTING_SECONDS = 30.0  # for what is left of a job that is over
LOG_SECONDS = 5.0  # for what was printed last

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def start(command: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """A child that feels the signals that this process waits for."""
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED),
    )


def asked(seconds: float) -> signal.Signals | None:
    """The signal that asks this process to end, if one comes; a child's end cuts the wait short."""
    received = signal.sigtimedwait(WATCHED, seconds)
    if received is None or received.si_signo == signal.SIGCHLD:
        return None
    return signal.Signals(received.si_signo)


def finish(child: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for a process to end by itself."""
    deadline = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < deadline:
        asked(TICK_SECONDS)


def exit_code(code: int) -> int:
    """As a shell would say it: a pod's exit code is never negative."""
    return code if code >= 0 else 128 - code


def say(message: str) -> None:
    """Tell the log."""
    print(f"{time.strftime('%H:%M:%S')} gang: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def logged(path: Path) -> Generator[None]:
    """Write what this process and its children print to a file as well."""
    shown = os.dup(1)
    readable, writable = os.pipe()
    for descriptor in (1, 2):
        os.dup2(writable, descriptor)
    os.close(writable)
    path.parent.mkdir(parents=True, exist_ok=True)
    copying = threading.Thread(target=_copy, args=(readable, shown, path), daemon=True)
    copying.start()
    try:
        yield
    except OSError:  # of a shared file system: the next pod may have more luck
        traceback.print_exc()
        raise SystemExit(EXIT_AGAIN) from None
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
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
