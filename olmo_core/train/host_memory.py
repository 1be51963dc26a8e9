"""Memory of a training process between its steps: what is kept, and when garbage is collected."""

import contextlib
import ctypes
import gc
import platform
from collections.abc import Callable, Iterator

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees, for the next one; only glibc can.

    By default glibc gives every large block back to the kernel when it is freed. A step frees and
    takes again the same gigabytes, and the first touch of each page costs more than the arithmetic
    on it.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap too
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # which never shrinks
    libc.mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)


@contextlib.contextmanager
def collecting(interval: int | None) -> Iterator[Callable[[int], None]]:
    """Collect the younger generations every `interval` steps, and at no other time.

    So no rank pauses while the others wait for it.

    Args:
        interval: OLMo's `gen1_gc_interval`; None leaves it to Python.

    Yields:
        A function to call after each step, with the number of steps done.
    """

    def step_done(step: int) -> None:
        if interval is not None and step % interval == 0:
            gc.collect(1)

    was_enabled = gc.isenabled()
    if interval is not None:
        gc.disable()
    try:
        yield step_done
    finally:
        if was_enabled:
            gc.enable()
