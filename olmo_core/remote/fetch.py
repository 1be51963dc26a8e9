"""Remote files fetched whole into a cache that is always checked."""

import hashlib
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from olmo_core.errors import InputError
from olmo_core.files import atomic_path, read_json, sha256_file, write_json
from olmo_core.remote.storage import RemoteFile, read_pieces, retried, stat
from olmo_core.run.folder import locked

log = logging.getLogger("olmo")


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
    with locked(target.with_name(f".{target.name}.lock")):
        kept = _kept(target)
        if kept is None or not _is_current(url, kept, sha256):
            remote = stat(url)
            digest = download(url, remote, target, sha256)
            record = {"url": url, "bytes": remote.size, "version": remote.version}
            write_json(_record(target), {**record, "sha256": digest})
    return target


def download(url: str, remote: RemoteFile, target: Path, sha256: str | None) -> str:
    """Bring a file; it takes its name only when whole and as expected. Returns its SHA-256.

    Raises:
        InputError: as `fetch`.
    """
    free = shutil.disk_usage(target.parent).free
    if free < remote.size:
        raise InputError(
            f"{url}: {remote.size / 1e6:.0f} MB, and {target.parent} has {free / 1e6:.0f} MB free"
        )
    log.info("fetching %s (%.1f MB) into %s", url, remote.size / 1e6, target)
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
    return digest


def cache_path(url: str, cache: Path) -> Path:
    """Return where `fetch` keeps a file; files of one remote folder lie in one local folder."""
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
    """Return what is known of a cached file, if it is still what came."""
    try:
        record: dict[str, Any] = read_json(_record(target))
        if target.stat().st_size == record["bytes"] and sha256_file(target) == record["sha256"]:
            return record
    except FileNotFoundError:
        return None
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
