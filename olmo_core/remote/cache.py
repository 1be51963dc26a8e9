"""Remote files kept on the disk: whole ones, always checked, and token files read in place.

Whole ones lie below the cache under the parts of their URLs. `<cache>/blocks/<digest of the URL>/`
holds what was read of a token file by ranges: `source.json` (URL, size, version) and one file per
block, `<number>.block`, or a few bytes that were asked for alone, `<start>-<count>.spot`. Both are
whole or not there, so any number of processes may share a cache. It grows until the disk is nearly
full; from then on what is not in it is read by the exact range. Nothing is thrown out: an epoch
reads each window once, so the oldest block is no less needed than the newest.
"""

import functools
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from olmo_core.errors import InputError, redacted
from olmo_core.files import atomic_path, read_json, sha256_file, write_atomic, write_json
from olmo_core.remote.address import address, mark
from olmo_core.remote.partial import lock_path, record_path
from olmo_core.remote.storage import RemoteFile, read_pieces, read_range, retried, stat
from olmo_core.run.folder import locked

log = logging.getLogger("olmo")

BLOCK_BYTES = 1 << 20  # takes about as long to come as a server takes to answer
KEPT_FREE_BYTES = 4 << 30  # of the disk, for checkpoints
KEPT_FREE = 0.05  # and at least this share of it


def fetch(url: str, cache: Path, sha256: str | None = None) -> Path:
    """Return a whole remote file as a local one, below `cache` under the parts of its URL.

    What is there is used after its size and SHA-256 have been compared with those recorded when it
    came, and with `sha256`; without `sha256` the server is asked whether it has another version.
    Several processes may ask at once: one fetches, the others wait.

    Raises:
        InputError: as `stat`; too little space; the content is not `sha256`, or changed while it
            was read.
    """
    target = cache_path(url, cache)
    with locked(lock_path(target)):
        kept = _kept(target)
        if kept is None or not _is_current(url, kept, sha256):
            write_json(record_path(target), {"url": address(url), **download(url, target, sha256)})
    return target


def download(url: str, target: Path, sha256: str | None) -> dict[str, Any]:
    """Bring a file; it takes its name only when whole and as expected.

    Returns what tells it from another version: its bytes, version and SHA-256.

    Raises:
        InputError: as `fetch`.
    """
    remote, free = stat(url), shutil.disk_usage(target.parent).free
    if free < remote.size:
        raise InputError(
            f"{url}: {remote.size / 1e6:.0f} MB, and {target.parent} has {free / 1e6:.0f} MB free"
        )
    log.info("fetching %s (%.1f MB) into %s", redacted(url), remote.size / 1e6, target)
    with atomic_path(target) as beside:
        if remote.ranges:
            digest = _write(beside, read_pieces(url, remote.size), remote.size)
        else:
            from olmo_core.remote.http import http_stream

            digest = retried(url, lambda: _write(beside, http_stream(url), remote.size))
        if sha256 is not None and digest != sha256:
            raise InputError(f"{url}: its SHA-256 is {digest}, not {sha256}")
        if sha256 is None and stat(url) != remote:
            raise InputError(f"{url}: changed while it was read; start again")
    return {"bytes": remote.size, "version": remote.version, "sha256": digest}


def cache_path(url: str, cache: Path) -> Path:
    """Return where `fetch` keeps a file; files of one remote folder lie in one local folder.

    Of a user and a query the name has a mark alone: other people see paths.
    """
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    names = [name for name in f"{host}{parts.path}".split("/") if name]
    if not names or ".." in names:
        raise InputError(f"{url}: not the address of a file")
    if parts.query:
        names[-1] += "@" + mark(parts.query)
    if user:
        names[-1] += "@" + mark(user)
    return cache.joinpath(parts.scheme, *(re.sub(r"[^\w.@%+=,-]", "_", name) for name in names))


def _kept(target: Path) -> dict[str, Any] | None:
    """Return what is known of a cached file, if it is still what came."""
    try:
        record: dict[str, Any] = read_json(record_path(target))
        if target.stat().st_size == record["bytes"] and sha256_file(target) == record["sha256"]:
            return record
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s: %s", record_path(target), error)
    log.warning("%s: not what was fetched; fetching it again", target)
    return None


def _is_current(url: str, kept: dict[str, Any], sha256: str | None) -> bool:
    if sha256 is not None:
        return kept["sha256"] == sha256
    try:
        remote = stat(url)
    except InputError as error:
        log.warning("%s; using what was fetched before", error)
        return True
    now = (remote.size, remote.version)
    return bool(remote.version) and now == (kept["bytes"], kept["version"])


def _write(path: Path, pieces: Iterator[bytes], size: int) -> str:
    digest, written = hashlib.sha256(), 0
    with path.open("wb") as handle:
        for piece in pieces:
            written += handle.write(piece)
            digest.update(piece)
    if written != size:
        raise OSError(f"{written} of {size} bytes came")
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A remote file, as it was at the first question."""

    url: str
    remote: RemoteFile
    folder: Path  # of its blocks
    whole: Path | None  # where its server answers no ranges


class RemoteFiles:
    """Reads bytes at any place of any number of remote files, from any thread.

    Args:
        cache: Where blocks are kept; made when needed.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._source = functools.cache(self._open)
        # One thread fetches a block; others that need it wait.
        self._locks = [threading.Lock() for _ in range(1024)]
        self._full = False

    def size(self, url: str) -> int:
        """Return the bytes of a remote file, as its server says at the first question.

        Raises:
            Missing: it is not there.
            InputError: the server does not answer, the cache cannot be written, or it holds
                blocks of another version of the file.
        """
        return self._source(url).remote.size

    def read_into(self, url: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the file's bytes from `offset` on.

        Raises:
            Changed: the file is not what it was at the first question.
            InputError: it ends before the buffer is full, or its server does not answer.
        """
        source = self._source(url)
        end = offset + len(buffer)
        if end > source.remote.size:
            raise InputError(f"{url}: ends at byte {source.remote.size}, expected {end}")
        if source.whole is not None:
            if not _read_whole(source.whole, source.remote.size, offset, buffer):
                raise InputError(f"{source.whole}: changed since it was fetched from {url}")
            return
        done = 0
        while done < len(buffer):
            number, start = divmod(offset + done, BLOCK_BYTES)
            stop = min(len(buffer), done + BLOCK_BYTES - start)
            first = number * BLOCK_BYTES
            last = min(first + BLOCK_BYTES, source.remote.size)
            self._read_part(source, f"{number}.block", first, last, start, buffer[done:stop])
            done = stop

    def read_spot(self, url: str, start: int, count: int) -> bytes:
        """Return `count` bytes from `start` on, fetched without the block around them.

        They are kept like a block. Raises as `read_into`.
        """
        source, spot = self._source(url), bytearray(count)
        if source.whole is not None:
            self.read_into(url, start, memoryview(spot))
        else:
            name = f"{start}-{count}.spot"
            self._read_part(source, name, start, start + count, 0, memoryview(spot))
        return bytes(spot)

    def _open(self, url: str) -> _Source:
        remote = stat(url)
        digest = hashlib.sha256(f"{BLOCK_BYTES} {url}".encode()).hexdigest()[:32]
        folder = self._cache / "blocks" / digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _pin(folder / "source.json", url, remote)
            whole = None if remote.ranges else fetch(url, self._cache)
        except OSError as error:
            raise InputError(f"{self._cache} (core.cache): {error}") from error
        return _Source(url=url, remote=remote, folder=folder, whole=whole)

    def _read_part(
        self, source: _Source, name: str, first: int, last: int, start: int, buffer: memoryview
    ) -> None:
        """Read from `start` on in one range, which is fetched and kept if it is not there yet."""
        path = source.folder / name
        if _read_whole(path, last - first, start, buffer):
            return
        if not self._has_room():
            place = first + start
            buffer[:] = read_range(source.url, place, place + len(buffer), of=source.remote)
            return
        with self._locks[hash(path) % len(self._locks)]:
            if not _read_whole(path, last - first, start, buffer):
                content = read_range(source.url, first, last, of=source.remote)
                buffer[:] = content[start : start + len(buffer)]
                try:
                    write_atomic(path, content)
                except OSError as error:  # the content is at hand: training need not end
                    self._stop_keeping(str(error))

    def _has_room(self) -> bool:
        if not self._full:
            disk = shutil.disk_usage(self._cache)
            if disk.free < max(KEPT_FREE_BYTES, KEPT_FREE * disk.total):
                self._stop_keeping(f"{disk.free / 1e9:.1f} GB of {disk.total / 1e9:.1f} are free")
        return not self._full

    def _stop_keeping(self, why: str) -> None:
        self._full = True
        log.warning("%s (core.cache): no more blocks are kept: %s", self._cache, why)


def _pin(path: Path, url: str, remote: RemoteFile) -> None:
    """Write down which version of a file the blocks are of; refuse another one than before."""
    now = {"url": address(url), "size": remote.size, "version": remote.version}
    try:
        before = read_json(path)
    except FileNotFoundError:
        write_json(path, now)
        return
    # Of this URL it is anyway: the folder's name is a digest of it.
    if any(before[key] != now[key] for key in ("size", "version")):
        raise InputError(
            f"{url}: not the file that was read before: it had {before['size']} bytes, version "
            f"{before['version']!r}; now {remote.size} bytes, version {remote.version!r}. To begin "
            f"anew with this one, delete {path.parent}"
        )


def _read_whole(path: Path, size: int, offset: int, buffer: memoryview) -> bool:
    """Fill `buffer` from a file of `size` bytes; False where there is none of that size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if os.fstat(descriptor).st_size != size:
            return False
        return os.preadv(descriptor, [buffer], offset) == len(buffer)
    finally:
        os.close(descriptor)
