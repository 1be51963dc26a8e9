"""A job of twelve tasks, for the tests of those who share them: `… sharing RUN_FOLDER/config.yaml`.

A task waits while a file beside the run folder says so: `hold.leader.3` holds the leader at its
task 3, `hold.worker.3` a worker; with `spin` instead of `hold` it computes meanwhile.
`began.<who>.<number>.<pid>.<nanoseconds>` says that one has begun.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from olmo_core.errors import InputError
from olmo_core.files import write_atomic
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

TASKS = 12


@dataclass(frozen=True)
class Share:
    """What a task takes; of the job's own module, which is run as `__main__`."""

    number: int
    bad: bool
    seconds: float


def make(config: "Config", inputs: Mapping[str, Path], job: Job) -> Report:
    """Square numbers, and then add them up in two tasks."""
    beside = job.folder.parent
    (beside / f"began.job.0.{os.getpid()}.0").touch()
    tasks = [
        Task(
            name=f"square {number}",
            reads="nothing",
            output=job.folder / "squares" / str(number),
            call=partial(square, Share(number, number == config.bad, config.seconds), beside),
        )
        for number in range(TASKS)
    ]
    squares = map_tasks(tasks, job, unit="tasks")
    tasks = [
        Task(
            name=f"add {number}",
            reads="squares",
            output=job.scratch / f"sum{number}",
            call=partial(add, squares),
        )
        for number in range(2)
    ]
    sums = map_tasks(tasks, job, unit="tasks")
    return Report(numbers={"sum": sums[0]}, data={"squares": squares})


def square(share: Share, beside: Path, out: Path) -> int:
    """Write and return a square."""
    who = "worker" if "OLMO_WORKER" in os.environ else "leader"
    (beside / f"began.{who}.{share.number}.{os.getpid()}.{time.time_ns()}").touch()
    while (beside / f"hold.{who}.{share.number}").exists():
        time.sleep(0.005)
    while (beside / f"spin.{who}.{share.number}").exists():
        pass
    time.sleep(share.seconds)
    if share.bad:
        raise InputError(f"share {share.number}: bad, says the {who}")
    write_atomic(out, str(share.number**2))
    return share.number**2


def add(numbers: list[int], out: Path) -> int:
    """Write and return a sum."""
    write_atomic(out, str(sum(numbers)))
    return sum(numbers)


@dataclass(frozen=True, kw_only=True)
class Config:
    bad: int = -1  # the task that raises
    seconds: float = 0.0  # of each task


if __name__ == "__main__":
    run_job(Config, make)
