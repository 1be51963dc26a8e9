"""The tasks of a job: done once each, wherever the job's processes are.

A task writes one output. A marker (`olmo_core.run.marker`) says that it is whole, and a restarted
job skips the task. So a task may be begun several times, even at once; it is finished once.
"""

import contextlib
import functools
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core import environment
from olmo_core.errors import ConfigError
from olmo_core.files import fsync, fsync_tree
from olmo_core.run.job import Job
from olmo_core.run.marker import marker_path, read_marker, write_marker
from olmo_core.run.process import die_with_parent

log = logging.getLogger("olmo")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of a job's work, independent of the others."""

    name: str  # among the job's tasks
    reads: str  # the digest of its input, or facts that stand for it
    output: Path  # file or folder in the run folder that it makes
    # Takes the path to write the output to; returns facts that JSON can hold. Pickled, so a
    # partial of a module's own function; the same arguments must give the same bytes.
    call: Callable[[Path], Any]


def map_tasks(tasks: Sequence[Task], job: Job, *, unit: str) -> list[Any]:
    """Do the tasks that are not marked as finished; return the results of all, in their order.

    The job's progress is the number of tasks that are finished.

    Args:
        tasks: Each with a key and an output of its own.
        job: The run folder, and the processes.
        unit: What the progress counts.

    Raises:
        Exception: the first that a task raises. Tasks at work end with the job.
        Stopped: the job was asked to stop. Tasks at work end with it.
    """
    results: dict[int, Any] = {}

    def finish(number: int, result: Any) -> None:
        results[number] = result
        job.progress(len(results), len(tasks), unit=unit, message=tasks[number].name)

    left: dict[int, Callable[[], Any]] = {}
    for number, task in enumerate(tasks):
        marker = marker_path(job.markers, task.name, task.reads)
        found = read_marker(marker, job.folder)
        if found is None:
            left[number] = functools.partial(_run, task, job.folder, marker)
        else:
            results[number] = found[1]
    job.counts(len(results), len(tasks), unit=unit)
    if results:
        log.info("%d of %d tasks were finished by an earlier attempt", len(results), len(tasks))
    shared = job.workers > 0 or environment.dask_address() is not None
    if not shared and (job.processes == 1 or len(left) <= 1):
        for number, run in left.items():
            finish(number, run())
    else:
        executor = _executor(job, shared=shared)
        futures = {executor.submit(run): number for number, run in left.items()}
        for future in as_completed(futures):
            finish(futures[future], future.result())
    return [results[number] for number in range(len(tasks))]


def forked_processes() -> contextlib.AbstractContextManager[Executor | None]:
    """Return a pool of a job that is about to begin; none where one process or many nodes work.

    Its processes are forked now, with all that the job's module has imported: they begin at once,
    and import nothing again.

    Raises:
        RuntimeError: there are threads, one of which may hold a lock that no copy would give back.
    """
    processes = environment.processes()
    if processes == 1 or environment.workers() or environment.dask_address() is not None:
        return contextlib.nullcontext()
    if threading.active_count() > 1:
        raise RuntimeError(f"threads before the fork: {threading.enumerate()}")
    return process_pool(processes, start="fork")


@contextlib.contextmanager
def process_pool(processes: int, *, start: str = "spawn") -> Generator[Executor]:
    """Yield an executor of processes that end with this one; an error ends them at their work.

    Args:
        processes: How many.
        start: `spawn`, since the heartbeat's thread must not be forked in the middle of a write;
            `fork` where there is no other thread yet.
    """
    with ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context(start),
        initializer=_begin,
        initargs=(os.getpid(),),
    ) as pool:
        try:
            if start == "fork":
                pool.submit(os.getpid)  # has it fork all, and only then begin threads of its own
            # The kernel's signal comes when the thread that started a process ends: this one.
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            pool.shutdown(cancel_futures=True)
            raise


def _begin(parent: int) -> None:
    """Prepare a process: it ends with its parent, and only the parent hears of a Ctrl-C."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _executor(job: Job, *, shared: bool) -> Executor:
    """Return the executor of a job's processes, which is kept until its end for tasks to come.

    Raises:
        ConfigError: Dask, which many nodes need, is not installed.
    """
    if job.executor is None:
        pool = _of_many_nodes(job) if shared else process_pool(job.processes)
        job.executor = job.at_end.enter_context(pool)
    return job.executor


def _of_many_nodes(job: Job) -> contextlib.AbstractContextManager[Executor]:
    try:
        from olmo_core.tasks.cluster import shared_executor
    except ImportError as error:
        raise ConfigError(
            f"workers: {error.name} is not installed; pip install 'olmo-pipelines[dask]'"
        ) from None
    return shared_executor(job)


def _run(task: Task, folder: Path, marker: Path) -> Any:
    """Do a task of a run folder, unless it is marked; return its result as the marker holds it."""
    found = read_marker(marker, folder)
    if found is not None:  # by a process that was then lost
        return found[1]
    began = time.monotonic()
    beside = folder / "work" / "partial" / uuid.uuid4().hex
    beside.parent.mkdir(parents=True, exist_ok=True)
    result = json.dumps(task.call(beside))
    fsync_tree(beside)
    task.output.parent.mkdir(parents=True, exist_ok=True)
    if task.output.is_dir():  # from the same task, of a process that was lost before it marked it
        task.output.rename(beside.with_name(f"{beside.name}.before"))
    os.replace(beside, task.output)
    fsync(task.output.parent)
    write_marker(marker, folder, task.output, result)
    log.info("%s: %.1f s", task.name, time.monotonic() - began)
    return json.loads(result)
