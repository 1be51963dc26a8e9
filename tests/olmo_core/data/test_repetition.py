import numpy as np
import pytest

from olmo_core.config.data import InstanceFilterConfig
from olmo_core.data.repetition import instance_mask


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
