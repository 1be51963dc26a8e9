"""Documents that are in a cluster, beside what is known of the cluster, by merging sorted files."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.duplicates.columns import Array, arrow, as_array, parquet, read_batches
from olmo_core.corpus.duplicates.components import SPREAD
from olmo_core.corpus.duplicates.keys import (
    PartitionedFile,
    by_key,
    read_partition,
    table_file,
)

FACTS = {
    "place": "uint64",
    "source": "uint32",  # its number in the list of names
    "text_bytes": "uint64",
    "own_order": "uint64",
    "cluster": "uint64",
}
CLUSTERED = {
    "place": "uint64",
    "source": "uint32",
    "text_bytes": "uint64",
    "cluster": "uint64",
    "order": "uint64",  # of the cluster: its first document's own
    "size": "uint64",  # documents of the cluster
}
READ_ROWS = 1 << 17  # held at a time, of each file
PARTITION_ROWS = 1 << 18  # on average, at most; a cluster is never divided


def write_clustered(surveys: Sequence[Path], clusters: Path, out: Path) -> list[str]:
    """Write a row of `CLUSTERED` per document of a cluster.

    A cluster that begins with a document that no survey has, one that is excluded or of an earlier
    corpus, is left out.

    Args:
        surveys: Rows of all documents, in the order of their places.
        clusters: The place and the cluster of those that have one, in the same order.
        out: The Parquet file to write.

    Returns:
        The names of the sources by their number.
    """
    rows = parquet().ParquetFile(clusters).metadata.num_rows
    partitions = 1 << (rows // PARTITION_ROWS).bit_length()
    names: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        beside = Path(scratch) / "by_cluster"
        with PartitionedFile(beside, FACTS, partitions) as found:
            for facts in _merged(surveys, clusters, names):
                found.write(facts, by_key(facts["cluster"] * SPREAD, partitions))
        with table_file(out, CLUSTERED) as add:
            for number in range(partitions):
                batches = [*read_partition([beside], number, partitions)]
                if batches:
                    add(_with_order({n: _joined(batches, n) for n in FACTS}))
    return list(names)


def _with_order(facts: dict[str, Array]) -> dict[str, Array]:
    """Return rows of whole clusters with the cluster's order and size, where its first is known."""
    first = np.flatnonzero(facts["place"] == facts["cluster"])
    first = first[np.argsort(facts["cluster"][first])]
    clusters = facts["cluster"][first]
    at = np.searchsorted(clusters, facts["cluster"])
    known = at < len(clusters)
    known[known] = clusters[at[known]] == facts["cluster"][known]
    at = at[known]
    sizes = np.bincount(at, minlength=len(clusters)).astype(np.uint64)
    kept = {name: facts[name][known] for name in ("place", "source", "text_bytes", "cluster")}
    return {**kept, "order": facts["own_order"][first][at], "size": sizes[at]}


def _merged(
    surveys: Sequence[Path], clusters: Path, names: dict[str, int]
) -> Iterator[dict[str, Array]]:
    """Yield rows of `FACTS`; `names` gets the sources that are met."""
    members = read_batches([clusters], READ_ROWS)
    held = next(members, None)
    for batch in read_batches(surveys, READ_ROWS):
        documents = {name: as_array(batch[name]) for name in ("place", "text_bytes", "own_order")}
        source = _numbers(batch["source"], names)
        last = int(documents["place"][-1])
        while held is not None:
            places, cluster = (as_array(held[name]) for name in ("place", "cluster"))
            end = int(np.searchsorted(places, last, side="right"))
            rows: Array = np.searchsorted(documents["place"], places[:end])
            known = documents["place"][rows] == places[:end]  # not where no survey has it
            at = rows[known]
            facts = {name: column[at] for name, column in documents.items()}
            yield {**facts, "source": source[at], "cluster": cluster[:end][known]}
            if end < len(places):
                held = held.slice(end)
                break
            held = next(members, None)


def _numbers(column: Any, names: dict[str, int]) -> Array:
    """Return the number of each source, a new one where it has none."""
    coded = column.dictionary_encode()
    numbers = [names.setdefault(name, len(names)) for name in coded.dictionary.to_pylist()]
    return np.array(numbers, np.uint32)[as_array(coded.indices)]


def _joined(batches: Sequence[Any], name: str) -> Array:
    return as_array(arrow().concat_arrays([batch.column(name) for batch in batches]))
