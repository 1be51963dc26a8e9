"""The clusters of near copies among the documents that are left where others are held out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olmo_core.corpus.duplicates.columns import Array, arrow
from olmo_core.corpus.duplicates.components import CLUSTERS
from olmo_core.corpus.duplicates.keys import LINE_BITS, answers, query, quoted, table_file

CLUSTERS_FILE = "clusters.parquet"  # of assets near_duplicates and held_out
# A document that is left without its near copies has no row. Excluded ones lie below `first`, those
# of earlier corpora below `own`: a cluster of theirs alone has none either.
LEFT_CLUSTERS = """
    create table staying as
    select place, cluster from read_parquet({clusters}, hive_partitioning = false)
    anti join gone using (place) where place >= {first};
    create view firsts as
    select cluster, min(place) as first from staying
    group by cluster having count(*) > 1 and max(place) >= {own}::ubigint
"""
BY_PLACE = "select place, first as cluster from staying join firsts using (cluster) order by place"


def write_clusters(
    clusters: Path,
    gone: Sequence[int],
    counts: Sequence[int],
    first: int,
    out: Path,
    *,
    earlier: int = 0,
) -> None:
    """Write the clusters of what remains: each by the first of its documents that are left.

    Args:
        clusters: Of all documents.
        gone: Places of those that are held out.
        counts: Documents of each shard; one of which none remains is left out.
        first: Number of the first shard in `clusters`; in `out` it is 0.
        out: Where to write.
        earlier: Shards of earlier corpora, from `first` on; all of their documents are left.
    """
    places = np.sort(np.array(gone, np.uint64))
    moved = _Moved(places, np.array([1] * earlier + [*counts]), first)
    with query(out) as connection, table_file(out, CLUSTERS) as add:
        connection.register("gone", arrow().table({"place": places}))
        values = {"clusters": quoted(clusters), "first": first << LINE_BITS}
        values |= {"own": first + earlier << LINE_BITS}
        connection.execute(LEFT_CLUSTERS.format(**values))
        for rows in answers(connection, BY_PLACE):
            add({name: moved.to(rows[name]) for name in CLUSTERS})


class _Moved:
    """Where documents stand once others are gone."""

    def __init__(self, gone: Array, counts: Array, first: int) -> None:
        self._gone = gone
        self._first = first
        shards = (gone >> np.uint64(LINE_BITS)).astype(np.int64) - first
        stays = np.bincount(shards, minlength=len(counts)) < counts
        self._numbers = (np.cumsum(stays) - stays).astype(np.uint64)  # of shards before each

    def to(self, places: Array) -> Array:
        """Return the places that documents which are left have among themselves."""
        bits = np.uint64(LINE_BITS)
        shards = places >> bits
        before = np.searchsorted(self._gone, places) - np.searchsorted(self._gone, shards << bits)
        numbers = self._numbers[shards.astype(np.int64) - self._first]
        lines = places - (shards << bits) - before.astype(np.uint64)
        return numbers << bits | lines
