"""Small things that nobody needs any more: of killed writers, and records of runs that are gone."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assets.execution.produce import ASSIGNED
from assets.execution.reused import FOLDER as REUSED
from assets.execution.reused import reuses
from olmo_core.files import PARTIAL
from olmo_core.run.accepted import FOLDER as ACCEPTED
from olmo_core.run.folder import is_contract_file, locked
from pipelines.collect.decisions import PINNED, RELEASED
from pipelines.collect.records import Records

AGE_SECONDS = 24 * 3600.0  # of a file that is being written: nobody writes one for longer
WRITTEN = re.compile(rf"\.[0-9]+{re.escape(PARTIAL)}\Z")  # as `olmo_core.files` names it
FOLDERS = (ASSIGNED, REUSED, ACCEPTED, PINNED, RELEASED, "results", "cache")


@dataclass(frozen=True, kw_only=True)
class Stray:
    """A file that nobody needs, and why."""

    path: Path
    why: str


def find_strays(records: Records) -> list[Stray]:
    """Return what killed writers have left, and what names runs that are gone."""
    root = records.root
    found = {*_partial(records), *_assignments(root), *_reuses(root)}
    return sorted(found, key=lambda each: each.path)


def remove(root: Path, strays: list[Stray]) -> None:
    """Delete what was found, as far as it is still as it was found."""
    with locked(root / ASSIGNED / "lock"):
        gone = {stray.path for stray in (*_assignments(root), *_reuses(root))}
        for stray in strays:
            if stray.path in gone or stray.path.name.endswith(PARTIAL):
                stray.path.unlink(missing_ok=True)


def _partial(records: Records) -> Iterator[Stray]:
    """Yield files of killed writers: in the root's own folders, and in finished runs."""
    before = time.time() - AGE_SECONDS
    own = [path for name in FOLDERS if not (path := records.root / name).is_symlink()]
    found = [path for folder in own for path in folder.rglob(f"*{PARTIAL}")]
    for run in records.runs.values():
        if run.finished is not None and not (run.linked or run.locked):
            left = run.folder.path.glob(f"*{PARTIAL}")
            found += [path for path in left if is_contract_file(path.name)]
    for path in found:
        ours = WRITTEN.search(path.name) and path.is_file() and not path.is_symlink()
        if ours and path.stat().st_mtime < before:
            yield Stray(path=path, why="its writer was killed")


def _reuses(root: Path) -> Iterator[Stray]:
    for reuse in reuses(root):
        if not (root / reuse.path).exists():
            record = root / REUSED / f"{reuse.reader}.json"
            yield Stray(path=record, why=f"names {reuse.path}, which is gone")


def _assignments(root: Path) -> Iterator[Stray]:
    for record in (root / ASSIGNED).glob("*.json"):
        try:
            path = json.loads(record.read_text(encoding="utf-8"))["path"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not ours to judge
        if not (root / path).exists():
            yield Stray(path=record, why=f"names {path}, which is gone")
