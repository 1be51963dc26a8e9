"""Tokens read are those of the windows that the loader gives, source by source."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.duration import Origin
from olmo_core.data.loader import Loader
from olmo_core.errors import InputError
from olmo_core.release.tokens_read import tokens_read
from tests.olmo_core.lineage import mixed

SIZES = {"books": 130, "code": 70, "web": 355}


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    """Three sources of 13, 7 and 35 windows of ten tokens; the last one has a tail."""
    return mixed.loader(tmp_path, SIZES)


def naive(loader: Loader, first: int, last: int) -> dict[str, int]:
    """Every piece of every window of every step."""
    counts = Counter(dict.fromkeys(SIZES, 0))
    for step in range(first, last):
        for window in loader.instances(step).tolist():
            for piece in loader.data.pieces(window):
                counts[piece.path.removesuffix(".npy")] += piece.stop - piece.start
    return dict(counts)


@pytest.mark.parametrize("order", ["olmo", "feistel"])
@pytest.mark.parametrize("steps", [(0, 3), (0, 12), (0, 13), (0, 14), (5, 31), (7, 7)])
def test_every_window_of_every_step_is_counted(
    loader: Loader, steps: tuple[int, int], order: Any, tmp_path: Path
) -> None:
    loader = replace(loader, order=order)
    run = {"first_step": steps[0], "step": steps[1], "order": loader.order_spec()}
    read = tokens_read(tmp_path, run)
    assert read == naive(loader, *steps)
    assert sum(read.values()) == (steps[1] - steps[0]) * 40


def test_a_batch_size_that_changed_is_counted_from_there(loader: Loader, tmp_path: Path) -> None:
    later = loader.beginning_at(Origin(step=9, tokens=500, epoch=1, instance=21))
    run = {"first_step": 9, "step": 40, "order": later.order_spec()}
    assert tokens_read(tmp_path, run) == naive(later, 9, 40)


def test_another_manifest_or_order_is_refused(loader: Loader, tmp_path: Path) -> None:
    order = loader.order_spec()
    run = {"first_step": 0, "step": 1, "order": {**order, "version": 2}}
    with pytest.raises(InputError, match="feistel: version 2 is not known"):
        tokens_read(tmp_path, run)
    run["order"] = {**order, "manifest_sha256": "f" * 64}
    with pytest.raises(InputError, match=r"manifest\.json: sha256 .* but the run has read fff"):
        tokens_read(tmp_path, run)
