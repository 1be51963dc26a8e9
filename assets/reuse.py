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


def runs_of(parent: Path, root: Path, identity: Fingerprint) -> Iterator[RunFolder]:
    """Yield the run folders of a fingerprint, the one that counts most first.

    `parent` is the asking recipe's own folder of the asset. Elsewhere the whole fingerprint is
    compared: a folder's name holds only its beginning. Unfinished runs come last, those of this
    root alone.
    """
    yield from reversed(versions(parent, identity.version))

    unfinished: list[RunFolder] = []
    for other in (root, *shared_roots(root)):
        folders = [folder for folder in _same_asset(parent, root, other) if folder != parent]
        runs = [run for folder in folders for run in versions(folder, identity.version)]
        records = [(run, _record(run)) for run in runs if other == root or run.finished]
        equal = [pair for pair in records if pair[1].get("fingerprint") == identity.value]
        made = [pair for pair in equal if "finished" in pair[1]]
        yield from (run for run, _ in sorted(made, key=lambda pair: pair[1]["finished"]))
        unfinished += [run for run, record in equal if "finished" not in record]
    yield from unfinished


def every_run(parent: Path, root: Path, *shared: Path) -> Iterator[RunFolder]:
    """Yield the runs of an asset below some roots, whatever made them: its own recipe's first."""
    found = [folder for place in (root, *shared) for folder in _same_asset(parent, root, place)]
    for folder in sorted(found, key=lambda folder: folder != parent):
        yield from (RunFolder(path) for path in sorted(folder.iterdir()) if path.is_dir())


def own_jobs(parent: Path, root: Path) -> list[RunFolder]:
    """Return the unfinished jobs of an asset that its own recipe has submitted, wherever they are.

    `parent` is the recipe's folder of the asset. A job of another recipe that this one only
    follows is not among them.
    """
    recipe = parent.relative_to(root).parts[0]
    runs = every_run(parent, root)
    return [run for run in runs if not run.finished and submitter(run) == recipe]


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
    """Return the folders of the same asset, and partition, of every recipe of a root."""
    if not other.is_dir():
        return []
    _, *asset = parent.relative_to(root).parts
    folders = [path.joinpath(*asset) for path in sorted(other.iterdir())]
    return [folder for folder in folders if folder.is_dir()]


def _record(run: RunFolder) -> Mapping[str, Any]:
    return run.read_result() if run.finished else run.read(run.launch) or {}
