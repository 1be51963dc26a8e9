"""When a checkpoint folder is believed."""

import json
from pathlib import Path

import pytest

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.layout import Checkpoint, CorruptCheckpoint
from olmo_core.errors import InputError
from olmo_core.run.result import describe


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "checkpoints" / "step7"
    (folder / layout.STATE).mkdir(parents=True)
    (folder / layout.STATE / "__0_0.distcp").write_bytes(b"tensors")
    (folder / layout.TRAIN).write_text('{"step": 7}')
    names = [f"{layout.STATE}/__0_0.distcp", layout.TRAIN]
    layout.write_manifest(folder, {name: describe(folder / name) for name in names}, {"seed": 1}, 7)
    return Checkpoint(folder)


def test_a_whole_one_passes(checkpoint: Checkpoint) -> None:
    checkpoint.verify()
    assert json.loads((checkpoint.path / layout.MANIFEST).read_text())["order"] == {"seed": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "not a manifest"), ("{}", "not a manifest"), ('{"schema_version": 9, "files": {}}', "9")],
)
def test_a_manifest_that_is_none_is_named(
    checkpoint: Checkpoint, content: str, message: str
) -> None:
    (checkpoint.path / layout.MANIFEST).write_text(content)
    with pytest.raises(CorruptCheckpoint, match=rf"manifest\.json: .*{message}"):
        checkpoint.verify()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "model_and_optim/../../x", "", "."])
def test_files_elsewhere_are_refused(checkpoint: Checkpoint, name: str) -> None:
    layout.write_manifest(checkpoint.path, {name: {"bytes": 1, "sha256": "0"}}, {}, 7)
    with pytest.raises(InputError, match=rf"manifest\.json: '{name}' is no file below the"):
        checkpoint.verify()


def test_only_named_steps_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("step10", "step9", "step11.tmp", "step8.corrupt", "latest"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [found.step for found in layout.list_checkpoints(tmp_path)] == [9, 10]
    layout.remove_unfinished(tmp_path)
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"step10", "step9", "step8.corrupt", "latest"}
    assert layout.list_checkpoints(tmp_path / "nowhere") == []


def test_what_stood_under_the_name_is_kept_aside(checkpoint: Checkpoint) -> None:
    temporary = checkpoint.path.with_name("step7.tmp")
    temporary.mkdir()
    layout.publish(temporary, checkpoint.path)
    assert not (checkpoint.path / layout.TRAIN).exists()
    assert (checkpoint.path.with_name("step7.corrupt") / layout.TRAIN).exists()
