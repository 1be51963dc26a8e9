"""Find evaluations that the store lacks: of an earlier version, a killed job, a training."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from olmo_core.evals.store.files import damage
from olmo_core.evals.store.in_loop import record_in_loop, trainings
from olmo_core.evals.store.read import IN_LOOP
from olmo_core.evals.store.schema import ASSETS, FOLDER
from olmo_core.evals.store.write import SEPARATOR, record
from olmo_core.run.folder import RunFolder

T = TypeVar("T")


def gather(root: Path) -> dict[Path, str]:
    """Add the evaluations below a root that its store lacks: finished jobs', and trainings' own.

    Returns:
        The run folders whose rows cannot be kept, with what is wrong.
    """
    tried = [
        *((run.path, tried_on(run, lambda run: record(run, root))) for run in unrecorded(root)),
        *(
            (run.path, tried_on(run, lambda run: record_in_loop(run, root)))
            for run in trainings(root)
        ),
    ]
    return {path: ended for path, ended in tried if isinstance(ended, str)}


def restored(path: Path, root: Path) -> bool:
    """Write a damaged file of the store anew from its run folder; False if that is gone."""
    *place, _ = path.name.split(SEPARATOR)
    folder = root / path.parent.relative_to(root / FOLDER)
    if folder.name == IN_LOOP:
        model, version = place
        run = RunFolder(folder.parent / model.partition("@")[0] / version)
        if run.metrics.is_file():
            tried_on(run, lambda run: record_in_loop(run, root))
        return damage(path) is None
    run = RunFolder(folder / "/".join(place))
    if run.finished:
        tried_on(run, lambda run: record(run, root))
    return damage(path) is None


def tried_on(run: RunFolder, read: Callable[[RunFolder], T]) -> T | str:
    """Return what is read of a finished evaluation, or why it cannot be read."""
    try:
        return read(run)
    except (OSError, ValueError) as error:
        return str(error) if str(run.path) in str(error) else f"{run.path}: {error}"


def unrecorded(root: Path) -> Iterator[RunFolder]:
    """Yield the finished evaluations below a root that no file of its store is of.

    A run that has been made again in the same folder is one: its result is newer than the file.
    """
    kept: dict[tuple[str, ...], int] = {}
    for path in (root / FOLDER).glob("*/*/*.parquet"):
        *place, _ = path.name.split(SEPARATOR)
        key = (path.parts[-3], path.parts[-2], *place)
        kept[key] = max(kept.get(key, 0), path.stat().st_mtime_ns)
    patterns = (
        f"*/{asset}/{'*/' * asset.startswith('checkpoint_')}*/result.json" for asset in ASSETS
    )
    for result in itertools.chain.from_iterable(map(root.glob, patterns)):
        key = result.parent.relative_to(root).parts
        if kept.get(key, -1) < result.stat().st_mtime_ns and RunFolder(result.parent).finished:
            yield RunFolder(result.parent)
