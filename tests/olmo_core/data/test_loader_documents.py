import numpy as np
import pytest

from olmo_core.config.train import InstanceFilterConfig
from olmo_core.data.loader import document_positions, instance_mask


def repeats_itself(tokens: list[int], config: InstanceFilterConfig) -> bool:
    """By definition: a block of a period's length that follows itself so many times."""
    needed = max(config.repetition_max_count, 3)
    for period in range(config.repetition_min_period, config.repetition_max_period + 1):
        for start in range(len(tokens) - needed * period + 1):
            block = tokens[start : start + period]
            if tokens[start : start + needed * period] == block * needed:
                return True
    return False


@pytest.mark.parametrize("seed", range(4))
def test_against_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masked = 0
    for _ in range(300):
        length = int(rng.integers(3, 120))
        tokens = rng.integers(0, int(rng.integers(2, 5)), (4, length)).astype(np.uint16)
        for row in tokens:  # a block repeated somewhere in most rows
            run = int(rng.integers(1, length + 1))
            start = int(rng.integers(0, length - run + 1))
            row[start : start + run] = np.resize(rng.integers(0, 4, int(rng.integers(1, 9))), run)
        config = InstanceFilterConfig(
            repetition_min_period=int(rng.integers(1, 3)),
            repetition_max_period=int(rng.integers(3, 14)),
            repetition_max_count=int(rng.integers(1, 12)),
        )
        expected = [not repeats_itself(row, config) for row in tokens.tolist()]
        assert instance_mask(tokens, config).tolist() == expected
        masked += expected.count(False)
    assert 100 < masked < 1100  # both answers were tried


@pytest.mark.parametrize("period", range(1, 15))
@pytest.mark.parametrize("start", [0, 1, 17, 4096 - 14 * 32])
def test_the_edge_of_olmos_values(period: int, start: int) -> None:
    """32 repeats of periods 1 … 13 are masked; one token less, or a period of 14, is not."""
    config = InstanceFilterConfig()
    tokens = np.arange(100, 100 + 4096, dtype=np.uint32)
    tokens[start : start + 32 * period] = np.resize(np.arange(period), 32 * period)
    assert instance_mask(tokens[None], config).tolist() == [period == 14]
    tokens[start + 32 * period - 1] = 99
    assert instance_mask(tokens[None], config).tolist() == [True]


def test_shapes() -> None:
    config = InstanceFilterConfig()
    assert instance_mask(np.empty((0, 4096), dtype=np.uint16), config).shape == (0,)
    assert instance_mask(np.zeros((2, 1), dtype=np.uint16), config).tolist() == [True, True]
    assert instance_mask(np.zeros((2, 4096), dtype=np.uint16), None).tolist() == [True, True]


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
