"""Calls in spawned processes: results in the order of the calls, no process outlives the caller.

Whatever ends the caller, SIGKILL too, its workers end with it: none writes into a later attempt.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_calls(
    calls: Sequence[Callable[[], T]], *, processes: int, on_done: Callable[[int, T], None]
) -> list[T]:
    """The results of the calls, in their order, from at most `processes` processes.

    Args:
        calls: What is run; calls and results are pickled.
        processes: Workers; with one, or for one call, this process does the work itself.
        on_done: Takes how many calls have ended and the result of the latest; may raise to stop.

    Raises:
        Exception: the first that a call or `on_done` raises; calls not begun are dropped.
    """
    if processes == 1 or len(calls) <= 1:
        results: list[T] = []
        for call in calls:
            results.append(call())
            on_done(len(results), results[-1])
        return results
    with ProcessPoolExecutor(
        min(processes, len(calls)),
        # Spawned: the heartbeat's thread must not be forked in the middle of a write.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=die_with_parent,
        initargs=(os.getpid(),),
    ) as pool:
        # The signal comes when the thread that started a worker ends: this one, which waits here.
        tasks = [pool.submit(call) for call in calls]
        try:
            for count, task in enumerate(as_completed(tasks), start=1):
                on_done(count, task.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [task.result() for task in tasks]


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, whatever ends it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)
