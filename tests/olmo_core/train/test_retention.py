"""Which checkpoints a run keeps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from olmo_core.files import write_json
from olmo_core.train.saving import apply_retention


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        (("save_interval=5",), {5, 10, 12}),
        (("save_interval=3", "save_num_checkpoints_to_keep=2"), {9, 12}),
        (("save_interval=4", "save_interval_ephemeral=3"), {4, 8, 12}),
        (("save_interval=100", "save_interval_ephemeral=5"), {12}),
        # the official OLMo 2 files: no sharded ones, unsharded ones for ever
        (
            (
                "save_interval=2",
                "save_num_checkpoints_to_keep=0",
                "save_interval_ephemeral=1",
                "save_interval_unsharded=5",
            ),
            {5, 10, 12},
        ),
        (("save_interval=6", "no_pre_train_checkpoint=false"), {0, 6, 12}),
    ],
)
def test_kept(
    overrides: tuple[str, ...], kept: set[int], train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("run", *overrides) == 0
    found = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert found == {f"step{step}" for step in kept}


def test_a_damaged_later_checkpoint_costs_no_whole_one(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    for step in (10, 15):
        (checkpoints / f"step{step}").mkdir(parents=True)
        write_json(checkpoints / f"step{step}" / "train.json", {"kind": "ephemeral"})
    (checkpoints / "step20").mkdir()  # passed over at the start of this attempt
    apply_retention(tmp_path, step=15, keep_sharded=-1, keep_unsharded=-1)
    assert {path.name for path in checkpoints.iterdir()} == {"step15", "step20"}


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_damaged_earlier_checkpoint_stops_no_run(content: str | None, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    for step in (5, 10, 15, 20):
        (checkpoints / f"step{step}").mkdir(parents=True)
        write_json(checkpoints / f"step{step}" / "train.json", {"kind": "sharded"})
    damaged = checkpoints / "step10" / "train.json"
    damaged.unlink() if content is None else damaged.write_text(content)
    apply_retention(tmp_path, step=20, keep_sharded=2, keep_unsharded=-1)
    assert {path.name for path in checkpoints.iterdir()} == {"step10", "step15", "step20"}
