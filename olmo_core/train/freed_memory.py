"""The C library keeps the memory that a step has freed, for the next step.

By default glibc gives every large block back to the kernel when it is freed. A step frees and takes
again the same gigabytes, and the first touch of each page costs more than the arithmetic on it.
"""

import ctypes
import platform

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Freed memory stays with this process; does nothing where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap too
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # which never shrinks
    libc.mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)
