"""Markers of finished tasks: what a restarted job need not do again.

Each lies in `work/tasks/<identity>/` and is written once the output of its task is on the disk. Two
lines of JSON: the output's path, relative to the run folder, and what the task returned.
"""

import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from olmo_core.files import write_atomic
from olmo_core.run.code import code_digest
from olmo_core.run.folder import CONTRACT_FOLDERS, RunFolder, is_contract_file
from olmo_core.run.process import main_module

DIGEST_LENGTH = 24


def markers_folder(folder: RunFolder) -> Path:
    """Return where the markers of this job lie; under other code or values it is another folder."""
    identity = hashlib.sha256(code_digest(main_module()).encode())
    if folder.config.exists():
        identity.update(folder.config.read_bytes())
    return folder.path / "work" / "tasks" / identity.hexdigest()[:DIGEST_LENGTH]


def marker_path(markers: Path, name: str, reads: str) -> Path:
    """Return where the marker of the task with this name and this input lies."""
    digest = hashlib.sha256(json.dumps([name, reads]).encode()).hexdigest()
    return markers / f"{digest[:DIGEST_LENGTH]}.json"


def write_marker(marker: Path, folder: Path, output: Path, result: str) -> None:
    """Mark a task as finished.

    Args:
        marker: Where.
        folder: The run folder.
        output: What the task wrote, in the run folder, and already on the disk.
        result: What it returned, as one line of JSON.
    """
    write_atomic(marker, f"{json.dumps(str(output.relative_to(folder)))}\n{result}\n")


def read_marker(marker: Path, folder: Path) -> tuple[Path, Any] | None:
    """Return a finished task's output and result; None if it is not finished."""
    try:
        output, result = marker.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    path = folder / json.loads(output)
    return (path, json.loads(result)) if path.exists() else None


def remove_earlier_attempt(folder: RunFolder) -> None:
    """Remove all but the contract and what finished tasks have written.

    Nothing half-made may be taken for this attempt's output. Everything is renamed before it is
    removed, so that a process that still writes there fails.
    """
    trash = folder.path / "work" / "removed"
    kept = {trash}
    if (folder.path / "work" / "tasks").exists():
        markers = markers_folder(folder)
        kept.update({markers}, (_output(marker, folder.path) for marker in markers.glob("*.json")))
    above = {parent for path in kept for parent in path.parents}
    trash.mkdir(parents=True, exist_ok=True)
    for entry in folder.path.iterdir():
        known = entry.name in CONTRACT_FOLDERS if entry.is_dir() else is_contract_file(entry.name)
        if entry.name == "work" or not known:
            _remove(entry, trash, kept, above)
    shutil.rmtree(trash, ignore_errors=True)  # the job's end removes all of work/


def _output(marker: Path, folder: Path) -> Path:
    with marker.open(encoding="utf-8") as lines:
        return folder / json.loads(next(lines))


def _remove(entry: Path, trash: Path, kept: set[Path], above: set[Path]) -> None:
    if entry in above:
        for inner in entry.iterdir():
            _remove(inner, trash, kept, above)
    elif entry not in kept:
        entry.rename(trash / uuid.uuid4().hex)
