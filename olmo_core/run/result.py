"""`result.json`: what a finished job made, and the digest by which its readers know it again."""

import hashlib
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from olmo_core.files import fsync, sha256_file, write_json
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder


def write_result(
    folder: RunFolder,
    *,
    report: Mapping[str, Any],
    content: Sequence[str] | None,
    status: Mapping[str, Any],
    timings: Mapping[str, float],
    threads: int,
) -> None:
    """Flush the outputs to the disk, digest them, and write the marker of a finished run.

    The launch's fingerprint and inputs are carried over, so that the result stands alone.
    """
    launch = folder.read(folder.launch) or {}
    outputs = folder.outputs()
    covered = [Path(path) for path in content] if content is not None else outputs
    with ThreadPoolExecutor(threads) as pool:  # the disk and SHA-256 leave Python to the others
        deque(pool.map(fsync, (folder.path / path for path in outputs)), maxlen=0)
        described = [*pool.map(describe, (folder.path / path for path in covered))]
    for parent in sorted({folder.path / path.parent for path in outputs}):
        fsync(parent)
    files = dict(zip(map(str, covered), described, strict=True))
    now = time.time()
    write_json(
        folder.result,
        {
            "schema_version": SCHEMA_VERSION,
            **{key: launch.get(key) for key in ("recipe", "asset", "partition", "fingerprint")},
            "inputs": launch.get("inputs", {}),
            "digest": digest(files),
            "files": files,
            "report": report,
            **{key: status[key] for key in ("attempt", "host", "submitted", "started")},
            "device": device_used(),
            "finished": now,
            "start_seconds": round(status.get("ready", status["started"]) - status["submitted"], 3),
            "work_seconds": round(now - status.get("ready", status["started"]), 3),
            "timings": {name: round(seconds, 3) for name, seconds in timings.items()},
            "peak_memory_bytes": status["peak_memory_bytes"],
        },
    )


def device_used() -> str:
    """Return the kind of device that this process could compute on: `cuda`, or `cpu`.

    One that has not imported torch has computed on the CPU, if at all.
    """
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def describe(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 of one output file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def damaged_files(folder: RunFolder, *, every_byte: bool = False) -> list[str]:
    """Return what is wrong with the files of a finished run, one line per file.

    Sizes are compared always, contents where a file has been written after the result or where
    `every_byte` asks for it: reading all of a large corpus again for each of its readers would cost
    more than the reading.
    """
    written_ns = folder.result.stat().st_mtime_ns
    wrong: list[str] = []
    for name, expected in folder.read_result()["files"].items():
        path = folder.path / name
        try:
            found = path.stat()
        except FileNotFoundError:
            wrong.append(f"{path}: gone")
            continue
        if found.st_size != expected["bytes"]:
            wrong.append(f"{path}: {found.st_size} bytes, {expected['bytes']} were written")
        elif every_byte or found.st_mtime_ns > written_ns:
            changed = sha256_file(path) != expected["sha256"]
            wrong += [f"{path}: changed since it was made"] if changed else []
    return wrong


def digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one SHA-256 over the names and contents of all files, in the order of names."""
    lines = (f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
