"""Hold a root's results where they are, while jobs that read them are chosen and recorded.

A launch chooses its inputs, and only then does its launch.json say so. In between nothing else says
that they are needed. So a launch holds the results from the one to the other, as many launches at
once as there are, and whoever takes results away waits until nobody does. The kernel releases the
lock when its holder dies. As the locks of launches it works across machines where the file system's
locks do: not on NFS mounted with `nolock` or `local_lock`.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path

from assets.launcher import Refused

LOCK = ".results.lock"  # below the root; no recipe's name begins with a dot
WAIT_SECONDS = 0.1


@contextlib.contextmanager
def results_held(root: Path) -> Generator[None]:
    """Keep the results of a root where they are; waits while some are being taken away.

    Where there is no root yet there are no results; where nothing can be written, no job can be
    started either, and what is finished is only reported.
    """
    try:
        descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def results_alone(root: Path, patience_seconds: float) -> Generator[None]:
    """Be the only one to use the results of a root: no launch begins meanwhile.

    Raises:
        Refused: launches, or another that takes results away, have not ended within the patience.
    """
    deadline = time.monotonic() + patience_seconds
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused(
                        f"{root / LOCK}: held for {patience_seconds:.0f} s by a launch that is not "
                        "over, or by another olmo gc; nothing was taken away; try again"
                    ) from None
            time.sleep(WAIT_SECONDS)
        yield
    finally:
        os.close(descriptor)
