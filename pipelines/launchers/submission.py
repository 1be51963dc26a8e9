"""What every engine records of a job: the claim, the configuration, the launch before and after."""

import functools
import os
import shlex
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core.files import write_atomic, write_json
from olmo_core.run.attempts import latest
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder
from pipelines.launchers.provenance import code_state, versions


class LauncherClosed(RuntimeError):
    """A job was submitted after the run had been cancelled."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who may start the job of a run folder, and which submission it is."""

    key: str  # one per run folder: the idempotency key
    submission: int  # numbered as its first attempt


def next_claim(folder: RunFolder) -> Claim:
    """The claim that the next submission would make; writes nothing."""
    before = folder.read(folder.claim)
    return Claim(
        key=before["key"] if before else uuid.uuid4().hex,
        submission=max(int(before["submission"]) if before else 0, latest(folder)) + 1,
    )


def claim(folder: RunFolder) -> Claim:
    """Write the claim of the next submission; called under the submission's lock."""
    for answered in (folder.cancel, folder.failure):  # of an earlier submission
        answered.unlink(missing_ok=True)
    made = next_claim(folder)
    write_json(
        folder.claim,
        {
            "schema_version": SCHEMA_VERSION,
            "key": made.key,
            "submission": made.submission,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
        },
    )
    return made


def read_launch(folder: RunFolder) -> Mapping[str, Any]:
    """launch.json; empty while there is none.

    It holds the code's changes and can be large, and who follows a job asks several times a second:
    it is parsed anew only once it has been replaced.
    """
    try:
        found = folder.launch.stat()
    except FileNotFoundError:
        return {}
    return _read_launch(folder.path, found.st_ino, found.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _read_launch(folder: Path, inode: int, changed_ns: int) -> Mapping[str, Any]:
    run = RunFolder(folder)
    return run.read(run.launch) or {}


def record_before(
    launch: Launch, made: Claim, *, engine: str, command: Sequence[str], **facts: Any
) -> Mapping[str, Any]:
    """Write config.yaml and launch.json: a job without a record would be an orphan.

    `command` is what a person types to run the job by hand. Returns the content of launch.json.
    """
    folder = launch.folder
    folder.log.mkdir(exist_ok=True)
    config = yaml.safe_dump(dict(launch.config), sort_keys=False, allow_unicode=True)
    write_atomic(folder.config, config)
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **launch.identity,
        "engine": engine,
        "submission": made.submission,
        "job_id": None,
        "submitted_at": time.time(),
        "command": list(command),
        "command_line": f"cd {shlex.quote(str(CHECKOUT))} && {shlex.join(command)}",
        "log": f"log/submission{made.submission}.log",
        "host": socket.gethostname(),
        "code": code_state(),
        "versions": versions(),
        **facts,
    }
    write_json(folder.launch, record)
    return record


def record_after(launch: Launch, record: Mapping[str, Any], **facts: Any) -> None:
    """Add to launch.json what is known once the job has been started."""
    write_json(launch.folder.launch, {**record, **facts})
