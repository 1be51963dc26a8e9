"""A process pool that ends with its caller, whatever ends the caller."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Generator
from concurrent.futures import Executor, ProcessPoolExecutor

PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextlib.contextmanager
def process_pool(processes: int) -> Generator[Executor]:
    """Yield an executor of spawned processes; an error ends them in the middle of their work."""
    with ProcessPoolExecutor(
        processes,
        # Spawned: the heartbeat's thread must not be forked in the middle of a write.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=die_with_parent,
        initargs=(os.getpid(),),
    ) as pool:
        try:
            # The kernel's signal comes when the thread that started a process ends: this one.
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                process.kill()
            pool.shutdown(cancel_futures=True)
            raise


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, whatever ends it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)
