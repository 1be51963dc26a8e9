"""One remote file on its way to the disk: found there, or fetched until it is whole and right."""

import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.errors import InputError, Stopped
from olmo_core.remote.address import address
from olmo_core.remote.partial import Partial, lock_path, on_disk, read_record
from olmo_core.remote.storage import (
    PAUSES_SECONDS,
    Changed,
    RemoteFile,
    Wait,
    pause_after,
    stat,
    stream,
)
from olmo_core.run.folder import locked

log = logging.getLogger("olmo")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file to download, and what a list says of it."""

    url: str
    path: Path
    size_bytes: int | None = None
    sha256: str | None = None  # in hex, as is md5
    md5: str | None = None
    optional: bool = False  # it may be missing

    @property
    def digests(self) -> dict[str, str]:
        """Return the digests that the content must have, by algorithm."""
        known = {"sha256": self.sha256, "md5": self.md5}
        return {name: value.lower() for name, value in known.items() if value}


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A file that is there, whole and as expected."""

    url: str
    path: Path
    size_bytes: int
    sha256: str
    version: str  # as its server told it; "" where it does not


class Transfer:
    """One wanted file: `look` finds what is there, `bring` fetches it.

    Attributes:
        wanted: What is asked for.
        result: What is there, once it is whole.
    """

    def __init__(self, wanted: Wanted, *, wait: Wait | None = None) -> None:
        self.wanted = wanted
        self.result: Downloaded | None = None
        self._wait = wait
        self._remote: RemoteFile | None = None
        self._partial = Partial(wanted.path, tuple({"sha256": "", **wanted.digests}))

    @property
    def is_known(self) -> bool:
        """Return whether `look` has found the file, here or on its server."""
        return self.result is not None or self._remote is not None

    @property
    def done_bytes(self) -> int:
        """Return how much has come; it grows while another thread is in `bring`."""
        return self.result.size_bytes if self.result else self._partial.size

    @property
    def total_bytes(self) -> int:
        """Return how large the file is, or will be; 0 before `look`."""
        return self.result.size_bytes if self.result else self._remote.size if self._remote else 0

    @property
    def missing_bytes(self) -> int:
        """Return how much the disk must still take, before `bring`."""
        return 0 if self.result else max(0, self.total_bytes - self._partial.here_bytes())

    def look(self) -> None:
        """Find the file on the disk, or ask its server for size and version.

        Raises:
            Missing: it is nowhere.
            InputError: the server does not answer, or has a file of another size.
        """
        kept = self._kept()
        if kept is not None and self.wanted.digests:
            self._found(kept)
            return
        try:
            self._remote = self._stat()
        except InputError as error:
            if kept is None:
                raise
            log.warning("%s; using what was fetched before", error)
            self._found(kept)
        else:
            if kept is not None and self._is_current(kept):
                self._found(kept)

    def bring(self, stop: threading.Event) -> None:
        """Fetch the file, unless it is there; `stop` ends it between two pieces.

        Raises:
            Missing: it is not there any more.
            InputError: it is not what is wanted, its server fails or has it changed again and
                again, or the disk does not take it.
            Stopped: `stop` was set.
        """
        if self.result is not None:
            return
        if stop.is_set():
            raise Stopped(f"{address(self.wanted.url)}: not begun")
        with contextlib.ExitStack() as stack:
            with on_disk(self.wanted.path):
                stack.enter_context(locked(lock_path(self.wanted.path)))
            kept = self._kept()  # another process may have brought it meanwhile
            if kept is None or not self._is_current(kept):
                kept = self._fetch(stop)
            self._found(kept)

    def _kept(self) -> dict[str, Any] | None:
        """Return the record of a whole file that is still what came, and is what is wanted."""
        wanted = self.wanted
        try:
            record = read_record(wanted.path)
        except InputError as error:
            log.warning("%s; fetching %s again", error, wanted.path)
            return None
        expected: dict[str, Any] = dict(wanted.digests) or {"url": address(wanted.url)}
        if wanted.size_bytes is not None:
            expected["bytes"] = wanted.size_bytes
        return record if record and expected.items() <= record.items() else None

    def _is_current(self, kept: dict[str, Any]) -> bool:
        if self._remote is None or self.wanted.digests:
            return True
        now = (self._remote.size, self._remote.version)
        return bool(self._remote.version) and now == (kept["bytes"], kept["version"])

    def _found(self, record: dict[str, Any]) -> None:
        self.result = Downloaded(
            url=self.wanted.url,
            path=self.wanted.path,
            size_bytes=record["bytes"],
            sha256=record["sha256"],
            version=record["version"],
        )

    def _stat(self) -> RemoteFile:
        remote, expected = stat(self.wanted.url, wait=self._wait), self.wanted.size_bytes
        if expected is not None and remote.size != expected:
            raise InputError(
                f"{self.wanted.url}: {remote.size} bytes, expected {expected}, as the list says"
            )
        return remote

    def _fetch(self, stop: threading.Event) -> dict[str, Any]:
        """Try until the file is here; return its record."""
        url, failures, furthest = self.wanted.url, 0, 0
        while True:
            try:
                self._receive(stop)
                self._verify()
                return self._partial.publish()
            except Exception as error:  # every back end of fsspec has its own
                if stop.is_set():
                    raise
                # Where bytes came that had never come before, it was no failure in a row.
                failures = 1 if self._partial.size > furthest else failures + 1
                furthest = max(furthest, self._partial.size)
                changed = isinstance(error, Changed) and failures <= len(PAUSES_SECONDS)
                if changed:
                    log.warning("%s; beginning anew", error)
                    self._remote = self._stat()
                else:
                    wait = stop.wait if self._wait is None else self._wait
                    wait(pause_after(url, error, failures))

    def _receive(self, stop: threading.Event) -> None:
        """Fill the partial file up from one answer; one that is whole already needs none."""
        url, remote, partial = self.wanted.url, self._remote, self._partial
        assert remote is not None
        with partial.opened(url, remote):
            if partial.size == remote.size:
                return
            for place, piece in stream(url, partial.size, of=remote):
                partial.write(place, piece)
                if stop.is_set():
                    raise Stopped(f"{address(url)}: at {partial.size} of {remote.size} bytes")

    def _verify(self) -> None:
        """Refuse what is not as the list says, or not what the server has now.

        Raises:
            InputError: the content has another digest.
            OSError: it has, and came in parts: perhaps of two files.
            Changed: it is another file by now.
        """
        found, joined = self._partial.digests, self._partial.joined
        wrong = [name for name, value in self.wanted.digests.items() if found[name] != value]
        if wrong:
            self._partial.discard()
            kind = OSError if joined else InputError
            said = (f"{n.upper()} {found[n]}, expected {self.wanted.digests[n]}" for n in wrong)
            raise kind(f"{self.wanted.url}: the content has {', '.join(said)}")
        if not self.wanted.digests and (now := self._stat()) != self._remote:
            assert self._remote is not None
            raise Changed(self.wanted.url, self._remote, now)
