"""Token files and label masks by name, local or remote: their sizes and their bytes."""

import functools
import io
import os
import resource
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, TypeVar

from olmo_core import environment
from olmo_core.errors import InputError
from olmo_core.remote.cache import RemoteFiles
from olmo_core.remote.storage import Missing, is_remote

REMOTE_THREADS = 32  # requests at one time: a server takes longer to answer than to send

T = TypeVar("T")


class Files:
    """Read bytes at any place of any number of files, from any thread.

    Args:
        cache: Where blocks of remote files are kept; None: `OLMO_CACHE`, then `~/.cache/olmo`.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        capacity = 4096 if soft == resource.RLIM_INFINITY else min(4096, max(16, soft // 4))
        self._open = functools.lru_cache(maxsize=capacity)(_File)

    def size(self, path: str) -> int:
        """Return the size of a file in bytes.

        Raises:
            Missing: it does not exist.
            InputError: it is not a file, or its server does not answer.
        """
        if is_remote(path):
            return self._remote.size(path)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise Missing(f"{path}: no such file") from None
        if not os.path.isfile(path):
            raise InputError(f"{path}: not a file")
        return status.st_size

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the file's bytes from `offset` on.

        Local files are read by `pread`, not through a memory map. A file that shrinks underneath is
        then an error with a name (a map would kill the process by SIGBUS), thousands of terabyte
        files take no address space, and the bytes are copied once either way.

        Raises:
            InputError: the file is gone, has changed (a remote one), or ends before the buffer is
                full.
        """
        if is_remote(path):
            self._remote.read_into(path, offset, buffer)
            return
        try:
            file = self._open(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file (there when it was opened)") from None
        done = 0
        while done < len(buffer):
            count = os.preadv(file.fileno(), [buffer[done:]], offset + done)
            if count == 0:
                raise InputError(
                    f"{path}: ends at byte {offset + done}, expected {offset + len(buffer)}: "
                    "truncated since it was opened"
                )
            done += count

    def read_spot(self, path: str, start: int, count: int) -> bytes:
        """Return `count` bytes from `start` on, from the end if it is negative.

        Of a remote file these alone are fetched.

        Raises:
            InputError: as `read_into`.
        """
        if start < 0:
            start += self.size(path)
        if is_remote(path):
            return self._remote.read_spot(path, start, count)
        spot = bytearray(count)
        self.read_into(path, start, memoryview(spot))
        return bytes(spot)

    def read_all(self, reads: Iterable[tuple[str, int, memoryview]]) -> None:
        """Do many `read_into`, concurrently if any is remote."""
        self._starmap(self.read_into, [*reads])

    def each(self, act: Callable[[str], T], paths: Iterable[str]) -> dict[str, T]:
        """Return `act(path)` of each distinct path, concurrently if any is remote."""
        paths = list(dict.fromkeys(paths))
        return dict(zip(paths, self._starmap(act, [(path,) for path in paths]), strict=True))

    def _starmap(self, act: Callable[..., T], arguments: Sequence[tuple[Any, ...]]) -> list[T]:
        """Act on each of the arguments, of which the first is a path."""
        if any(is_remote(path) for path, *_ in arguments):
            return self._threads.starmap(act, arguments, chunksize=1)
        return [act(*each) for each in arguments]

    @functools.cached_property
    def _remote(self) -> RemoteFiles:
        return RemoteFiles(environment.cache(self._cache))

    @functools.cached_property
    def _threads(self) -> ThreadPool:
        # Daemons: a server that does not answer does not keep a process from ending.
        return ThreadPool(REMOTE_THREADS)


class _File(io.FileIO):
    """A file that closes, without a ResourceWarning, once it is evicted and its reader drops it."""

    def __del__(self) -> None:
        self.close()
