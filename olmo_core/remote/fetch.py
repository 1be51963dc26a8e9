"""Files that lie elsewhere: read in part, or fetched whole into a cache that is always checked.

http(s) is `olmo_core.remote.http`; everything else is fsspec's, with the credentials that its back
ends find (https://filesystem-spec.readthedocs.io).
"""

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from fsspec.core import url_to_fs  # pyright: ignore

from olmo_core import environment
from olmo_core.errors import InputError
from olmo_core.files import atomic_path, read_json, sha256_file, write_json
from olmo_core.remote.http import (
    Busy,
    Changed,
    Missing,
    RemoteFile,
    http_range,
    http_stat,
    http_stream,
)
from olmo_core.run.folder import locked

log = logging.getLogger("olmo")

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # between the tries of one request
PIECE_BYTES = 64 << 20  # of a whole file: what a broken connection costs at most
_VERSION_KEYS = ("ETag", "etag", "LastModified", "mtime", "updated", "md5Hash", "generation")

T = TypeVar("T")


def cache_folder(configured: Path | None) -> Path:
    """Where remote files are kept: `core.cache`, else `OLMO_CACHE`, else `~/.cache/olmo`."""
    return configured or environment.cache() or Path.home() / ".cache" / "olmo"


def stat(url: str) -> RemoteFile:
    """Size and version of a remote file.

    Raises:
        Missing: it is not there, or may not be read.
        InputError: its server does not answer, or not what is needed.
    """
    return _retried(url, lambda: http_stat(url) if _is_http(url) else _fsspec_stat(url))


def size(url: str) -> int:
    """Bytes of a remote file; raises as `stat` does."""
    return stat(url).size


def read_range(url: str, start: int, stop: int, *, of: RemoteFile | None = None) -> bytes:
    """Bytes `start` to `stop` of a remote file, all of them.

    Raises:
        Changed: the file is no longer what `of`, an earlier `stat`, says.
        InputError: the file is missing or ends before `stop`, or the server does not answer ranges
            or keeps failing; short answers and temporary errors have been tried again.
    """

    def read() -> bytes:
        if _is_http(url):
            content = http_range(url, start, stop, of=of)
        else:
            content = _cat(url, start, stop)
            if of is not None and (now := _fsspec_stat(url)) != of:
                raise Changed(url, of, now)
        if len(content) != stop - start:
            raise OSError(f"{len(content)} bytes came of [{start}, {stop})")
        return content

    return _retried(url, read) if start < stop else b""


def fetch(url: str, cache: Path, sha256: str | None = None) -> Path:
    """A whole remote file as a local one, below `cache` under the parts of its URL.

    What is there is used after its size and SHA-256 have been compared with those recorded when it
    came, and with `sha256`; without `sha256` the server is asked whether it has another version.
    Several processes may ask at once: one fetches, the others wait.

    Raises:
        InputError: as `stat`; too little space; the content is not `sha256`, or changed while it
            was read.
    """
    target = cache_path(url, cache)
    with locked(target.with_name(f".{target.name}.lock")):
        kept = _kept(target)
        if kept is None or not _is_current(url, kept, sha256):
            remote = stat(url)
            digest = _download(url, remote, target, sha256)
            record = {"url": url, "bytes": remote.size, "version": remote.version}
            write_json(_record(target), {**record, "sha256": digest})
    return target


def list_folder(url: str) -> list[str]:
    """The names in a remote folder, sorted; none where there is no such folder.

    Raises:
        InputError: http(s), which has no listing, or the listing fails.
    """
    if _is_http(url):
        raise InputError(
            f"{url}: folders cannot be listed over http(s); give the address of what is in it"
        )

    def names() -> list[str]:
        files, path = _file_system(url)
        entries: list[str] = files.ls(path, detail=False)
        return sorted(entry.rstrip("/").rpartition("/")[2] for entry in entries)

    try:
        return _retried(url, names)
    except Missing:
        return []


def cache_path(url: str, cache: Path) -> Path:
    """Where `fetch` keeps a file; files of one remote folder lie in one local folder."""
    parts = urlsplit(url)
    names = [name for name in f"{parts.netloc}{parts.path}".split("/") if name]
    if not names or ".." in names:
        raise InputError(f"{url}: not the address of a file")
    if parts.query:
        names[-1] += "@" + hashlib.sha256(parts.query.encode()).hexdigest()[:12]
    return cache.joinpath(parts.scheme, *(re.sub(r"[^\w.@%+=,-]", "_", name) for name in names))


def _record(target: Path) -> Path:
    return target.with_name(f".{target.name}.json")


def _kept(target: Path) -> dict[str, Any] | None:
    """What is known of a cached file, if it is still what came."""
    if not (target.is_file() and _record(target).is_file()):
        return None
    try:
        record: dict[str, Any] = read_json(_record(target))
        if target.stat().st_size == record["bytes"] and sha256_file(target) == record["sha256"]:
            return record
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s: %s", _record(target), error)
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
    return bool(remote.version) and (kept["bytes"], kept["version"]) == (
        remote.size,
        remote.version,
    )


def _download(url: str, remote: RemoteFile, target: Path, sha256: str | None) -> str:
    """Bring the file; it takes its name only when whole and as expected. Returns its SHA-256."""
    free = shutil.disk_usage(target.parent).free
    if free < remote.size:
        raise InputError(
            f"{url}: {remote.size / 1e6:.0f} MB, and {target.parent} has {free / 1e6:.0f} MB free"
        )
    log.info("fetching %s (%.1f MB) into %s", url, remote.size / 1e6, target)
    with atomic_path(target) as beside:
        if remote.ranges:
            digest = _write(beside, _pieces(url, remote.size), remote.size)
        else:
            digest = _retried(url, lambda: _write(beside, http_stream(url), remote.size))
        if sha256 is not None and digest != sha256:
            raise InputError(f"{url}: its SHA-256 is {digest}, not {sha256}")
        if sha256 is None and stat(url) != remote:
            raise InputError(f"{url}: changed while it was read; start again")
    return digest


def _write(path: Path, pieces: Iterator[bytes], size: int) -> str:
    digest, written = hashlib.sha256(), 0
    with path.open("wb") as handle:
        for piece in pieces:
            written += handle.write(piece)
            digest.update(piece)
    if written != size:
        raise OSError(f"{written} of {size} bytes came")
    return digest.hexdigest()


def _pieces(url: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, PIECE_BYTES):
        yield read_range(url, start, min(start + PIECE_BYTES, size))


def _retried(url: str, act: Callable[[], T]) -> T:
    """Try until it works; errors that a repetition cannot mend end it at once."""
    for pause in (*PAUSES_SECONDS, None):
        try:
            return act()
        except InputError:
            raise
        except (FileNotFoundError, PermissionError) as error:
            raise Missing(f"{url}: {type(error).__name__}: {error}") from error
        except (ImportError, ValueError) as error:
            raise InputError(f"{url}: {type(error).__name__}: {error}") from error
        except Exception as error:  # every back end of fsspec has its own
            if pause is None:
                tries = f"tried {len(PAUSES_SECONDS) + 1} times"
                raise InputError(f"{url}: {type(error).__name__}: {error} ({tries})") from error
            if isinstance(error, Busy):
                pause = max(pause, error.retry_after)
            log.info("%s: %s; again in %g s", url, error, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _fsspec_stat(url: str) -> RemoteFile:
    files, path = _file_system(url)
    info: dict[str, Any] = files.info(path)
    if info.get("size") is None or info.get("type") == "directory":
        raise InputError(f"{url}: not a file of known size")
    version = " ".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)
    return RemoteFile(size=int(info["size"]), version=version)


def _cat(url: str, start: int, stop: int) -> bytes:
    files, path = _file_system(url)
    return files.cat_file(path, start=start, end=stop)


def _file_system(url: str) -> tuple[Any, str]:
    return cast(tuple[Any, str], url_to_fs(url))
