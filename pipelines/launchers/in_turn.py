"""The process of this machine that runs short jobs one after another, as the submitter sees it."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from assets.launcher import Launch
from olmo_core.run.in_turn import Turn

Start = Callable[[list[str]], "subprocess.Popen[bytes]"]


@dataclass(kw_only=True)
class InTurn:
    """At most one process, of the module and the environment of the job that came last."""

    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _runs: tuple[str, Mapping[str, str]] | None = field(default=None, repr=False)

    def process(
        self, launch: Launch, variables: Mapping[str, str], start: Start
    ) -> "subprocess.Popen[bytes]":
        """Return the process that takes the next job; `start` starts one where there is none."""
        runs = (launch.module, variables)
        if self._process is None or self._runs != runs or not _reads_on(self._process):
            self.close()
            self._process = start([sys.executable, "-m", "olmo_core.run.in_turn", launch.module])
            self._runs = runs
        return self._process

    def close(self) -> None:
        """Let the process end when its job is over."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process = None


def give(process: "subprocess.Popen[bytes]", turn: Turn) -> None:
    """Give a job to a process; of one that has just died the job's state tells."""
    _write(process, turn.line())


def _reads_on(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether a process lives and takes jobs: one that was stopped does no longer."""
    return process.poll() is None and _write(process, b"\n")


def _write(process: "subprocess.Popen[bytes]", line: bytes) -> bool:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return True
