"""A job of twelve calls, for the tests of those who share them: `… sharing RUN_FOLDER/config.yaml`.

A call waits while a file beside the run folder says so: `hold.leader.3` holds the leader at its
call 3, `hold.worker.3` a worker; with `spin` instead of `hold` it computes meanwhile.
`began.<who>.<number>.<pid>` says that one has begun.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from olmo_core.errors import InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.calls import do_calls

CALLS = 12


@dataclass(frozen=True)
class Share:
    """What a call takes; of the job's own module, which is `__main__` there and nowhere else."""

    number: int
    out: Path
    bad: bool


def make(config: "Config", inputs: Mapping[str, Path], job: Job) -> Report:
    """Square numbers, and then add them up in one call each."""
    beside = job.folder.parent
    (beside / f"began.job.0.{os.getpid()}").touch()
    shares = [
        Share(number, job.folder / "squares" / str(number), bad=number == config.bad)
        for number in range(CALLS)
    ]
    counts: list[int] = []

    def on_done(count: int, latest: int) -> None:
        counts.append(count)
        job.progress(count, CALLS, unit="calls")

    squares = do_calls([partial(square, share, beside) for share in shares], job, on_done=on_done)
    assert counts == list(range(1, CALLS + 1))
    sums = do_calls([partial(add, squares)] * 2, job, on_done=lambda count, latest: None)
    return Report(numbers={"sum": sums[0]}, data={"squares": squares})


def square(share: Share, beside: Path) -> int:
    """Write and return a square."""
    who = "worker" if "OLMO_WORKER" in os.environ else "leader"
    share.out.parent.mkdir(parents=True, exist_ok=True)
    beside_out = share.out.parent / f"{share.number}.{os.getpid()}.partial"
    beside_out.touch()
    (beside / f"began.{who}.{share.number}.{os.getpid()}").touch()
    while (beside / f"hold.{who}.{share.number}").exists():
        time.sleep(0.005)
    while (beside / f"spin.{who}.{share.number}").exists():
        pass
    if share.bad:
        raise InputError(f"share {share.number}: bad, says the {who}")
    beside_out.write_text(str(share.number**2))
    beside_out.rename(share.out)
    return share.number**2


def add(numbers: list[int]) -> int:
    return sum(numbers)


@dataclass(frozen=True, kw_only=True)
class Config:
    bad: int = -1  # the call that raises


if __name__ == "__main__":
    run_job(Config, make)
