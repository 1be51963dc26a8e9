"""Read files in groups: each group is a task of its own, and writes shards of its own.

Memory is bounded by a shard. Groups depend on the files alone, so that any number of processes
makes the same shards. A source with `max_bytes` is one group: where it is full, reading ends.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import Document, write_documents
from olmo_core.corpus.intake.pieces import Counts, documents_of
from olmo_core.corpus.intake.readers import READERS
from olmo_core.corpus.intake.sources import SourceConfig, Unit
from olmo_core.corpus.intake.unique_ids import Keys
from olmo_core.corpus.rows import packed, row_line
from olmo_core.files import read_json, write_json

QUARANTINE = "quarantine.jsonl.gz"


def list_files(source: SourceConfig, out: Path) -> dict[str, int]:
    """Write the files of a source and their sizes; return how many are left out, by reason."""
    listing = READERS[source.reader].units(source)
    write_json(
        out,
        [(u.name, str(u.path), dict(u.origin), u.path.stat().st_size) for u in listing.units],
        durable=False,
    )
    return dict(listing.left_out)


def listed_groups(listed: Path, shard_bytes: int) -> list[list[Unit]]:
    """Return the files that `list_files` wrote, in their order, in groups of about a shard."""
    groups: list[list[Unit]] = []
    filled = shard_bytes
    rows: list[tuple[str, str, dict[str, str], int]] = read_json(listed)
    for name, path, origin, size in rows:
        if filled >= shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(Unit(name=name, path=Path(path), origin=origin))
        filled += size
    return groups


def read_group(
    source: SourceConfig, units: Sequence[Unit], shard_bytes: int, out: Path
) -> dict[str, Any]:
    """Read files and write shards and the keys of their ids into `out`; in a process of its own.

    Returns:
        The fields of a `raw.Group` that tell what was found.
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
    out.mkdir()
    with packed(out / QUARANTINE) as refused:
        found = _taken(source, units, counts, lambda row: refused.write(row_line(row)))
        for number, first in enumerate(found):
            keys = Keys()
            sample = sample or first.document.sample()
            sizes: list[int] = []
            write_documents(
                shard_path(out, number), _shard(chain([first], found), shard_bytes, keys, sizes)
            )
            keys.write(keys_path(out, number))
            documents.append(len(sizes))
            text_bytes += sum(sizes)
    if not counts.quarantined:
        (out / QUARANTINE).unlink()
    return {
        "documents": documents,
        "text_bytes": text_bytes,
        "files": counts.files,
        "ids": counts.ids,
        "left_out": counts.left_out,
        "quarantined": counts.quarantined,
        "sample": sample,
    }


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of a group's shard."""
    return folder / f"{number:06d}.jsonl.gz"


def keys_path(folder: Path, number: int) -> Path:
    """Return the file of the keys of a group's shard."""
    return folder / f"{number:06d}.npy"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Placed:
    document: Document
    file: str
    line: int


def _taken(
    source: SourceConfig,
    units: Sequence[Unit],
    counts: Counts,
    quarantine: Callable[[dict[str, Any]], Any],
) -> Iterator[_Placed]:
    """Yield the documents of files that the source's bound has room for."""
    room = math.inf if source.max_bytes is None else source.max_bytes
    for unit in units:
        if room <= 0:
            counts.left_out["beyond max_bytes (files)"] += 1
            continue
        counts.files += 1
        for document, line in documents_of(source, unit, counts, quarantine):
            room -= document.text_bytes
            if room < 0:
                counts.left_out["beyond max_bytes (texts)"] += 1
            else:
                yield _Placed(document=document, file=unit.name, line=line)


def _shard(
    found: Iterator[_Placed], shard_bytes: int, keys: Keys, sizes: list[int]
) -> Iterator[Document]:
    """Yield documents until they fill a shard; note their keys and sizes."""
    filled = 0
    for placed in found:
        keys.add(placed.document.id, placed.file, placed.line)
        sizes.append(placed.document.text_bytes)
        yield placed.document
        filled += sizes[-1]
        if filled >= shard_bytes:
            return
