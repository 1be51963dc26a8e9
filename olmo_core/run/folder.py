"""The run folder: which files there are, what each says, and which of them may be trusted.

`<root>/<recipe>/<asset>[/<partition>]/<version>/` is the whole contract between a job and whoever
follows it. Readers trust `result.json`, written last, never the presence of the folder.
"""

import argparse
import contextlib
import fcntl
import json
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from olmo_core.files import PARTIAL, read_end, read_json
from olmo_core.run.process import main_module

SCHEMA_VERSION = 1
EVALUATION = (
    "evaluation"  # of a row of metrics.jsonl that is of one: what was evaluated, what failed
)
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
        """Return whether the job's last file is there, and whole.

        A result torn by a copy or a full disk is none: the job is to be run again.
        """
        try:
            return read_end(self.result, len(RESULT_END)) == RESULT_END
        except (FileNotFoundError, NotADirectoryError):
            return False

    def read(self, path: Path) -> dict[str, Any] | None:
        """Return a contract file's content; None while it is not there.

        Raises:
            ValueError: the file is malformed or of another schema version.
        """
        with contextlib.suppress(FileNotFoundError):
            return read_versioned(path, "delete it to begin anew")
        return None

    def read_status(self) -> dict[str, Any] | None:
        """Return the heartbeat; None while there is none that can be read.

        It is not flushed to the disk, so a crash may leave garbage; the next beat replaces it.
        """
        with contextlib.suppress(ValueError):
            return self.read(self.status)
        return None

    def read_result(self) -> dict[str, Any]:
        """Return what the finished job reported.

        Raises:
            FileNotFoundError: the job has not finished.
        """
        result = self.read(self.result)
        if result is None:
            raise FileNotFoundError(f"{self.result}: not there, so this run has not finished")
        return result

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that looks whole: its manifest is written last."""
        found: dict[int, Path] = {}
        for manifest in self.path.glob("checkpoints/step*/manifest.json"):
            step = manifest.parent.name.removeprefix("step")
            if step.isdecimal():  # not step4.tmp, nor step4.corrupt
                found[int(step)] = manifest.parent
        return found[max(found)] if found else None

    def outputs(self) -> list[Path]:
        """Return the files that are the result's content, sorted, relative to the folder."""
        found: list[Path] = []
        for parent, folders, files in os.walk(self.path):
            relative = Path(parent).relative_to(self.path)
            if relative == Path("."):
                folders[:] = [name for name in folders if name not in CONTRACT_FOLDERS]
                files = [name for name in files if not is_contract_file(name)]
            found.extend(relative / name for name in files)
        return sorted(found)

    def is_running(self) -> bool:
        """Return whether a job holds this folder's lock on this machine at this moment."""
        return is_locked(self.path / "job.lock")

    def stops_at_once(self, attempt: int) -> bool:
        """Return whether this attempt is asked to stop at once."""
        with contextlib.suppress(FileNotFoundError):
            return self.stop.read_text() == str(attempt)
        return False


def folder_argument(arguments: Sequence[str] | None, does: str, more: str = "") -> RunFolder:
    """Return the run folder that a command line names; the command `does` something with it."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {main_module()}", description=does, epilog=more
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    return RunFolder(parser.parse_args(arguments).folder.absolute())


def read_versioned(path: Path, remedy: str) -> dict[str, Any]:
    """Return a JSON mapping of this version; `remedy` is what to do with another.

    Raises:
        ValueError: the file is malformed or of another schema version.
    """
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from None
    fields = cast(dict[str, Any], content if isinstance(content, dict) else {})
    if fields.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: expected schema_version {SCHEMA_VERSION}; written by another version? "
            f"{remedy}"
        )
    return fields


def is_contract_file(name: str) -> bool:
    """Return whether a file is of the contract, or is just being written to become so.

    The submitter writes launch.json while the job it started is already at work.
    """
    if name.endswith(PARTIAL):
        return any(name.startswith(f"{contract}.") for contract in CONTRACT_FILES)
    return name in CONTRACT_FILES


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the mappings of a file of JSON lines, which need not be there.

    A line that a crash has torn is passed over: whoever resumes writes it again.
    """
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    if isinstance(row := json.loads(line), dict):
                        rows.append(cast(dict[str, Any], row))
    return rows


def read_first(path: Path, key: str) -> dict[str, Any] | None:
    """Return the first row of a file of JSON lines that has a key; None: there is none yet."""
    return next(_rows_with(path, f'"{key}": '), None)


def read_evaluations(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a `metrics.jsonl` that are of an evaluation, in the order of writing.

    Of a step that was done again there is one per time. Only these rows are parsed: a training has
    hundreds of thousands of others.
    """
    yield from _rows_with(path, f'"{EVALUATION}": ')


def _rows_with(path: Path, text: str) -> Iterator[dict[str, Any]]:
    key = text.encode()
    if path.exists():
        with path.open("rb") as lines:
            for line in lines:
                if key in line:
                    with contextlib.suppress(ValueError):  # torn by a crash
                        yield json.loads(line)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return a row per step of a `metrics.jsonl`, in the order of writing, and what is of no step.

    A step may have several rows, of its update and of an evaluation after it, and those of a later
    attempt; the last value of each key counts.
    """
    rows: dict[Any, dict[str, Any]] = {}
    for number, row in enumerate(read_rows(path)):
        key = ("step", row["step"]) if "step" in row else ("line", number)
        rows[key] = {**rows.pop(key, {}), **row}
    return list(rows.values())


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Generator[int | None]:
    """Hold an exclusive lock on a file; yields None at once if it is held and `wait` is False.

    Else it yields the descriptor, by which a child process may hold on to the lock. The kernel
    releases it when the last holder dies, however it dies, so none is ever stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        ours = None
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            ours = descriptor
        yield ours
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return whether some process holds the lock on `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two observers never see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
