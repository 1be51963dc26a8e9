"""A file that comes piece by piece, and goes on where a killed process left it.

It is `.<name>.partial` until it is whole; `.<name>.partial.json` beside it says of which version of
which URL it is, and how much of it has reached the disk. Then it takes its name, and `.<name>.json`
says what came.
"""

import contextlib
import hashlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

from olmo_core.errors import InputError
from olmo_core.files import PARTIAL, fsync, read_json, write_json
from olmo_core.remote.address import address
from olmo_core.remote.storage import RemoteFile

SYNC_BYTES = 64 << 20  # what a crash of the machine costs at most
_READ_BYTES = 1 << 20
_MTIME = "mtime_ns"


class Partial:
    """The parts of one file that have come, on the disk, and the digests of all its bytes.

    Every method but `here_bytes` raises an InputError where the disk refuses.

    Attributes:
        size: How many bytes have come.
        joined: Whether they came in more than one answer.
    """

    def __init__(self, target: Path, algorithms: tuple[str, ...]) -> None:
        self.size = 0
        self.joined = False
        self._target = target
        self._path = target.with_name(f".{target.name}{PARTIAL}")
        self._record = self._path.with_name(f"{self._path.name}.json")
        self._algorithms = algorithms
        self._digests: dict[str, Any] = {}
        self._file: BinaryIO | None = None
        self._version: dict[str, Any] = {}
        self._synced = 0

    @property
    def digests(self) -> dict[str, str]:
        """Return the digests of what has come, in hex, by algorithm."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def here_bytes(self) -> int:
        """Return how much an earlier process has left, of whatever version."""
        with contextlib.suppress(OSError):
            return self._path.stat().st_size
        return 0

    @contextlib.contextmanager
    def opened(self, url: str, remote: RemoteFile) -> Generator[None]:
        """Open the file for writing after what is there of this version; flush it at the end."""
        self._version = {"url": address(url), "size": remote.size, "version": remote.version}
        with on_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            start = self._certain_bytes(remote)
            self._file = self._path.open("r+b", buffering=0)
        with self._file:
            with on_disk(self._path):
                self._begin(start)
            try:
                yield
            except BaseException:
                with contextlib.suppress(OSError):  # what ended it is the news
                    self._sync()
                raise
            with on_disk(self._path):
                self._sync()

    def write(self, place: int, piece: bytes) -> None:
        """Add what comes next; from 0 on where the server begins anew."""
        assert self._file is not None
        with on_disk(self._path):
            if place != self.size:
                self._begin(0)
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
            self.size += len(piece)
            for digest in self._digests.values():
                digest.update(piece)
            if self.size - self._synced >= SYNC_BYTES:
                self._sync()

    def publish(self) -> dict[str, Any]:
        """Give the whole file its name; return and leave the record of what came."""
        with on_disk(self._target):
            os.replace(self._path, self._target)
            fsync(self._target.parent)
            record = {
                "url": self._version["url"],
                "bytes": self.size,
                "version": self._version["version"],
                **self.digests,
                _MTIME: self._target.stat().st_mtime_ns,
            }
            write_json(record_path(self._target), record)
            self._record.unlink(missing_ok=True)
        return record

    def discard(self) -> None:
        """Delete what has come."""
        with on_disk(self._path):
            self._path.unlink(missing_ok=True)
            self._record.unlink(missing_ok=True)
        self.size = 0

    def _certain_bytes(self, remote: RemoteFile) -> int:
        """Return how many bytes of this version are on the disk; 0 where nobody could tell."""
        try:
            before = read_json(self._record)
        except (FileNotFoundError, InputError):
            return 0
        # A weak ETag, or none, does not say that the bytes are the same.
        strong = remote.ranges and remote.version and not remote.version.startswith("W/")
        if not strong or not isinstance(before, dict):
            return 0
        size: object = before.pop("bytes", None)  # pyright: ignore
        if before != self._version or not isinstance(size, int):
            return 0
        return min(size, self.here_bytes())

    def _begin(self, size: int) -> None:
        """Keep the first `size` bytes alone, and take their digests."""
        assert self._file is not None
        self._file.truncate(size)
        self._file.seek(0)
        self._digests = {name: hashlib.new(name) for name in self._algorithms}
        while piece := self._file.read(_READ_BYTES):
            for digest in self._digests.values():
                digest.update(piece)
        self.size, self.joined = size, size > 0
        if self._record.exists():  # of another version, perhaps, which would pass for this one's
            self._sync()

    def _sync(self) -> None:
        """Flush what has come, then write down how much it is."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._synced = self.size
        write_json(self._record, {**self._version, "bytes": self.size})


def record_path(target: Path) -> Path:
    """Return where it is said what came as `target`."""
    return target.with_name(f".{target.name}.json")


def lock_path(target: Path) -> Path:
    """Return what is locked by the process that fetches `target`."""
    return target.with_name(f".{target.name}.lock")


def read_record(target: Path) -> dict[str, Any] | None:
    """Return what is said of a file that came, if it is still what came; else None.

    Raises:
        InputError: it is not said in JSON.
    """
    try:
        record, status = read_json(record_path(target)), target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(record, dict):
        raise InputError(f"{record_path(target)}: expected a mapping")
    here = {"bytes": status.st_size, _MTIME: status.st_mtime_ns}
    return record if here.items() <= record.items() else None  # pyright: ignore


@contextlib.contextmanager
def on_disk(path: Path) -> Generator[None]:
    """Let what this machine's disk refuses name the path: no repetition would mend it.

    Raises:
        InputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from error
