"""The run folder: which files there are, what each says, and which of them may be trusted.

`<root>/<recipe>/<asset>[/<partition>]/<version>/` is the whole contract between a job and whoever
follows it. Readers trust `result.json`, written last, never the presence of the folder.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from olmo_core.files import PARTIAL, read_json

SCHEMA_VERSION = 1
RESULT_END = b"\n}\n"  # as `write_json` ends a mapping, and no part of one does

# What belongs to the contract or to the work in progress, and so is no part of a result's content.
CONTRACT_FILES = frozenset(
    {"claim.json", "config.yaml", "launch.json", "status.json", "metrics.jsonl", "result.json"}
    | {"attempts.jsonl", "failure.json", "cancel", "stop"}
    | {"job.lock", "submit.lock", "supervise.lock"}
)
CONTRACT_FOLDERS = frozenset({"log", "checkpoints", "work", "wandb"})


class RunFolder:
    """Paths and readers of one run folder; holds no state beside its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.claim = path / "claim.json"
        self.config = path / "config.yaml"
        self.launch = path / "launch.json"
        self.status = path / "status.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.attempts = path / "attempts.jsonl"
        self.failure = path / "failure.json"  # why the supervisor gave the run up
        self.log = path / "log"
        self.cancel = path / "cancel"  # a file that asks the job to reach a safe point and stop
        self.stop = path / "stop"  # asks one attempt, whose number it holds, to stop at once

    @property
    def finished(self) -> bool:
        """True once the job's last file is there, and whole.

        A result torn by a copy or a full disk is none: the job is to be run again.
        """
        try:
            with self.result.open("rb") as result:
                result.seek(-len(RESULT_END), os.SEEK_END)
                return result.read() == RESULT_END
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.EINVAL:  # shorter than its own end
                return False
            raise

    def read(self, path: Path) -> dict[str, Any] | None:
        """A contract file's content; None while it is not there.

        Raises:
            ValueError: the file is malformed or of another schema version.
        """
        try:
            content = read_json(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{error}; delete it to begin anew") from None
        fields = cast(dict[str, Any], content if isinstance(content, dict) else {})
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"{path}: expected schema_version {SCHEMA_VERSION}; written by another version? "
                "delete it to begin anew"
            )
        return fields

    def read_status(self) -> dict[str, Any] | None:
        """The heartbeat; None while there is none that can be read.

        It is not flushed to the disk, so a crash may leave garbage; the next beat replaces it.
        """
        try:
            return self.read(self.status)
        except ValueError:
            return None

    def read_result(self) -> dict[str, Any]:
        """What the finished job reported.

        Raises:
            FileNotFoundError: the job has not finished.
        """
        result = self.read(self.result)
        if result is None:
            raise FileNotFoundError(f"{self.result}: not there, so this run has not finished")
        return result

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that looks whole: its manifest is written last."""
        found: dict[int, Path] = {}
        for manifest in self.path.glob("checkpoints/step*/manifest.json"):
            step = manifest.parent.name.removeprefix("step")
            if step.isdecimal():  # not step4.tmp, nor step4.corrupt
                found[int(step)] = manifest.parent
        return found[max(found)] if found else None

    def outputs(self) -> list[Path]:
        """The files that are the content of the result, sorted, relative to the folder."""
        found: list[Path] = []
        for parent, folders, files in os.walk(self.path):
            relative = Path(parent).relative_to(self.path)
            if relative == Path("."):
                folders[:] = [name for name in folders if name not in CONTRACT_FOLDERS]
                files = [name for name in files if not is_contract_file(name)]
            found.extend(relative / name for name in files)
        return sorted(found)

    def is_running(self) -> bool:
        """Whether a job holds this folder's lock on this machine at this moment."""
        return is_locked(self.path / "job.lock")


def is_contract_file(name: str) -> bool:
    """Whether a file of a run folder is of the contract, or is just being written to become so.

    The submitter writes launch.json while the job it started is already at work.
    """
    if name.endswith(PARTIAL):
        return any(name.startswith(f"{contract}.") for contract in CONTRACT_FILES)
    return name in CONTRACT_FILES


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`, the last of each step; a torn line (a crash) is passed over.

    Rows without a step are all kept, in the order in which they were written.
    """
    rows: dict[Any, dict[str, Any]] = {}
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines):
            try:
                row = json.loads(line)
            except ValueError:
                continue  # torn by a crash in the middle of the write; the resumed job repeats it
            if isinstance(row, dict):
                fields = cast(dict[str, Any], row)
                key = ("step", fields["step"]) if "step" in fields else ("line", number)
                rows.pop(key, None)
                rows[key] = fields
    return list(rows.values())


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Generator[bool]:
    """Hold an exclusive lock on a file; yields False at once if it is held and `wait` is False.

    The kernel releases the lock when the holder dies, however it dies, so none is ever stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on `path`."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR)
    try:
        # Shared, so that two observers never see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
