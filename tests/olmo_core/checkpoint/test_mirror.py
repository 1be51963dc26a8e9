"""Copies of checkpoints elsewhere, through a back end of fsspec that fails when it is told to."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem

from olmo_core.checkpoint import layout, mirror
from olmo_core.checkpoint.mirror import Mirror, bring_back
from olmo_core.errors import InputError
from olmo_core.files import write_json
from olmo_core.remote import storage
from olmo_core.run.result import describe
from olmo_core.train.saving import apply_retention

SHARD = f"{layout.STATE}/__0_0.distcp"


class Faulty(LocalFileSystem):
    """A folder of this machine under `faulty://`.

    Attributes:
        faults: What happens to the next files that are sent, one each: "fails", "cut" (half of it
            arrives), "changed" (something else arrives), "" (nothing is wrong).
        sent: The files that arrived, in order.
    """

    protocol = "faulty"
    cachable = False
    faults: list[str] = []  # noqa: RUF012 (one for all, as fsspec makes an instance per thread)
    sent: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("faulty://"))

    def put_file(self, lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        content = Path(lpath).read_bytes()
        if fault == "fails":
            raise ConnectionError("the line is dead")
        half = content[: len(content) // 2]
        Path(rpath).write_bytes({"cut": half, "changed": content[::-1]}.get(fault, content))
        self.sent.append(rpath)


@pytest.fixture(autouse=True)
def _faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    register_implementation("faulty", Faulty, clobber=True)
    monkeypatch.setattr(storage, "PAUSES_SECONDS", (0.0,))
    monkeypatch.setattr(mirror, "_LOOK_SECONDS", 0.01)
    Faulty.faults, Faulty.sent = [], []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1\n")
    return tmp_path / "run"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def make(run: Path, step: int, content: bytes = b"weights " * 100) -> Path:
    folder = run / layout.CHECKPOINTS / f"step{step}"
    (folder / layout.STATE).mkdir(parents=True)
    (folder / SHARD).write_bytes(content + str(step).encode())
    write_json(folder / layout.TRAIN, {"step": step, "kind": "sharded"})
    files = {name: describe(folder / name) for name in (SHARD, layout.TRAIN)}
    layout.write_manifest(folder, files, {}, step)
    return folder


def opened(run: Path, there: Path) -> Mirror:
    def retain(newest: int, unsent: Any) -> None:
        apply_retention(run, step=newest, keep_sharded=1, keep_unsharded=0, spare=unsent)

    made = Mirror(run, f"faulty://{there}/", retain)
    made.start()
    return made


def finish(sender: Mirror) -> None:
    sender.finish(lambda what: None)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_copy_is_the_checkpoint_and_its_manifest_comes_last(run: Path, there: Path) -> None:
    made = make(run, 5)
    sender = opened(run, there)
    sender.send(5)
    finish(sender)
    assert contents(there / "checkpoints/step5") == contents(made)
    assert (there / "config.yaml").read_text() == "seed: 1\n"
    assert [Path(path).name for path in Faulty.sent][-1] == layout.MANIFEST
    assert Faulty.sent[0] == str(there / "config.yaml")


@pytest.mark.parametrize("fault", ["fails", "cut", "changed"])
def test_what_is_not_verified_is_not_deleted(
    run: Path, there: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(run, 5)
    make(run, 10)
    sender = opened(run, there)
    Faulty.faults = [fault, fault]  # of the first file, and again where it is tried again
    sender.send(5)
    sender.send(10)  # of which alone one is kept
    finish(sender)
    # 5 was sent with the second try at the latest, 10 in between; neither went before its copy
    assert "step5 is not sent yet" in caplog.text
    for step in (5, 10):
        layout.Checkpoint(there / f"checkpoints/step{step}").verify()
    assert [found.step for found in layout.list_checkpoints(run)] == [10]


def test_what_could_not_be_deleted_after_a_whole_copy_is_tried_again(
    run: Path, there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(run, 5)
    asked: list[tuple[int, list[int]]] = []

    def retain(newest: int, unsent: Collection[int]) -> None:
        asked.append((newest, sorted(unsent)))
        if len(asked) == 1:
            raise OSError("the disk is busy")

    sender = Mirror(run, f"faulty://{there}", retain)
    sender.start()
    sender.send(5)
    finish(sender)
    assert asked == [(5, []), (5, [])]
    assert "step5 is not sent yet: the disk is busy" in caplog.text
    names = [Path(path).name for path in Faulty.sent]
    assert names.count(layout.MANIFEST) == 1  # the copy was whole


def test_what_cannot_be_sent_stays_and_is_told_at_the_end(run: Path, there: Path) -> None:
    make(run, 5)
    make(run, 10)
    sender = opened(run, there)
    Faulty.faults = ["fails"] * 100
    sender.send(5)
    sender.send(10)
    with pytest.raises(InputError, match=r"not sent: step5, step10, still in .*the line is dead"):
        finish(sender)
    assert [found.step for found in layout.list_checkpoints(run)] == [5, 10]
    Faulty.faults = []
    again = opened(run, there)  # the next attempt
    for step in (5, 10):
        again.send(step)
    finish(again)
    assert [found.step for found in layout.list_checkpoints(run)] == [10]
    assert mirror.remote_steps(f"faulty://{there}") == [5, 10]


def test_only_what_is_missing_is_sent_again(run: Path, there: Path) -> None:
    made = make(run, 5)
    sender = opened(run, there)
    Faulty.faults = ["", "fails", "fails", "fails", "fails"]  # the shard arrives, the rest does not
    sender.send(5)
    with pytest.raises(InputError):
        finish(sender)
    Faulty.faults, Faulty.sent = [], []
    for _ in range(2):
        again = opened(run, there)
        again.send(5)
        finish(again)
    names = [Path(path).name for path in Faulty.sent]
    assert names == [layout.TRAIN, layout.MANIFEST]
    assert contents(there / "checkpoints/step5") == contents(made)


def test_a_folder_that_cannot_be_written_to_is_told_at_the_start(run: Path, there: Path) -> None:
    Faulty.faults = ["fails"] * 2
    with pytest.raises(InputError, match=r"remote_save_folder: .*dead.*: null keeps"):
        opened(run, there)


def test_a_step_made_anew_replaces_its_copy(run: Path, there: Path) -> None:
    for content in (b"one", b"another"):
        shutil.rmtree(run / layout.CHECKPOINTS, ignore_errors=True)
        make(run, 5, content)
        sender = opened(run, there)
        Faulty.sent = []
        Faulty.faults = []
        sender.send(5)
        finish(sender)
    layout.Checkpoint(there / "checkpoints/step5").verify()
    assert (there / "checkpoints/step5" / SHARD).read_bytes() == b"another5"


def test_a_checkpoint_damaged_here_is_not_sent_and_ends_nothing(
    run: Path, there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (make(run, 5) / SHARD).write_bytes(b"damaged")
    make(run, 10)
    sender = opened(run, there)
    sender.send(5)
    sender.send(10)
    finish(sender)
    assert "step5 is damaged and not sent" in caplog.text
    assert not (there / "checkpoints/step5").exists()
    layout.Checkpoint(there / "checkpoints/step10").verify()


def copied(run: Path, there: Path, *steps: int) -> None:
    sender = opened(run, there)
    for step in steps:
        make(run, step)
        sender.send(step)
    finish(sender)
    shutil.rmtree(run)


def test_an_empty_disk_gets_the_newest_whole_copy(run: Path, there: Path) -> None:
    copied(run, there, 5, 10, 20, 30)
    (there / "checkpoints/step30" / layout.MANIFEST).unlink()  # killed while it was sent
    torn = there / "checkpoints/step20" / layout.MANIFEST
    torn.write_text(torn.read_text()[:-40])
    whole = contents(there / "checkpoints/step10")
    bring_back(run, f"faulty://{there}")
    (found,) = layout.list_checkpoints(run)
    assert found.step == 10
    assert contents(found.path) == whole


def test_a_later_checkpoint_of_this_machine_is_kept(run: Path, there: Path) -> None:
    copied(run, there, 5, 10)
    for step in (10, 5):
        own = make(run, step, b"own")
        bring_back(run, f"faulty://{there}")
        assert [found.step for found in layout.list_checkpoints(run)][-1] == 10
        assert (own / SHARD).read_bytes() == b"own" + str(step).encode()
        shutil.rmtree(run)


def test_a_damaged_copy_is_named_and_nothing_else_taken(run: Path, there: Path) -> None:
    copied(run, there, 5, 10)
    (there / "checkpoints/step10" / SHARD).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"step10/model_and_optim/__0_0.distcp: its SHA-256 is"):
        bring_back(run, f"faulty://{there}")
    assert layout.list_checkpoints(run) == []


def test_a_copy_that_names_files_elsewhere_is_not_fetched(run: Path, there: Path) -> None:
    copied(run, there, 5, 10)
    content = b"from elsewhere"
    (there / "checkpoints" / "x").write_bytes(content)
    files = {"../x": describe(there / "checkpoints" / "x")}
    layout.write_manifest(there / "checkpoints/step10", files, {}, 10)
    with pytest.raises(InputError, match=r"manifest\.json: '\.\./x' is no file below"):
        bring_back(run, f"faulty://{there}")
    assert not [path for path, found in contents(run).items() if found == content]
    assert layout.list_checkpoints(run) == []


def test_a_folder_that_may_not_be_read_is_not_taken_for_empty(
    run: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(run, there, 5)
    (there / "checkpoints").rename(there / "moved")
    bring_back(run, f"faulty://{there}")  # nothing there
    assert layout.list_checkpoints(run) == []

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("403")

    monkeypatch.setattr(Faulty, "ls", refuse)
    with pytest.raises(InputError, match="checkpoints: PermissionError: 403"):
        bring_back(run, f"faulty://{there}")


def test_the_manifest_of_a_copy_is_json_with_every_file(run: Path, there: Path) -> None:
    copied(run, there, 5)
    manifest = json.loads((there / "checkpoints/step5" / layout.MANIFEST).read_text())
    assert set(manifest["files"]) == {SHARD, layout.TRAIN}
