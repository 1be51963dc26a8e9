"""Files that lie elsewhere: look at one, read a part or all of it, list a folder, send one.

http(s) is `olmo_core.remote.http`; everything else is fsspec's, with the credentials that its back
ends find (https://filesystem-spec.readthedocs.io). Both are imported at the first question: they
take 0.1 s and 0.3 s, and most processes read no URL.
"""

import contextlib
import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from olmo_core.errors import InputError, redacted

log = logging.getLogger("olmo")

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # between the tries of one request
PIECE_BYTES = 64 << 20  # of a whole file: what a broken connection costs at most
_STREAM_BYTES = 16 << 20  # read at once where a back end has no stream
_VERSION_KEYS = ("ETag", "etag", "LastModified", "mtime", "updated", "md5Hash", "generation")

T = TypeVar("T")
Wait = Callable[[float], object]  # for so many seconds


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """What is known of a remote file without reading it.

    Attributes:
        size: In bytes.
        version: Changes when the file does, as far as its server tells (ETag, time); else "".
        ranges: Whether a part can be read alone.
    """

    size: int
    version: str
    ranges: bool = True


class Missing(InputError):
    """There is no such file, or none that we may know of."""


class Changed(InputError):
    """A file is no longer what it was when it was first looked at."""

    def __init__(self, url: str, before: RemoteFile, now: RemoteFile) -> None:
        was, is_now = (f"{file.size} bytes, version {file.version!r}" for file in (before, now))
        super().__init__(f"{url}: changed while in use: it was {was}; now it is {is_now}")


class Busy(OSError):
    """The server cannot answer now; it may have said how many seconds to wait."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def stat(url: str, *, wait: Wait | None = None) -> RemoteFile:
    """Return size and version of a remote file; `wait` as in `retried`.

    Raises:
        Missing: it is not there, or may not be read.
        InputError: its server does not answer, or not what is needed.
    """
    return retried(url, lambda: _stat(url), wait=wait)


def read_range(url: str, start: int, stop: int, *, of: RemoteFile | None = None) -> bytes:
    """Return bytes `start` to `stop` of a remote file, all of them.

    Raises:
        Changed: the file is no longer what `of`, an earlier `stat`, says.
        InputError: the file is missing or ends before `stop`, or the server does not answer ranges
            or keeps failing; short answers and temporary errors have been tried again.
    """
    return retried(url, lambda: _range(url, start, stop, of)) if start < stop else b""


def stream(url: str, start: int, *, of: RemoteFile) -> Iterator[tuple[int, bytes]]:
    """Yield a remote file from `start` to its end in pieces, each with its place; tries once.

    The first place is 0 where the server sends the whole file for a part of it.

    Raises:
        Changed: the file is no longer what `of`, an earlier `stat`, says.
        InputError: an answer that a repetition would not change.
        Exception: anything that may pass; see `pause_after`.
    """
    if _is_http(url):
        from olmo_core.remote.http import http_from

        yield from http_from(url, start, of=of)
        return
    for place in range(start, of.size, _STREAM_BYTES):
        yield place, _range(url, place, min(place + _STREAM_BYTES, of.size), of)


def read_pieces(url: str, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a remote file piece by piece; raises as `read_range`."""
    for start in range(0, size, PIECE_BYTES):
        yield read_range(url, start, min(start + PIECE_BYTES, size))


def read_file(url: str) -> bytes | None:
    """Return what is in a small file; None where there is none. Raises as `read_range`."""
    try:
        return read_range(url, 0, stat(url).size)
    except Missing:
        return None


def list_folder(url: str) -> list[str]:
    """Return the names in a remote folder, sorted; none where there is no such folder.

    Raises:
        InputError: http(s), which has no listing, or the listing fails.
    """
    if _is_http(url):
        raise InputError(
            f"{url}: folders cannot be listed over http(s); give the address of what is in it"
        )

    def names() -> list[str]:
        files, path = _file_system(url)
        try:
            entries: list[str] = files.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(entry.rstrip("/").rpartition("/")[2] for entry in entries)

    return retried(url, names)


def upload(path: Path, url: str, sha256: str) -> None:
    """Send a file, and read it back; one that is there already with this content stays.

    Raises:
        InputError: it cannot be sent, or is not `sha256` when it is read back.
    """

    def put() -> None:
        files, remote = _file_system(url)
        files.makedirs(remote.rpartition("/")[0], exist_ok=True)
        files.put_file(str(path), remote)

    size = path.stat().st_size
    if not _holds(url, size, sha256):
        retried(url, put)
        if not _holds(url, size, sha256):
            raise InputError(f"{url}: read back, it is not {size} bytes of SHA-256 {sha256}")


def remove(url: str) -> None:
    """Delete a file, if there is one.

    Raises:
        InputError: it cannot be deleted.
    """

    def act() -> None:
        files, remote = _file_system(url)
        with contextlib.suppress(FileNotFoundError):
            files.rm_file(remote)

    retried(url, act)


def _holds(url: str, size: int, sha256: str) -> bool:
    """Return whether a file with this content is there, which is read to know it."""
    try:
        if stat(url).size != size:
            return False
    except Missing:
        return False
    digest = hashlib.sha256()
    for piece in read_pieces(url, size):
        digest.update(piece)
    return digest.hexdigest() == sha256


def retried(url: str, act: Callable[[], T], *, wait: Wait | None = None) -> T:
    """Try until it works; errors that a repetition cannot mend end it at once.

    `wait` is called between two tries; by default it sleeps.
    """
    failures = 0
    while True:
        try:
            return act()
        except Exception as error:  # every back end of fsspec has its own
            failures += 1
            pause = pause_after(url, error, failures)
            time.sleep(pause) if wait is None else wait(pause)


def pause_after(url: str, error: Exception, failures: int) -> float:
    """Return how many seconds to wait before the next try: longer each time, and by chance.

    Chance keeps processes that failed together from coming back together. A server that says when
    to come back is not asked before.

    Args:
        url: What could not be read.
        error: Why.
        failures: How many there were in a row, this one included.

    Raises:
        Missing: it is not there, or may not be read.
        InputError: a repetition mends nothing, or there were too many.
    """
    if isinstance(error, InputError):
        raise error
    said = f"{url}: {type(error).__name__}: {error}"
    if isinstance(error, FileNotFoundError | PermissionError):
        raise Missing(said) from error
    if isinstance(error, ImportError | ValueError):
        raise InputError(said) from error
    if failures > len(PAUSES_SECONDS):
        raise InputError(f"{said} (tried {failures} times)") from error
    pause = PAUSES_SECONDS[failures - 1] * random.uniform(0.5, 1.0)
    if isinstance(error, Busy):
        pause = max(pause, error.retry_after)
    log.info("%s; again in %.1f s", redacted(f"{url}: {error}"), pause)
    return pause


def is_remote(place: str) -> bool:
    """Return whether `place` is to be read over http(s) or fsspec, rather than a local path."""
    return "://" in place


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _stat(url: str) -> RemoteFile:
    if _is_http(url):
        from olmo_core.remote.http import http_stat

        return http_stat(url)
    files, path = _file_system(url)
    info: dict[str, Any] = files.info(path)
    if info.get("size") is None or info.get("type") == "directory":
        raise InputError(f"{url}: not a file of known size")
    version = " ".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)
    return RemoteFile(size=int(info["size"]), version=version)


def _range(url: str, start: int, stop: int, of: RemoteFile | None) -> bytes:
    if _is_http(url):
        from olmo_core.remote.http import http_range

        content = http_range(url, start, stop, of=of)
    else:
        files, path = _file_system(url)
        content = files.cat_file(path, start=start, end=stop)
        if of is not None and (now := _stat(url)) != of:
            raise Changed(url, of, now)
    if len(content) != stop - start:
        raise OSError(f"{len(content)} bytes came of [{start}, {stop})")
    return content


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # pyright: ignore

    return cast(tuple[Any, str], url_to_fs(url))
