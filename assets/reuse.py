"""Reuse results: equal fingerprints are one result, whichever recipe asks and in whichever root.

Of the recipe's own folder the newest run counts. Of those elsewhere it is the oldest, and other
recipes of this root come before shared roots: a forced repeat elsewhere changes nothing here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assets.fingerprint import Fingerprint
from assets.paths import shared_roots, versions
from olmo_core.run.folder import RunFolder

OWN = "own"  # the root of an input that lies in the root of its reader's result


def finished_elsewhere(parent: Path, root: Path, identity: Fingerprint) -> Iterator[RunFolder]:
    """Yield the finished runs of this fingerprint of other recipes, then of shared roots.

    `parent` is the asking recipe's own folder of the asset. The whole fingerprint is compared: a
    folder's name holds only its beginning.
    """
    yield from _oldest_first(siblings(parent, root), identity)
    for shared in shared_roots(root):
        yield from _oldest_first(_same_asset(parent, root, shared), identity)


def unfinished_elsewhere(parent: Path, root: Path, identity: Fingerprint) -> list[RunFolder]:
    """Return the unfinished runs of this fingerprint of other recipes of this root."""
    runs = [run for folder in siblings(parent, root) for run in versions(folder, identity.version)]
    equal = [run for run in runs if _record(run).get("fingerprint") == identity.value]
    return [run for run in equal if not run.finished]


def siblings(parent: Path, root: Path) -> list[Path]:
    """Return the folders of the same asset, and partition, of the other recipes of this root."""
    return [folder for folder in _same_asset(parent, root, root) if folder != parent]


def root_of(path: Path, root: Path) -> Path:
    """Return the root that a run folder, or something in it, lies in: `root` or a shared one."""
    for candidate in (root, *shared_roots(root)):
        if path.is_relative_to(candidate):
            return candidate
    raise ValueError(f"{path}: neither below {root} nor below a shared root")


def reused_from(run: RunFolder, root: Path, recipe: str) -> str | None:
    """Return whose work a run is: another recipe's name, or a shared root; None if `recipe`'s own.

    A job belongs to the recipe that has submitted it last, in whichever folder it works.
    """
    found = root_of(run.path, root)
    if found != root:
        return str(found)
    by = submitter(run)
    return None if by in (None, recipe) else by


def submitter(run: RunFolder) -> str | None:
    """Return the recipe that has submitted a run's job last; None if it was started by hand."""
    return _record(run).get("recipe")


def location(path: Path, root: Path) -> dict[str, str]:
    """Return where an input lies, as launch.json and result.json record it."""
    found = root_of(path, root)
    return {
        "root": OWN if found == root else str(found),
        "path": str(path.relative_to(found)),
    }


def located(recorded: Mapping[str, Any], run: RunFolder, root: Path) -> Path:
    """Return where an input lies that `run` has recorded; `own` is the root that the run is in."""
    found = recorded["root"]
    return (root_of(run.path, root) if found == OWN else Path(found)) / recorded["path"]


def _same_asset(parent: Path, root: Path, other: Path) -> list[Path]:
    _, *asset = parent.relative_to(root).parts
    if not other.is_dir():
        return []
    return [
        folder for path in sorted(other.iterdir()) if (folder := path.joinpath(*asset)).is_dir()
    ]


def _oldest_first(folders: list[Path], identity: Fingerprint) -> list[RunFolder]:
    runs = [run for folder in folders for run in versions(folder, identity.version) if run.finished]
    results = {run: run.read_result() for run in runs}
    equal = [run for run in runs if results[run]["fingerprint"] == identity.value]
    return sorted(equal, key=lambda run: results[run]["finished"])


def _record(run: RunFolder) -> Mapping[str, Any]:
    return run.read_result() if run.finished else run.read(run.launch) or {}
