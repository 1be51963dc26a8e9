"""Connected components of pairs of any number, by queries that spill.

Rounds of large stars and small stars (Kiveris et al. 2014, "Connected Components in MapReduce and
Beyond"): each ties nodes to the least node that they know, until all are tied to the least of their
component. Memory is DuckDB's limit; disk, some times the pairs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.duplicates.keys import answers, give, query, shard_numbers, table_file

CLUSTERS = {"place": "uint64", "cluster": "uint64"}
# Every neighbour above a node is tied to the least of the neighbourhood.
LARGE_STAR = """
    create or replace table large as
    with neighbours as (
        select low as node, high as other from edges
        union all select high as node, low as other from edges
    ), least_known as (
        select node, least(node, min(other)) as root from neighbours group by node
    )
    select distinct root as low, other as high
    from neighbours join least_known using (node) where other > node
"""
# A node and its neighbours below it are tied to the least of them.
SMALL_STAR = """
    create or replace table edges as
    with least_known as (select high, min(low) as root from large group by high)
    select distinct root as low, low as high
    from large join least_known using (high) where low > root
    union select root as low, high from least_known
"""
UNSETTLED = """
    select (select count(*) - count(distinct high) from edges)
        + (select count(*) from edges where low in (select high from edges))
"""
BY_PLACE = """
    select high as place, low as cluster from edges union all select distinct low, low from edges
    order by place
"""
SIZES = """
    select case when size <= 10 then size::varchar when size <= 100 then '11-100' else 'more' end
        as documents, count(*)
    from (select count(*) + 1 as size from edges group by low) group by documents order by min(size)
"""


def tie_components(connection: Any, pairs: str) -> int:
    """Leave the table `edges (low, high)`: each node, `high`, tied to the least of its component.

    Args:
        connection: Of DuckDB.
        pairs: What selects the columns `first` and `later`, in SQL; the greater one may be either.

    Returns:
        The number of rounds.
    """
    connection.execute(f"""
        create or replace table edges as
        select distinct least(first, later) as low, greatest(first, later) as high
        from ({pairs}) where first != later
    """)
    rounds = 0
    while connection.execute(UNSETTLED).fetchall()[0][0]:
        connection.execute(LARGE_STAR)
        connection.execute(SMALL_STAR)
        rounds += 1
    return rounds


def connect(links: Sequence[Path], shards: int, out: Path) -> dict[str, Any]:
    """Write the clusters that links make: each document's place, and that of its cluster's first.

    Returns:
        `sizes`: clusters by the number of their documents; `members` and `later`: documents of each
        shard in a cluster, and those of them that are not its first.
    """
    members, later = np.zeros(shards, np.int64), np.zeros(shards, np.int64)
    with query(out) as connection, table_file(out, CLUSTERS) as add:
        give(connection, "links", links, 0, 1)
        tie_components(connection, "from links")
        for rows in answers(connection, BY_PLACE):
            add(rows)
            at = shard_numbers(rows["place"])
            members += np.bincount(at, minlength=shards)
            later += np.bincount(at[rows["place"] != rows["cluster"]], minlength=shards)
        sizes = connection.execute(SIZES).fetchall()
    return {"sizes": dict(sizes), "members": members.tolist(), "later": later.tolist()}
