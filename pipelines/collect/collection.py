"""Take away what nobody needs: found, moved into the trash, looked at again, deleted.

A process may be killed at any moment. Runs are moved those first that depend on others, so that
what is left in the root is whole at every moment, and the next `olmo gc --delete` ends the work.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.execution.hold import results_alone
from assets.launcher import Launcher, Refused
from pipelines.collect.caches import find_caches
from pipelines.collect.decisions import pins, releases, require_own
from pipelines.collect.mark import Recipes, mark
from pipelines.collect.named import named
from pipelines.collect.records import Records, Run, read_records
from pipelines.collect.sizes import Sizes
from pipelines.collect.strays import Stray, find_strays, remove
from pipelines.collect.trash import (
    RUNS,
    Trashed,
    bins,
    empty,
    forget_empty,
    give_up,
    new_bin,
    put_back,
    seal,
    take_away,
    trashed,
)

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be taken away."""

    older_than_seconds: float
    only: Sequence[str] = ()  # these versions, however old they are
    dependents: bool = False  # with those, what depends on them
    released: bool = False  # of those, also what has been published


@dataclass(frozen=True, kw_only=True)
class Found:
    """What stays and what may go, with the reasons; `goes` has readers first."""

    records: Records
    stays: Mapping[str, str]
    goes: Mapping[str, str]
    caches: Mapping[str, str]  # of results that are gone or go
    freed: Mapping[str, int]  # bytes, by the name of what goes
    strays: Sequence[Stray]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What has been done."""

    found: Found
    returned: Sequence[str]  # put back, since something that is there depends on it
    left: Mapping[str, str]  # could not be moved, and why
    wrong: Sequence[str] = ()  # could not be deleted, and why


def find(root: Path, recipes: Recipes, launcher: Launcher, asked: Asked) -> Found:
    """Return what would be taken away now; changes nothing.

    Raises:
        Refused: what is named may not go.
        ValueError: a record of a decision cannot be read, so that it is not known what stays.
    """
    records = read_records(root)
    if asked.only:
        goes = named(
            records,
            launcher,
            asked.only,
            dependents=asked.dependents,
            released=asked.released,
        )
        stays = {name: "not named" for name in records.runs if name not in goes}
    else:
        strange: dict[str, str] = {}
        while True:
            marked = mark(
                records,
                recipes,
                launcher,
                older_than_seconds=asked.older_than_seconds,
                further=strange,
            )
            more = {n: why for n in marked.goes if (why := _strange(records.runs[n]))}
            if not more:
                break
            strange |= more
        stays, goes = marked.stays, marked.goes
    caches = find_caches(records, goes, all_unused=not asked.only)
    sizes = Sizes()
    for name in (*goes, *caches):
        sizes.add(name, root / name)
    return Found(
        records=records,
        stays=stays,
        goes=goes,
        caches=caches,
        freed=sizes.freed,
        strays=find_strays(records),
    )


def collect(
    root: Path,
    recipes: Recipes,
    launcher: Launcher,
    asked: Asked,
    *,
    keep_trash: bool,
    deleted: Callable[[int], None],
) -> Outcome:
    """Take away what may go, and delete it with all that the trash held before.

    Args:
        root: The folder of all results.
        recipes: As they stand now.
        launcher: Knows what is at work.
        asked: What is to go.
        keep_trash: Leave everything in the trash, where it can be put back.
        deleted: Told of each so many files that have been deleted.

    Raises:
        Refused: the root is shared, what is named may not go, or a launch is not over.
    """
    require_own(root)
    with results_alone(root, PATIENCE_SECONDS):
        returned = _return_needed(root)  # of one that was killed
        found = find(root, recipes, launcher, asked)
        bin = new_bin(root, found.goes)
        left: dict[str, str] = {}
        for name in found.goes:
            readers = [each for each in found.records.readers.get(name, ()) if each in left]
            try:
                if readers:
                    raise Refused(f"{name}: {readers[0]}, which stays, depends on it")
                take_away(root, name, bin)
            except Refused as error:
                left[name] = str(error)
        returned += _return_needed(root)
        records = read_records(root)
        remove(root, find_strays(records))
        if keep_trash:
            forget_empty(bin)
        else:
            for name in find_caches(records, (), all_unused=True).keys() & found.caches.keys():
                give_up(root, name, bin)
            seal(root)
    wrong = [] if keep_trash else empty(root, deleted)
    return Outcome(found=found, returned=returned, left=left, wrong=wrong)


def restore(root: Path) -> tuple[list[str], list[str]]:
    """Put everything back that is in the trash; return what is back, and why others are not.

    Raises:
        Refused: a launch is not over.
    """
    require_own(root)
    back: list[str] = []
    wrong: list[str] = []
    with results_alone(root, PATIENCE_SECONDS):
        for run in _inputs_first(root, trashed(root)):
            try:
                put_back(root, run)
                back.append(run.name)
            except Refused as error:
                wrong.append(str(error))
    return back, wrong


def _return_needed(root: Path) -> list[str]:
    """Put back what something that is there depends on, with all that it depends on itself."""
    there = {run.name: run for run in trashed(root)}
    if not there:
        return []
    records = read_records(root)
    wanted = {name for each in (*pins(root), *releases(root)) for name in each.runs}
    gone = {run.fingerprint: run.name for run in _in_trash(root).values() if run.fingerprint}
    for run in (*records.runs.values(), *records.replays):
        wanted |= run.mentions
        wanted |= {gone[value] for value in run.fingerprints_read if value in gone}
    needed = set(wanted & there.keys()) - records.runs.keys()  # made anew meanwhile
    lost = _in_trash(root)
    waiting = [*needed]
    while waiting:
        more = lost[waiting.pop()].mentions & there.keys() - needed - records.runs.keys()
        needed |= more
        waiting.extend(more)
    back: list[str] = []
    for run in _inputs_first(root, [there[name] for name in needed]):
        put_back(root, run)
        back.append(run.name)
    return back


def _in_trash(root: Path) -> Mapping[str, Run]:
    return {name: run for bin in bins(root) for name, run in read_records(bin / RUNS).runs.items()}


def _inputs_first(root: Path, runs: Sequence[Trashed]) -> list[Trashed]:
    """Return runs of the trash so that nothing comes back before what it depends on."""
    lost, by_name = _in_trash(root), {run.name: run for run in runs}
    order: list[Trashed] = []
    seen: set[str] = set()
    waiting = [(name, False) for name in by_name]
    while waiting:
        name, placed = waiting.pop()
        if placed:
            order.append(by_name[name])
        elif name not in seen:
            seen.add(name)
            waiting.append((name, True))
            waiting += [(each, False) for each in lost[name].mentions & by_name.keys() - seen]
    return order


def _strange(run: Run) -> str:
    """Return which file of a finished run its job has not written; empty where there is none."""
    if run.finished is None:
        return ""
    known = run.folder.read_result()["files"]
    ended_ns = run.folder.result.stat().st_mtime_ns
    for path in run.folder.outputs():
        if str(path) not in known and (run.folder.path / path).lstat().st_mtime_ns > ended_ns:
            return f"holds {path}, which its job has not written"
    return ""
