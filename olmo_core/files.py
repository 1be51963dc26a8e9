"""Files that are whole or not there: written beside, flushed to the disk, then renamed."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from olmo_core.errors import InputError

PARTIAL = ".partial"  # suffix of a file that is still being written


@contextlib.contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Yield a path beside `path` to write to; it takes the name `path` only if the block succeeds.

    The file and its folder are fsynced, so that the name never survives a crash without the bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with _named(path):
            yield beside
            fsync(beside)
        os.replace(beside, path)
        fsync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Generator[None]:
    """Let what the system refuses name a file: a failed write, on a full disk say, names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def fsync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries: a rename in it then survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(path: Path) -> None:
    """Flush a file, or a folder with everything in it, to the disk; links are not followed."""
    for parent, _, files in os.walk(path):
        for name in files:
            if not (file := Path(parent, name)).is_symlink():
                fsync(file)
        fsync(Path(parent))
    if path.is_file():
        fsync(path)


def link_files(folder: Path, files: Mapping[str, Path]) -> None:
    """Make a folder of hard links, whole or not at all; what stands under its name is replaced.

    Args:
        folder: To make; on the file system of the files.
        files: Name below the folder -> the file.
    """
    beside = folder.with_name(f"{folder.name}{PARTIAL}")
    for old in (beside, folder):  # of an attempt that ended before its result was written
        if old.exists():
            shutil.rmtree(old)
    beside.mkdir(parents=True)
    for name, file in files.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(file, beside / name)
    for parent, _, _ in os.walk(beside):  # the files are flushed, their names here are not
        fsync(Path(parent))
    beside.rename(folder)
    fsync(folder.parent)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file atomically and durably."""
    with atomic_path(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a JSON file atomically; `durable=False` skips the fsync (heartbeats)."""
    text = json.dumps(value, indent=1, sort_keys=False, ensure_ascii=False, allow_nan=True) + "\n"
    if durable:
        write_atomic(path, text)
        return
    beside = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def append_line(path: Path, line: str) -> None:
    """Add a line to the end of a text file, which is made where there is none."""
    with _named(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; an InputError names one that is malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None


def read_end(path: Path, most_bytes: int) -> bytes:
    """Return the end of a file, at most so many bytes of it."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
        return file.read(most_bytes)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
