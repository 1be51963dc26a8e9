"""What every engine records of a job: the claim, the configuration, the launch before and after."""

import functools
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core.energy import EnergyConfig
from olmo_core.files import write_atomic, write_json
from olmo_core.run.attempts import latest
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder, is_locked, locked
from pipelines.site.file import ResourceSpec

# Packages whose versions a launch records.
RECORDED = ("torch", "dagster", "transformers", "lm_eval", "tokenizers", "numpy", "pyarrow")
DIFF_LIMIT_BYTES = 1 << 20  # of the code's changes, in each record


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who may start the job of a run folder, and which submission it is."""

    key: str  # one per run folder: the idempotency key
    submission: int  # numbered as its first attempt


def lock(folder: RunFolder) -> AbstractContextManager[int | None]:
    """Hold the folder's submission lock; yields its descriptor, which a child may hold on to.

    It covers looking and starting: of two submitters, the second sees the first's job.
    """
    return locked(folder.path / "submit.lock")


def under_way(folder: RunFolder) -> bool:
    """Return whether a submission is under way: some process holds the folder's lock for it."""
    return is_locked(folder.path / "submit.lock")


def next_claim(folder: RunFolder) -> Claim:
    """Return the claim that the next submission would make; writes nothing."""
    before = folder.read(folder.claim) or {"key": uuid.uuid4().hex, "submission": 0}
    return Claim(key=before["key"], submission=max(int(before["submission"]), latest(folder)) + 1)


def claim(folder: RunFolder) -> Claim:
    """Write the claim of the next submission; called under the submission's lock."""
    for answered in (folder.cancel, folder.failure):  # of an earlier submission
        answered.unlink(missing_ok=True)
    made = next_claim(folder)
    write_json(
        folder.claim,
        {
            "schema_version": SCHEMA_VERSION,
            **asdict(made),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
        },
    )
    return made


def read_launch(folder: RunFolder) -> Mapping[str, Any]:
    """Return the content of launch.json; empty while there is none.

    It holds the code's changes and can be large, and who follows a job asks several times a second:
    it is parsed anew only once it has been replaced.
    """
    try:
        with folder.launch.open("rb") as content:  # NFS asks its server, as it may not for a stat
            found = os.fstat(content.fileno())
    except FileNotFoundError:
        return {}
    return _read_launch(folder.path, found.st_ino, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=512)
def _read_launch(folder: Path, inode: int, changed_ns: int, size: int) -> Mapping[str, Any]:
    run = RunFolder(folder)
    return run.read(run.launch) or {}


def node_command(launch: Launch, python: str = sys.executable, *, ranks: bool) -> list[str]:
    """Return what runs a job on a node: the runner of its ranks, or the job's own module."""
    if ranks:
        return [python, "-m", "olmo_core.supervisor.node", str(launch.folder.path)]
    return [python, "-m", launch.module, str(launch.folder.config)]


def record_before(
    launch: Launch,
    work: ResourceSpec,
    made: Claim,
    *,
    energy: EnergyConfig,
    engine: str,
    command: Sequence[str],
    start: Sequence[str],
    **facts: Any,
) -> Mapping[str, Any]:
    """Write config.yaml and launch.json: a job without a record would be an orphan.

    Args:
        launch: The job.
        work: Its shape.
        made: The claim of this submission.
        energy: What the site says of its devices and of its power.
        engine: The engine's name.
        command: What a person types to run the job by hand.
        start: What the supervisor starts.
        facts: What else the engine wants to know of it later.

    Returns:
        The content of launch.json.
    """
    folder = launch.folder
    folder.log.mkdir(exist_ok=True)
    config = yaml.safe_dump(dict(launch.config), sort_keys=False, allow_unicode=True)
    write_atomic(folder.config, config)
    cores = work.cpus_per_node
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
        # What supervisors, node runners and pods read: `olmo_core.supervisor.launch_spec`.
        "run": {
            "command": list(start),
            "module": launch.module,
            "distributed": launch.distributed,
            "nodes": work.nodes,
            "processes_per_node": work.processes_per_node,
            "workers": work.workers,
            "threads": max(1, cores // work.processes_per_node) if cores else None,
            "stall_timeout_seconds": work.stall_timeout_minutes * 60,
            "max_failures": work.max_failures,
        },
        # Goes with each attempt: what olmo_core.energy computes from.
        "place": {
            "devices": work.nodes * (work.devices_per_node or work.processes_per_node),
            **asdict(energy),
        },
        "forecast": launch.forecast,  # by olmo_core.forecast, to be set beside what it took
        **facts,
    }
    write_json(folder.launch, record)
    return record


def record_after(launch: Launch, record: Mapping[str, Any], **facts: Any) -> None:
    """Add to launch.json what is known once the job has been started."""
    write_json(launch.folder.launch, {**record, **facts})


@functools.cache
def code_state() -> dict[str, Any]:
    """Return the checkout's commit and uncommitted changes; empty where git has none."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    diff = _git("diff", "HEAD") or ""
    return {
        "commit": commit.strip(),
        "dirty": bool(diff),
        "diff": diff[:DIFF_LIMIT_BYTES],
        "diff_truncated": len(diff) > DIFF_LIMIT_BYTES,
    }


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of packages that matter to jobs, with build labels."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a machine that only orchestrates has no torch
    return found


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    try:
        return subprocess.check_output(
            command, stderr=subprocess.DEVNULL, text=True, errors="replace"
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
