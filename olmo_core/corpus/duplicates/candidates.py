"""What may be held out: narrow rows of all documents, and the clusters that come first."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import read_documents
from olmo_core.corpus.duplicates.keys import Group, PartitionedFile, place, query

DOCUMENTS = {"place": "uint64", "source": "string", "text_bytes": "uint64", "own_order": "uint64"}

# `cluster` is the document's own place where it has no near copy.
DOCUMENTS_WITH_CLUSTERS = """
    create view documents as from read_parquet({surveys});
    create table clusters as from read_parquet({clusters});
    create table clustered as
    select documents.*, cluster, first.own_order as "order"
    from documents join clusters using (place) join documents first on first.place = cluster;
    create view alone as
    select *, place as cluster, own_order as "order"
    from documents anti join clusters using (place);
"""
SOURCES = """
    with size as (select cluster, count(*) as documents from clustered group by cluster),
    near as (
        select source, count(*) as near_duplicates, max(documents) as largest_cluster
        from clustered join size using (cluster) group by source
    )
    select source, count(*), sum(text_bytes)::bigint, coalesce(any_value(near_duplicates), 0),
        coalesce(any_value(largest_cluster), 1)
    from documents left join near using (source) group by source order by source
"""
FIRST_CLUSTERS = """
    create or replace table chosen as
    select distinct cluster from (
        select source, cluster,
            row_number() over (partition by source order by "order", cluster) as rank
        from (
            from (select distinct source, cluster, "order" from clustered)
            union all select source, cluster, "order" from alone
        )
    ) where rank <= {limit}
"""
CANDIDATES = """
    select place, source, text_bytes, cluster, "order"
    from clustered semi join chosen using (cluster)
    union all select place, source, text_bytes, cluster, "order"
    from alone semi join chosen using (cluster)
    order by place
"""


def cluster_order(seed: int, identity: str) -> int:
    """Return where a cluster stands among all, by the id of its first document."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{identity}".encode()).digest()[:8])


def survey_group(group: Group, documents: Path, seed: int, out: Path) -> list[int]:
    """Write a narrow row per document of a group; return the number of documents of each shard."""
    counts: list[int] = []
    with PartitionedFile(out, DOCUMENTS, 1) as survey:
        for shard, path in group.numbered:
            source = path.relative_to(documents).parts[0]
            rows = [
                (document.text_bytes, cluster_order(seed, document.id))
                for document in read_documents(path)
            ]
            sizes, orders = np.array(rows, np.uint64).reshape(-1, 2).T
            first = place(shard, 1)
            survey.write(
                {
                    "place": np.arange(first, first + len(rows), dtype=np.uint64),
                    "source": np.array([source] * len(rows), object),
                    "text_bytes": sizes,
                    "own_order": orders,
                },
                np.zeros(len(rows), np.int64),
            )
            counts.append(len(rows))
    return counts


class Survey:
    """The rows of all documents beside their clusters, on the disk, for queries that spill."""

    def __init__(self, surveys: Sequence[Path], clusters: Path, scratch: Path) -> None:
        self._views = DOCUMENTS_WITH_CLUSTERS.format(
            surveys=f"[{', '.join(map(_quoted, surveys))}]", clusters=_quoted(clusters)
        )
        self._scratch = scratch
        self._stack = ExitStack()

    def __enter__(self) -> "Survey":
        self._connection = self._stack.enter_context(query(self._scratch / "choose"))
        self._connection.execute(self._views)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sources(self) -> dict[str, dict[str, int]]:
        """Return the figures of each source, sorted by its name."""
        names = ("documents", "text_bytes", "near_duplicates", "largest_cluster")
        rows = self._connection.execute(SOURCES).fetchall()
        return {source: dict(zip(names, row, strict=True)) for source, *row in rows}

    def candidates(self, limit: int) -> list[dict[str, Any]]:
        """Return the documents of the first `limit` clusters of each source, whole clusters."""
        self._connection.execute(FIRST_CLUSTERS.format(limit=limit))
        names = ("place", "source", "text_bytes", "cluster", "order")
        rows = self._connection.execute(CANDIDATES).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]


def _quoted(path: Path) -> str:
    """Return a path as SQL writes a string."""
    return "'" + str(path).replace("'", "''") + "'"
