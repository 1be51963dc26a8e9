"""Which runs recipes reuse of each other: `<root>/.reused/<recipe>/<asset>[/<partition>].json`.

A recipe that reuses another's result has no folder of its own that says so. Whoever takes old
results away must know, also where that recipe is not at hand.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from olmo_core.files import write_json
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder, read_versioned

FOLDER = ".reused"  # no recipe's name begins with a dot
REMEDY = "delete it: the next `olmo run` of that recipe writes it anew"


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """What a recipe has reused last as an asset, or a partition of it."""

    reader: str  # <recipe>/<asset>[/<partition>]
    path: str  # of the run folder, below the root


def record_reuse(reader: Path, run: RunFolder, root: Path) -> None:
    """Record that a run of this root counts as the asset whose own folder would be `reader`."""
    record = root / FOLDER / f"{reader.relative_to(root)}.json"
    path = str(run.path.relative_to(root))
    if record.is_file() and _read(record)["path"] == path:
        return
    write_json(record, {"schema_version": SCHEMA_VERSION, "path": path, "time": time.time()})


def reuses(root: Path) -> Iterator[Reuse]:
    """Yield what is reused of a root by its recipes.

    Raises:
        ValueError: a record is malformed or of another schema version.
    """
    for record in sorted((root / FOLDER).rglob("*.json")):
        reader = str(record.relative_to(root / FOLDER)).removesuffix(".json")
        yield Reuse(reader=reader, path=_read(record)["path"])


def _read(record: Path) -> dict[str, str]:
    return read_versioned(record, REMEDY)
