"""Caches that are of a result, by the digest of its content, as `cache/quotes/<digest>`.

They can be had again, and go with the last run of such content. Other caches are of no one result:
scores by all that decides them, and what of shared results has been compared.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from assets.lineage.place_blocks import BLOCKS
from assets.lineage.quotes import QUOTES
from assets.paths import shared_roots
from olmo_core.lineage.quotes.build import LOCK
from olmo_core.run.folder import is_locked
from pipelines.collect.records import Records, read_records

_CACHES = {QUOTES: "of tokens that are gone", BLOCKS: "of a documents index that is gone"}


def find_caches(records: Records, goes: Collection[str], *, all_unused: bool) -> Mapping[str, str]:
    """Return caches whose result is gone or goes, by their place below the root, with why.

    None where a run's digest cannot be read, here or in a shared root.

    Args:
        records: Of the root.
        goes: Names of runs that go.
        all_unused: Also what is of no run that goes now.
    """
    folders = {records.root / place: why for place, why in _CACHES.items()}
    there = [each for each in folders if each.is_dir() and not each.is_symlink()]
    if not there:
        return {}
    runs = [*records.runs.values()]
    for root in shared_roots(records.root):
        runs += read_records(root).runs.values()
    if any(run.damage for run in runs):
        return {}
    used = {run.digest for run in runs if run.name not in goes or run.name not in records.runs}
    gone = {run.digest for run in runs if run.name in goes}
    found: dict[str, str] = {}
    for path in (path for folder in there for path in sorted(folder.iterdir())):
        wanted = path.name not in used and (all_unused or path.name in gone)
        if wanted and _is_cache(path) and not is_locked(path / LOCK):
            found[str(path.relative_to(records.root))] = folders[path.parent]
    return found


def _is_cache(path: Path) -> bool:
    hexadecimal = len(path.name) == 64 and not set(path.name) - set("0123456789abcdef")
    return hexadecimal and path.is_dir() and not path.is_symlink()
