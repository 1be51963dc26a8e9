"""What a run is expected to have read, against the count of every window, over many orders."""

from pathlib import Path

import numpy as np
import pytest

from olmo_core.config.duration import Origin
from olmo_core.errors import InputError
from olmo_core.lineage.expected_read import expected_read, windows_by_epoch, windows_to_count
from olmo_core.release.tokens_read import tokens_read
from tests.olmo_core.lineage.mixed import loader


@pytest.mark.parametrize("steps", [(0, 30), (0, 150), (40, 300)])
def test_orders_lie_around_it_as_far_as_it_says(tmp_path: Path, steps: tuple[int, int]) -> None:
    deviations: list[float] = []
    order = loader(tmp_path).order_spec()
    for seed in range(200):
        run = {"first_step": steps[0], "step": steps[1], "order": {**order, "seed": seed}}
        read, expected = tokens_read(tmp_path, run), expected_read(tmp_path, run)
        assert sum(read.values()) == pytest.approx(sum(expected.tokens.values()))
        deviations.append((read["books"] - expected.tokens["books"]) / expected.errors["books"])
    assert abs(np.mean(deviations)) < 4 / np.sqrt(len(deviations))
    # of 200 squares of normal numbers the mean is 1 ± 0.1
    assert 0.6 < np.mean(np.square(deviations)) < 1.4


def test_of_whole_epochs_it_is_the_count(tmp_path: Path) -> None:
    made = loader(tmp_path, size=7)  # 490 windows are 70 batches
    run = {"first_step": 0, "step": 140, "order": made.order_spec()}
    found = expected_read(tmp_path, run)
    assert found.tokens == pytest.approx(tokens_read(tmp_path, run))
    assert found.error_of_shares == 0
    assert windows_to_count(run) == 0


def test_of_no_step_it_is_nothing(tmp_path: Path) -> None:
    run = {"first_step": 7, "step": 7, "order": loader(tmp_path).order_spec()}
    assert windows_by_epoch(run) == []
    assert sum(expected_read(tmp_path, run).tokens.values()) == 0
    assert expected_read(tmp_path, run).error_of_shares == 0


def test_windows_by_epoch_are_those_of_the_loader(tmp_path: Path) -> None:
    later = loader(tmp_path).beginning_at(Origin(step=9, tokens=500, epoch=1, instance=21))
    for made, first, last in ((loader(tmp_path), 5, 300), (later, 9, 400)):
        run = {"first_step": first, "step": last, "order": made.order_spec()}
        epochs = [made.batching.place(step)[0] for step in range(first, last)]
        naive = [4 * epochs.count(epoch) for epoch in dict.fromkeys(epochs)]
        assert windows_by_epoch(run) == naive


def test_windows_to_count_are_those_on_the_smaller_side(tmp_path: Path) -> None:
    run = {"first_step": 0, "step": 122 + 10, "order": loader(tmp_path).order_spec()}
    assert windows_to_count(run) == 2 + 40  # 122 batches leave out two windows of an epoch
    run["order"] = loader(tmp_path, order="olmo").order_spec()
    assert windows_to_count(run) == 2 + 40 + 2 * 490  # and two epochs are shuffled


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    order = {**loader(tmp_path).order_spec(), "manifest_sha256": "f" * 64}
    with pytest.raises(InputError, match=r"manifest\.json: sha256 .* but the run has read fff"):
        expected_read(tmp_path, {"first_step": 0, "step": 1, "order": order})
