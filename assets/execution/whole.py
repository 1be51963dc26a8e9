"""See that a result is whole before it is used; one of a shared root by its files' digests."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from assets.execution.follow import Meanwhile
from assets.launcher import Observer, Refused
from assets.reuse import root_of
from olmo_core.files import append_line
from olmo_core.run.folder import RunFolder
from olmo_core.run.result import damaged_files

PIECE_BYTES = 16 * 2**20
SHOWN_AFTER_SECONDS = 2.0  # what is compared sooner needs no progress

Progress = Callable[[str, int, int], None]  # asset, bytes compared, bytes in all; may raise to end


def shown_by(observer: Observer, meanwhile: Meanwhile) -> Progress:
    """Return a `Progress` that reports to the observer as a job does; `meanwhile` may end it."""
    began = time.time()

    def tell(asset: str, done: int, total: int) -> None:
        meanwhile()
        if (now := time.time()) - began < SHOWN_AFTER_SECONDS:
            return
        observer.progress(
            asset,
            {
                "state": "running",
                "attempt": 1,
                "done": done,
                "total": total,
                "unit": "bytes",
                "message": "comparing a shared result with its digests",
                "ready": began,
                "heartbeat": now,
            },
        )

    return tell


def require_whole(recipe: str, name: str, run: RunFolder, root: Path, progress: Progress) -> None:
    """Refuse a finished run of the asset `name` whose files are damaged.

    Raises:
        Refused: names the files and what to do.
    """
    shared = root_of(run.path, root) != root
    damage = _damaged_shared_files(name, run, root, progress) if shared else damaged_files(run)
    if damage:
        remedy = "make it again"
        if shared:
            remedy = "restore it in the shared root, or make a result of your own"
        raise Refused(
            f"{name}: {'; '.join(damage[:3])}{' …' if len(damage) > 3 else ''}; "
            f"{remedy}: olmo run {recipe} --select {name} --force"
        )


def _damaged_shared_files(name: str, run: RunFolder, root: Path, progress: Progress) -> list[str]:
    """Return what is wrong with a shared run's files, one line per file.

    A line in this root's cache remembers a file that was right. It is read again only when its
    size, its time or what is expected of it has changed.
    """
    files = run.read_result()["files"]
    key = hashlib.sha256(str(run.path).encode()).hexdigest()
    cache = root / "cache" / "shared" / key
    known = set(cache.read_text(encoding="utf-8").split("\n")) if cache.exists() else set[str]()
    cache.parent.mkdir(parents=True, exist_ok=True)
    total, done = sum(entry["bytes"] for entry in files.values()), 0
    wrong: list[str] = []
    for relative, expected in files.items():
        path = run.path / relative
        try:
            found = path.stat()
        except FileNotFoundError:
            wrong.append(f"{path}: gone")
            continue
        line = f"{expected['sha256']} {found.st_size} {found.st_mtime_ns} {relative}"
        if found.st_size != expected["bytes"]:
            wrong.append(f"{path}: {found.st_size} bytes, {expected['bytes']} were written")
        elif line not in known:
            found_digest = _sha256(path, lambda read, done=done: progress(name, done + read, total))
            if found_digest == expected["sha256"]:
                append_line(cache, line)
            else:
                wrong.append(f"{path}: its SHA-256 is not {expected['sha256'][:12]}… as recorded")
        done += expected["bytes"]
    return wrong


def _sha256(path: Path, read_so_far: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            read_so_far(file.tell())
    return digest.hexdigest()
