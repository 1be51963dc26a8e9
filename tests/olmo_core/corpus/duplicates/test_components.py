"""Connected components, against scipy's."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from olmo_core.corpus.duplicates.components import tie_components
from olmo_core.corpus.duplicates.keys import query


def clusters(pairs: np.ndarray, scratch: Path) -> dict[int, int]:
    with query(scratch / "out") as connection:
        connection.execute("create table links (first ubigint, later ubigint)")
        connection.executemany("insert into links values (?, ?)", pairs.tolist())
        tie_components(connection, "from links")
        return dict(connection.execute("select high, low from edges").fetchall())


def expected(pairs: np.ndarray) -> dict[int, int]:
    nodes, ends = np.unique(pairs, return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(nodes), len(nodes)))
    _, label = connected_components(graph, directed=False)
    least = {group: int(nodes[label == group].min()) for group in set(label.tolist())}
    found = {int(node): least[group] for node, group in zip(nodes, label.tolist(), strict=True)}
    return {node: root for node, root in found.items() if node != root}


@pytest.mark.parametrize("edges", [50, 150, 400])
def test_components_are_scipys(tmp_path: Path, edges: int) -> None:
    noise = np.random.default_rng(edges)
    pairs = noise.integers(0, 300, (edges, 2)) * 2**33
    assert clusters(pairs, tmp_path) == expected(pairs)


def test_a_long_chain_and_a_shuffled_one_are_one_component(tmp_path: Path) -> None:
    chain = np.arange(200)
    shuffled = np.random.default_rng(0).permutation(200)
    for order in (chain, chain[::-1], shuffled):
        pairs = np.stack((order[:-1], order[1:]), axis=1)
        assert clusters(pairs, tmp_path) == dict.fromkeys(range(1, 200), 0)
