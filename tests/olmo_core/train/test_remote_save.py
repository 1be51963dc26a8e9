"""`remote_save_folder`: copies of checkpoints are made behind the training, and resumed from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.run.folder import read_metrics

Train = Callable[..., int]
KEEP_ONE = "save_num_checkpoints_to_keep=1"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def remote(there: Path) -> str:
    return f"remote_save_folder=file://{there}"


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def losses(folder: Path) -> dict[int, float]:
    rows = read_metrics(folder / "metrics.jsonl")
    return {row["step"]: row["train/CrossEntropyLoss"] for row in rows}


def copies(there: Path) -> set[str]:
    return {path.parent.name for path in there.glob("checkpoints/*/manifest.json")}


def test_killed_while_sending_it_goes_on_from_the_whole_copy_on_an_empty_disk(
    train: Train, undisturbed: Path, tmp_path: Path, there: Path, remote: str
) -> None:
    assert train("run", remote, KEEP_ONE, moment="kill: in an upload") == -9
    assert copies(there) == {"step4"}
    # step 10 had been made: nothing waited; and what was not verified yet was not deleted
    assert losses(tmp_path / "run").keys() >= set(range(1, 11))
    assert (tmp_path / "run/checkpoints/step8/manifest.json").exists()
    shutil.rmtree(tmp_path / "run")
    assert train("run", remote, KEEP_ONE) == 0
    assert weights(tmp_path / "run") == weights(undisturbed)
    expected = losses(undisturbed)
    assert losses(tmp_path / "run") == {step: expected[step] for step in range(5, 13)}
    assert copies(there) == {"step4", "step8", "step12"}
    for step in copies(there):
        Checkpoint(there / "checkpoints" / step).verify()
    assert [path.name for path in (tmp_path / "run/checkpoints").glob("step*")] == ["step12"]


def test_training_waits_for_no_upload_and_its_end_for_all(
    train: Train, undisturbed: Path, tmp_path: Path, there: Path, remote: str
) -> None:
    assert train("run", remote, moment="an upload that waits for the last step") == 0
    assert weights(tmp_path / "run") == weights(undisturbed)
    assert copies(there) == {"step4", "step8", "step12"}


def test_what_was_not_sent_fails_the_run_until_it_is(
    train: Train, undisturbed: Path, tmp_path: Path, there: Path, remote: str
) -> None:
    assert train("run", remote, KEEP_ONE, moment="no line in step 12") == 3
    said = (tmp_path / "said.txt").read_text()
    assert "ERROR remote_save_folder: step12 is not sent yet" in said
    assert "not sent: step12, still in" in said
    assert "the line is dead" in said
    assert not (tmp_path / "run/result.json").exists()
    assert train("run", remote, KEEP_ONE) == 0
    assert copies(there) == {"step4", "step8", "step12"}
    assert weights(tmp_path / "run") == weights(undisturbed)
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "done"


def test_copies_of_another_run_are_refused(
    train: Train, tmp_path: Path, there: Path, remote: str
) -> None:
    assert train("run", remote) == 0
    assert train("other", remote, "optimizer.learning_rate=2e-2") == 2
    assert (
        "holds a run that learns by other values (optimizer.learning_rate"
        in (tmp_path / "said.txt").read_text()
    )
    assert train("anew", remote, "try_load_latest_save=false") == 2
    (there / "config.yaml").unlink()
    assert train("anew", remote) == 2
    assert "no config.yaml that says of which run" in (tmp_path / "said.txt").read_text()


@pytest.mark.slow
def test_two_ranks_send_and_fetch(
    ranks: Callable[..., list[int | None]], tmp_path: Path, there: Path, remote: str
) -> None:
    assert ranks("run", 2, remote) == [0, 0]
    made = weights(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(there / "checkpoints/step12")
    assert ranks("run", 2, remote) == [0, 0]
    assert weights(tmp_path / "run") == made
    assert min(losses(tmp_path / "run")) == 9
    assert copies(there) == {"step4", "step8", "step12"}
