import numpy as np
import pytest

from olmo_core.data.positions import document_positions


def naive(row: list[int], eos: int) -> list[int]:
    positions, next_position = [], 0
    for token in row:
        positions.append(next_position)
        next_position = 0 if token == eos else next_position + 1
    return positions


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i8"])
@pytest.mark.parametrize("seed", range(5))
def test_against_a_walk_over_the_tokens(seed: int, dtype: str) -> None:
    """From documents of one token to instances without an EOS."""
    rng = np.random.default_rng(seed)
    for length in (1, 2, 17, 64):
        tokens = rng.integers(1, 9, (8, length)).astype(dtype)
        tokens[rng.random(tokens.shape) < np.linspace(0, 1, 8)[:, None]] = 0
        positions = document_positions(tokens, 0)
        assert positions.dtype == np.int64
        assert positions.tolist() == [naive(row, 0) for row in tokens.tolist()]


def test_the_lengths_are_olmos() -> None:
    """`get_document_lengths`: an EOS belongs to what it ends, the rest is a document."""
    positions = document_positions(
        np.asarray([[0, 5, 6, 0, 0, 7, 8, 9], [1, 1, 1, 0, 1, 1, 1, 0]]), 0
    )
    ends = [np.flatnonzero(np.append(row[1:] == 0, True)) + 1 for row in positions]
    assert [np.diff(row, prepend=0).tolist() for row in ends] == [[1, 3, 1, 3], [4, 4]]
