"""Token files on a server: the same batches as from the disk, through what servers do."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from olmo_core.data.files import REMOTE_THREADS, Files
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest
from olmo_core.errors import InputError
from olmo_core.remote import cache as kept
from olmo_core.remote import storage
from olmo_core.remote.cache import RemoteFiles
from olmo_core.remote.storage import Changed, RemoteFile
from tests.olmo_core.file_server import FileServer, serving

NAMES = ("a.npy", "b.npy")


@pytest.fixture(autouse=True)
def _small_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(kept, "BLOCK_BYTES", 100)  # windows of 32 bytes cross their ends
    monkeypatch.setattr(kept, "KEPT_FREE_BYTES", 0)
    monkeypatch.setattr(kept, "KEPT_FREE", 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, tokens in zip(NAMES, (16 * 21 + 3, 16 * 9), strict=True):
        rng.integers(0, 999, tokens, dtype=np.uint16).tofile(folder / name)
        (rng.random(tokens) < 0.5).tofile(folder / f"mask-{name}")
    with serving(folder) as state:
        yield state


def loader(place: str, cache: Path) -> Loader:
    manifest = Manifest.from_paths(
        [f"{place}/{name}" for name in (*NAMES, NAMES[0])],
        dtype="uint16",
        label_mask_paths=[f"{place}/mask-{name}" for name in (*NAMES, NAMES[0])],
        cache=cache,
    )
    return Loader(
        manifest=manifest, sequence_length=16, global_batch_size=17, seed=1, vocab_size=1000
    )


def assert_same_batches(one: Loader, other: Loader) -> None:
    assert one.order_spec() == other.order_spec()
    for step in range(one.batching.per_epoch):
        a, b = one.batch(step), other.batch(step)
        assert np.array_equal(a.input_ids, b.input_ids)
        assert a.label_mask is not None
        assert b.label_mask is not None
        assert np.array_equal(a.label_mask, b.label_mask)


def ranges_asked(server: FileServer) -> list[tuple[str, str | None]]:
    """Requests for content: all but the questions for a file's size."""
    return [(path, part) for path, part in server.requests if part != "bytes=0-0"]


def test_the_same_batches_as_from_the_disk(server: FileServer, tmp_path: Path) -> None:
    here = loader(str(server.folder), tmp_path)
    assert_same_batches(loader(server.url, tmp_path / "http"), here)
    assert_same_batches(loader(f"file://{server.folder}", tmp_path / "fsspec"), here)


def test_what_was_read_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    here, cache = loader(str(server.folder), tmp_path), tmp_path / "cache"
    assert_same_batches(loader(server.url, cache), here)
    asked = ranges_asked(server)
    assert len(asked) == len(set(asked))  # each block once
    assert_same_batches(loader(server.url, cache), here)
    assert ranges_asked(server) == asked


@pytest.mark.parametrize("fault", ["500", "short", "cut", "shifted"])
def test_failures_that_pass(server: FileServer, tmp_path: Path, fault: str) -> None:
    data, here = loader(server.url, tmp_path / "cache"), loader(str(server.folder), tmp_path)
    server.faults = [fault] * 3  # all may hit one request, which is tried four times
    assert_same_batches(data, here)
    assert not server.faults


def test_failures_that_do_not_pass(server: FileServer, tmp_path: Path) -> None:
    data = loader(server.url, tmp_path / "cache")
    server.faults = ["short"] * 10_000
    with pytest.raises(InputError, match=r"\.npy: .*tried 4 times"):
        data.batch(0)
    assert not list((tmp_path / "cache").rglob("*.block"))


def test_a_server_without_ranges_sends_whole_files(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    data = loader(server.url, tmp_path / "cache")
    asked = len(server.requests)
    assert_same_batches(data, loader(str(server.folder), tmp_path))
    assert len(server.requests) == asked
    (kept,) = (tmp_path / "cache").glob("http/*/b.npy")
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"b\.npy: changed since it was fetched"):
        data.batch(0)


def test_a_file_that_changes_while_it_is_read(server: FileServer, tmp_path: Path) -> None:
    data = loader(server.url, tmp_path / "cache")
    for name in NAMES:
        os.utime(server.folder / name, ns=(1, 1))
    with pytest.raises(Changed, match=rf"{server.url}/[ab]\.npy: changed while in use"):
        data.batch(0)


def test_a_file_that_has_changed_since_the_last_run(server: FileServer, tmp_path: Path) -> None:
    loader(server.url, tmp_path / "cache").batch(0)
    os.utime(server.folder / "b.npy", ns=(1, 1))
    with pytest.raises(InputError, match=r"b\.npy: not the file that was read before: .* delete"):
        loader(server.url, tmp_path / "cache")


def test_a_damaged_block_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    here = loader(str(server.folder), tmp_path)
    data = loader(server.url, tmp_path / "cache")
    assert_same_batches(data, here)
    for block in (tmp_path / "cache").rglob("*.block"):
        block.write_bytes(block.read_bytes()[:7])
    assert_same_batches(data, here)


@pytest.mark.parametrize("why", ["nearly full", "not to be written"])
def test_without_room_exact_ranges_are_read(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    data = loader(server.url, tmp_path / "cache")
    opening = len(ranges_asked(server))
    if why == "nearly full":
        monkeypatch.setattr(kept, "KEPT_FREE", 1.0)
    else:
        monkeypatch.setattr(kept, "write_atomic", _no_space)
    assert_same_batches(data, loader(str(server.folder), tmp_path))
    assert not list((tmp_path / "cache").rglob("*.block"))
    ends = (part[6:].split("-") for _, part in ranges_asked(server)[opening:] if part)
    window = {int(last) - int(first) + 1 for first, last in ends}
    assert max(window) <= 100
    assert 32 in window


def _no_space(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))


def test_processes_share_a_cache(server: FileServer, tmp_path: Path) -> None:
    """Three at once, all reading everything; what they leave is whole."""
    code = (
        "import sys, pathlib; from olmo_core.remote import cache; cache.BLOCK_BYTES = 100\n"
        "files = cache.RemoteFiles(pathlib.Path(sys.argv[2])); url = sys.argv[1]\n"
        "content = bytearray(files.size(url)); files.read_into(url, 0, memoryview(content))\n"
        "sys.stdout.buffer.write(content)"
    )
    command = [sys.executable, "-c", code, f"{server.url}/a.npy", str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    content = (server.folder / "a.npy").read_bytes()
    for process in running:
        assert process.communicate(timeout=60)[0] == content
    files = sorted((tmp_path / "cache").rglob("*.block"), key=lambda path: int(path.stem))
    assert b"".join(path.read_bytes() for path in files) == content
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_missing_file_is_named(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/none\.npy: HTTP 404"):
        Manifest.from_paths([f"{server.url}/none.npy"], dtype="uint16", cache=tmp_path)


def test_a_thousand_files_are_opened_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer waits until all threads have asked, which one after another never comes to."""
    together = threading.Barrier(REMOTE_THREADS, timeout=30)

    def answer(url: str) -> RemoteFile:
        together.wait()
        return RemoteFile(size=8, version="1")

    monkeypatch.setattr(kept, "stat", answer)
    urls = [f"https://host/{number}.npy" for number in range(8 * REMOTE_THREADS)]
    assert set(Files(tmp_path).each(RemoteFiles(tmp_path).size, urls).values()) == {8}
