"""What may be held out: narrow rows of all documents, and the clusters that come first."""

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from olmo_core.corpus.document import read_documents
from olmo_core.corpus.duplicates.clustered import write_clustered
from olmo_core.corpus.duplicates.columns import arrow
from olmo_core.corpus.duplicates.keys import Group, place, query, quoted, table_file

DOCUMENTS = {"place": "uint64", "source": "string", "text_bytes": "uint64", "own_order": "uint64"}

# A document that is alone is its own cluster. A cluster that begins with a document that is
# excluded, or of an earlier corpus, has no row in `clustered`, and its members are not alone.
DOCUMENTS_WITH_CLUSTERS = """
    create view documents as from read_parquet({surveys}, hive_partitioning = false);
    create view clusters as from read_parquet({clusters}, hive_partitioning = false);
    create view clustered as
    select place, name as source, text_bytes, cluster, "order", size
    from read_parquet({clustered}, hive_partitioning = false) rows
        join names on rows.source = names.number;
"""
SOURCES = """
    with near as (
        select source, count(*) as near_duplicates, max(size) as largest_cluster
        from clustered group by source
    )
    select source, count(*), sum(text_bytes)::bigint, coalesce(any_value(near_duplicates), 0),
        coalesce(any_value(largest_cluster), 1)
    from documents left join near using (source) group by source order by source
"""
# All documents are read for the next ones of a source, in no order: no more than `limit` are kept.
NEXT_DOCUMENTS = """
    create or replace table nearest as
    select place, source, text_bytes, own_order as "order" from documents
    where source = $source and text_bytes <= $most_bytes
        and (own_order > $order or (own_order = $order and place > $place))
    order by "order", place limit $limit
"""
LAST_DOCUMENT = 'select "order", place from nearest order by "order" desc, place desc limit 1'
ALONE = """
    create or replace table alone as
    from nearest anti join (from clusters semi join nearest using (place)) using (place)
"""
# Clusters that come behind the last of the next documents are for a later time.
NEXT_CLUSTERS = """
    create or replace table asked as
    with parts as (
        select "order", cluster, arg_min(text_bytes, place) as first_bytes
        from clustered where source = $source group by all
    )
    select "order", cluster from parts where first_bytes <= $most_bytes
        and ("order" > $order or ("order" = $order and cluster > $place))
        and ("order" < $last_order or ("order" = $last_order and cluster <= $last_place))
    union all select "order", place from alone
    order by "order", cluster limit $limit
"""
# Of each cluster, what lies in one source.
PARTS = """
    select "order", cluster, source, count(*) as documents,
        arg_min(text_bytes, place) as first_bytes
    from clustered semi join asked using (cluster) group by all
    union all
    select "order", cluster, source, 1, text_bytes
    from (select *, place as cluster from alone) semi join asked using (cluster)
    order by "order", cluster, source
"""
MEMBERS = """
    with lone as (
        select cluster as place
        from taken anti join (from clusters semi join taken using (cluster)) using (cluster)
    ), whole as (
        select place, source, text_bytes, cluster from clustered semi join taken using (cluster)
        union all
        select place, source, text_bytes, place from documents semi join lone using (place)
    )
    select *, case when row_number() over (partition by cluster, source order by place) = 1
        then 'scored' else 'set aside' end as role
    from whole order by place
"""
NEAR_EXCLUDED = """
    select place, source, text_bytes, cluster, 'near excluded' as role
    from documents join clusters using (place) where cluster < $first order by place
"""


Position = tuple[int, int]  # of a cluster among all: its order, then its place
LAST: Position = (2**64 - 1, 2**64 - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A cluster as the choice sees it; its place among all is `order`, then `place`."""

    order: int
    place: int  # of its first document
    documents: dict[str, int]  # by source
    first_bytes: dict[str, int]  # of the text of the first document, by source


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A document that leaves training, of a cluster."""

    place: int
    source: str
    text_bytes: int
    cluster: int  # place of its first document
    role: str  # scored: the cluster's first in its source; set aside; near excluded


def cluster_order(seed: int, identity: str) -> int:
    """Return where a cluster stands among all, by the id of its first document."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{identity}".encode()).digest()[:8])


def survey_group(group: Group, documents: Path, seed: int, out: Path) -> list[int]:
    """Write a narrow row per document of a group; return the number of documents of each shard."""
    counts: list[int] = []
    with table_file(out, DOCUMENTS) as add:
        for shard, path in group.numbered:
            source = path.relative_to(documents).parts[0]
            rows = [
                (document.text_bytes, cluster_order(seed, document.id))
                for document in read_documents(path)
            ]
            sizes, orders = np.array(rows, np.uint64).reshape(-1, 2).T
            first = place(shard, 1)
            add(
                {
                    "place": np.arange(first, first + len(rows), dtype=np.uint64),
                    "source": [source] * len(rows),
                    "text_bytes": sizes,
                    "own_order": orders,
                }
            )
            counts.append(len(rows))
    return counts


class Survey:
    """The rows of all documents beside their clusters, on the disk, for queries that spill."""

    def __init__(self, surveys: Sequence[Path], clusters: Path, scratch: Path) -> None:
        self._surveys = surveys
        self._clusters = clusters
        self._scratch = scratch
        self._stack = ExitStack()

    def __enter__(self) -> "Survey":
        folder = tempfile.TemporaryDirectory(dir=self._scratch)
        clustered = Path(self._stack.enter_context(folder)) / "clustered.parquet"
        names = write_clustered(self._surveys, self._clusters, clustered)
        self._connection = self._stack.enter_context(query(self._scratch / "choose"))
        numbered = {"name": arrow().array(names, "string"), "number": np.arange(len(names))}
        self._connection.register("names", arrow().table(numbered))
        self._connection.execute(
            DOCUMENTS_WITH_CLUSTERS.format(
                surveys=f"[{', '.join(map(quoted, self._surveys))}]",
                clusters=quoted(self._clusters),
                clustered=quoted(clustered),
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sources(self) -> dict[str, dict[str, int]]:
        """Return the figures of each source, sorted by its name."""
        names = ("documents", "text_bytes", "near_duplicates", "largest_cluster")
        rows = self._connection.execute(SOURCES).fetchall()
        return {source: dict(zip(names, row, strict=True)) for source, *row in rows}

    def clusters(self, source: str, room: Callable[[], int], *, limit: int) -> Iterator[Cluster]:
        """Yield the clusters that have documents in a source, in their order, each whole.

        Args:
            source: Which.
            room: Returns the bytes that the cluster's first document in this source may have now;
                fewer from call to call. Not all clusters that are too large are left out.
            limit: Held at a time.
        """
        place: Position | None = (0, 0)
        while place is not None:
            found, place = self._next_clusters(source, room(), limit, place)
            yield from found

    def _next_clusters(
        self, source: str, most_bytes: int, limit: int, after: Position
    ) -> tuple[list[Cluster], Position | None]:
        """Return the next clusters, and what those that are left stand behind, if there are any."""
        run = self._connection.execute
        values = {"source": source, "most_bytes": most_bytes, "limit": limit}
        values |= dict(zip(("order", "place"), after, strict=True))
        run(NEXT_DOCUMENTS, values)
        [(count,)] = run("select count(*) from nearest").fetchall()
        last: Position = LAST
        if count == limit:
            [last] = run(LAST_DOCUMENT).fetchall()
        run(ALONE)
        run(NEXT_CLUSTERS, {**values, "last_order": last[0], "last_place": last[1]})
        parts: dict[Position, list[tuple[str, int, int]]] = defaultdict(list)
        for at, first, name, documents, size in run(PARTS).fetchall():
            parts[at, first].append((name, documents, size))
        clusters = [
            Cluster(
                order=at,
                place=first,
                documents={name: documents for name, documents, _ in found},
                first_bytes={name: size for name, _, size in found},
            )
            for (at, first), found in parts.items()
        ]
        if len(clusters) == limit:
            return clusters, (clusters[-1].order, clusters[-1].place)
        return clusters, None if last == LAST else last

    def members(self, clusters: Collection[int]) -> list[Member]:
        """Return the documents of clusters, which are named by their first places, in order."""
        places = np.fromiter(clusters, np.uint64, len(clusters))
        self._connection.register("taken", arrow().table({"cluster": places}))
        return self._members(MEMBERS, {})

    def near_excluded(self, first: int) -> list[Member]:
        """Return the near copies of excluded documents, which have the places below `first`."""
        return self._members(NEAR_EXCLUDED, {"first": first})

    def _members(self, query: str, values: Mapping[str, int]) -> list[Member]:
        names = ("place", "source", "text_bytes", "cluster", "role")
        rows = self._connection.execute(query, values).fetchall()
        return [Member(**dict(zip(names, row, strict=True))) for row in rows]
