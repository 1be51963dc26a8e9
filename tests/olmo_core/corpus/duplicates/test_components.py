"""Connected components, against scipy's."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from olmo_core.corpus.duplicates import components, keys, verify


def clusters(pairs: np.ndarray, scratch: Path) -> dict[int, int]:
    """Node -> the least of its component, of nodes that are not."""
    with keys.PartitionedFile(scratch / "links", verify.LINKS, 1) as out:
        columns = np.array_split(pairs.astype(np.uint64), 3)
        for rows in columns:
            out.write(dict(zip(verify.LINKS, rows.T, strict=True)), np.zeros(len(rows), np.int64))
    shards = 1 + (int(pairs.max()) >> keys.LINE_BITS)
    found = components.connect([scratch / "links"], shards, scratch / "clusters.parquet")
    places, roots = parquet.read_table(scratch / "clusters.parquet").to_pydict().values()
    assert places == sorted(set(places))
    assert found["members"] == [sum(p >> 32 == n for p in places) for n in range(shards)]
    tied = {place: root for place, root in zip(places, roots, strict=True) if place != root}
    assert set(places) == {*tied, *tied.values()}
    assert sum(found["later"]) == len(tied)
    assert sum(found["sizes"].values()) == len(set(tied.values()))
    return tied


def expected(pairs: np.ndarray) -> dict[int, int]:
    nodes, ends = np.unique(pairs, return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(nodes), len(nodes)))
    _, label = connected_components(graph, directed=False)
    least = {group: int(nodes[label == group].min()) for group in set(label.tolist())}
    found = {int(node): least[group] for node, group in zip(nodes, label.tolist(), strict=True)}
    return {node: root for node, root in found.items() if node != root}


@pytest.mark.parametrize("edges", [50, 150, 400])
@pytest.mark.parametrize(("partition_edges", "chunk_rows"), [(1 << 22, 1 << 20), (40, 7)])
def test_components_are_scipys(
    tmp_path: Path,
    edges: int,
    partition_edges: int,
    chunk_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(components, "PARTITION_EDGES", partition_edges)
    monkeypatch.setattr(keys, "BATCH_ROWS", chunk_rows)
    monkeypatch.setattr(keys, "PARTITION_ROWS", 2)
    noise = np.random.default_rng(edges)
    pairs = noise.integers(0, 300, (edges, 2)) * 2**33
    assert clusters(pairs, tmp_path) == expected(pairs)


def test_a_long_chain_and_a_shuffled_one_are_one_component(tmp_path: Path) -> None:
    chain = np.arange(200)
    shuffled = np.random.default_rng(0).permutation(200)
    for order in (chain, chain[::-1], shuffled):
        pairs = np.stack((order[:-1], order[1:]), axis=1)
        assert clusters(pairs, tmp_path) == dict.fromkeys(range(1, 200), 0)
