"""Read files in groups: each group is a task of its own, and writes shards of its own.

Memory is bounded by a shard. Groups depend on the files alone, so that any number of processes
makes the same shards. A source with `max_bytes` is one group: where it is full, reading ends.
"""

import gzip
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import Document, document_row, write_documents
from olmo_core.corpus.intake.exclusions import Exclusions, read_entries
from olmo_core.corpus.intake.pieces import Counts, Placed, documents_of
from olmo_core.corpus.intake.readers import READERS
from olmo_core.corpus.intake.sources import SourceConfig, Unit
from olmo_core.corpus.intake.unique_ids import Keys
from olmo_core.corpus.rows import packed, row_line
from olmo_core.files import read_json, write_json

QUARANTINE = "quarantine.jsonl.gz"
EXCLUDED = "excluded.jsonl.gz"


def list_files(source: SourceConfig, out: Path) -> dict[str, int]:
    """Write the files of a source and their sizes; return how many are left out, by reason."""
    listing = READERS[source.reader].units(source)
    write_json(
        out,
        [
            {
                "name": unit.name,
                "path": str(unit.path),
                "origin": dict(unit.origin),
                "attributes": [str(path) for path in unit.attributes],
                "bytes": unit.path.stat().st_size,
            }
            for unit in listing.units
        ],
        durable=False,
    )
    return dict(listing.left_out)


def listed_groups(listed: Path, shard_bytes: int) -> list[list[Unit]]:
    """Return the files that `list_files` wrote, in their order, in groups of about a shard."""
    groups: list[list[Unit]] = []
    filled = shard_bytes
    rows: list[dict[str, Any]] = read_json(listed)
    for row in rows:
        if filled >= shard_bytes:
            groups.append([])
            filled = 0
        unit = Unit(
            name=row["name"],
            path=Path(row["path"]),
            origin=row["origin"],
            attributes=tuple(map(Path, row["attributes"])),
        )
        groups[-1].append(unit)
        filled += row["bytes"]
    return groups


def read_group(
    source: SourceConfig, units: Sequence[Unit], shard_bytes: int, out: Path
) -> dict[str, Any]:
    """Read files and write shards and the keys of their ids into `out`; in a process of its own.

    Returns:
        The fields of a `reading.Group` that tell what was found.
    """
    return _read(source, units, Counts(), shard_bytes, out)


def read_bounded(source: SourceConfig, shard_bytes: int, out: Path) -> dict[str, Any]:
    """Do the same with files of a source until its `max_bytes` are full, as one group.

    The files are taken in the order of a hash of their names, and no other is opened.
    """
    listing = READERS[source.reader].units(source)
    units = sorted(listing.units, key=lambda unit: hashlib.sha256(unit.name.encode()).digest())
    return _read(source, units, Counts(left_out=listing.left_out), shard_bytes, out)


def _read(
    source: SourceConfig, units: Sequence[Unit], counts: Counts, shard_bytes: int, out: Path
) -> dict[str, Any]:
    documents: list[int] = []
    text_bytes = 0
    sample = ""
    exclusions = Exclusions(read_entries(source))
    out.mkdir()
    with packed(out / QUARANTINE) as refused, packed(out / EXCLUDED) as excluded:
        read = _taken(source, units, counts, exclusions, lambda row: refused.write(row_line(row)))
        found = _set_apart(read, counts, excluded)
        for number, first in enumerate(found):
            keys = Keys()
            sample = sample or first.document.sample()
            sizes: list[int] = []
            shard = _shard(chain([first], found), shard_bytes, keys, sizes)
            if source.attributes:
                with packed(attributes_path(out, number)) as attributes:
                    write_documents(shard_path(out, number), _beside(shard, attributes))
            else:
                write_documents(shard_path(out, number), (placed.document for placed in shard))
            keys.write(keys_path(out, number))
            documents.append(len(sizes))
            text_bytes += sum(sizes)
    if not counts.quarantined:
        (out / QUARANTINE).unlink()
    if not counts.excluded:
        (out / EXCLUDED).unlink()
    return {
        "documents": documents,
        "text_bytes": text_bytes,
        "files": counts.files,
        "ids": counts.ids,
        "left_out": counts.left_out,
        "quarantined": counts.quarantined,
        "excluded": counts.excluded,
        "matched": sorted(exclusions.matched),
        "sample": sample,
    }


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of a group's shard."""
    return folder / f"{number:06d}.jsonl.gz"


def attributes_path(folder: Path, number: int) -> Path:
    """Return the file of the attributes of a group's shard, where its source brings some."""
    return folder / f"{number:06d}-attributes.jsonl.gz"


def keys_path(folder: Path, number: int) -> Path:
    """Return the file of the keys of a group's shard."""
    return folder / f"{number:06d}.npy"


def _taken(
    source: SourceConfig,
    units: Sequence[Unit],
    counts: Counts,
    exclusions: Exclusions,
    quarantine: Callable[[dict[str, Any]], Any],
) -> Iterator[Placed]:
    """Yield the documents of files that the source's bound has room for."""
    room = math.inf if source.max_bytes is None else source.max_bytes
    for unit in units:
        if room <= 0:
            counts.left_out["beyond max_bytes (files)"] += 1
            continue
        counts.files += 1
        for placed in documents_of(source, unit, counts, exclusions, quarantine):
            room -= placed.document.text_bytes  # of an excluded one, too: none takes its place
            if room < 0 and not placed.excluded:  # near copies of those leave other sources, too
                counts.left_out["beyond max_bytes (texts)"] += 1
            else:
                yield placed


def _set_apart(read: Iterator[Placed], counts: Counts, excluded: gzip.GzipFile) -> Iterator[Placed]:
    """Yield the documents that are not excluded; write and count the others."""
    for placed in read:
        if placed.excluded:
            counts.excluded[placed.excluded] += 1
            excluded.write(row_line(document_row(placed.document)))
        else:
            yield placed


def _shard(
    found: Iterator[Placed], shard_bytes: int, keys: Keys, sizes: list[int]
) -> Iterator[Placed]:
    """Yield documents until they fill a shard; note their keys and sizes."""
    filled = 0
    for placed in found:
        keys.add(placed.document.id, placed.file, placed.line)
        sizes.append(placed.document.text_bytes)
        yield placed
        filled += sizes[-1]
        if filled >= shard_bytes:
            return


def _beside(shard: Iterator[Placed], attributes: gzip.GzipFile) -> Iterator[Document]:
    """Yield documents; write the attributes of each, row for row."""
    for placed in shard:
        row = {"id": placed.document.id, "attributes": placed.attributes}
        attributes.write(row_line(row))
        yield placed.document
