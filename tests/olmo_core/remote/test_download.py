"""Lists of files, from a real HTTP server that fails in the ways that servers do."""

import errno
import hashlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from olmo_core.errors import InputError, Stopped
from olmo_core.remote import download, partial, storage
from olmo_core.remote.download import download_files
from olmo_core.remote.storage import Missing
from olmo_core.remote.transfer import Transfer, Wanted
from tests.olmo_core.file_server import FileServer
from tests.olmo_core.remote.downloads import (
    CONTENT,
    HALF,
    MD5,
    OTHER,
    SHA256,
    Pauses,
    bring,
    change,
    left_behind,
    parts_asked,
)

pytestmark = pytest.mark.usefixtures("waiting_is_told")


def test_many_files_come_side_by_side(server: FileServer, here: Path) -> None:
    contents = {f"{number}.bin": CONTENT[number : 1000 + number] for number in range(40)}
    for name, content in contents.items():
        (server.folder / name).write_bytes(content)
    wanted = [
        Wanted(url=f"{server.url}/{name}", path=here / "deep" / name)
        for name in (*contents, "empty")
    ]
    together = threading.Barrier(download.CONNECTIONS, timeout=30)
    served = iter(range(download.CONNECTIONS))
    server.before = lambda number: next(served, None) is None or together.wait()
    seen: list[tuple[int, int, str]] = []
    found = download_files(wanted, progress=lambda *said: seen.append(said), wait=Pauses())
    assert [file.path for file in found] == [file.path for file in wanted]
    for file in found[:-1]:
        content = contents[file.path.name]
        assert file.path.read_bytes() == content
        assert (file.size_bytes, file.sha256) == (1000, hashlib.sha256(content).hexdigest())
    assert found[-1].path.read_bytes() == b""
    assert seen[-1] == (40_000, 40_000, "41 of 41 files")


def test_progress_is_told_while_small_files_follow_one_another(
    server: FileServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is asked to stop there: it must not wait for a second in which no file comes."""
    clock = itertools.count()  # a second at each look
    now = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr(download, "time", now, raising=False)
    for number in range(40):
        (server.folder / f"{number}.bin").write_bytes(b"x")
    wanted = [Wanted(url=f"{server.url}/{n}.bin", path=here / f"{n}.bin") for n in range(40)]
    seen: list[str] = []
    download_files(wanted, progress=lambda done, total, said: seen.append(said), connections=1)
    assert len(seen) > 40


def test_no_file_is_no_work() -> None:
    assert download_files([]) == []


def test_two_files_of_one_path_are_refused(here: Path) -> None:
    wanted = [Wanted(url=f"https://h/{name}", path=here / "x") for name in "ab"]
    with pytest.raises(InputError, match=r"here/x: wanted 2 times"):
        download_files(wanted)


@pytest.mark.parametrize(
    "known", [{}, {"sha256": SHA256}, {"md5": MD5, "size_bytes": len(CONTENT)}]
)
def test_what_is_there_is_not_fetched_again(
    server: FileServer, here: Path, known: dict[str, object]
) -> None:
    first = bring(server, here, **known)
    server.requests.clear()
    assert bring(server, here, **known) == first
    assert server.requests == ([] if known else [("/a.bin", "bytes=0-0")])


def test_another_version_is_fetched(server: FileServer, here: Path) -> None:
    bring(server, here)
    change(server)
    assert bring(server, here).sha256 == hashlib.sha256(OTHER).hexdigest()
    assert (here / "a.bin").read_bytes() == OTHER


@pytest.mark.parametrize("damage", ["shorter", "touched", "record", "record of a list", "none"])
def test_a_file_that_is_not_what_came_is_fetched_again(
    server: FileServer, here: Path, damage: str
) -> None:
    path, record = bring(server, here).path, here / ".a.bin.json"
    if damage == "shorter":
        path.write_bytes(CONTENT[:-1])
    elif damage == "touched":
        path.write_bytes(OTHER)
        os.utime(path, ns=(1, 1))
    elif damage == "none":
        record.unlink()
    else:
        record.write_text("[1]" if damage == "record of a list" else "{")
    bring(server, here, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_without_its_server_what_is_there_serves(server: FileServer, here: Path) -> None:
    first = bring(server, here)
    server.faults = ["500"] * 4
    assert bring(server, here) == first


def test_pauses_grow_and_differ(server: FileServer, here: Path) -> None:
    wanted, draws = Wanted(url=f"{server.url}/a.bin", path=here / "a.bin"), list[Pauses]()
    for _ in range(2):
        server.faults, pauses = ["500"] * 4, Pauses()
        with pytest.raises(InputError, match=r"HTTP 500 .*tried 4 times"):
            download_files([wanted], wait=pauses)
        assert [low <= pause <= 2 * low for low, pause in zip((0.5, 1.0, 2.0), pauses, strict=True)]
        draws.append(pauses)
    assert draws[0] != draws[1]


def test_a_busy_server_is_not_asked_before_it_says(server: FileServer, here: Path) -> None:
    pauses = Pauses()
    server.faults = ["slow down", "busy", "", "slow down", "busy"]
    wanted = Wanted(url=f"{server.url}/a.bin", path=here / "a.bin", sha256=SHA256)
    download_files([wanted], wait=pauses)
    assert pauses == [11.0, 7.0, 11.0, 7.0]


@pytest.mark.parametrize("status", ["403", "404"])
def test_a_missing_file_is_named_and_not_asked_for_again(
    server: FileServer, here: Path, status: str
) -> None:
    server.faults = [status]
    with pytest.raises(Missing, match=rf"{server.url}/a\.bin: HTTP {status}"):
        bring(server, here)
    assert len(server.requests) == 1


def test_all_missing_files_are_counted_and_none_is_begun(server: FileServer, here: Path) -> None:
    names = ["a.bin", *(f"none{number}" for number in range(7))]
    wanted = [Wanted(url=f"{server.url}/{name}", path=here / name) for name in names]
    with pytest.raises(Missing, match=r"7 files are missing: .*/none0: HTTP 404.* and 2 more"):
        download_files(wanted)
    assert parts_asked(server) == []


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"sha256": "0" * 64}, f"SHA256 {SHA256}, expected 0000"),
        ({"md5": "0" * 32}, f"MD5 {MD5}, expected 0000"),
        ({"size_bytes": 7}, f"{len(CONTENT)} bytes, expected 7, as the list says"),
    ],
)
def test_another_content_than_the_list_s_is_refused(
    server: FileServer, here: Path, known: dict[str, object], expected: str
) -> None:
    with pytest.raises(InputError, match=rf"a\.bin: .*{expected}"):
        bring(server, here, **known)
    assert not (here / "a.bin").exists()
    assert not here.exists() or left_behind(here) == []
    assert len(parts_asked(server)) <= 1


def test_digests_may_be_in_capitals(server: FileServer, here: Path) -> None:
    bring(server, here, sha256=SHA256.upper(), md5=MD5.upper())
    server.requests.clear()
    bring(server, here, sha256=SHA256.upper(), md5=MD5.upper())
    assert server.requests == []


def test_a_disk_without_room_is_said_before(
    server: FileServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10_000

    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(InputError, match=r"here: 0 MB are free, and 1 MB are to come"):
        bring(server, here)
    assert parts_asked(server) == []


def test_a_disk_that_fills_up_is_named_and_not_tried_again(
    server: FileServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real write that the kernel refuses."""
    here.mkdir()
    (here / ".a.bin.partial").symlink_to("/dev/full")
    monkeypatch.setattr(partial.Partial, "_begin", lambda self, size: None)
    with pytest.raises(InputError, match=rf"\.a\.bin\.partial: {os.strerror(errno.ENOSPC)}"):
        bring(server, here)
    assert len(parts_asked(server)) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_is_named(server: FileServer, here: Path) -> None:
    here.mkdir(mode=0o555)
    with pytest.raises(InputError, match=rf"here.*{os.strerror(errno.EACCES)}"):
        bring(server, here)


def test_a_path_that_is_no_folder_is_named(server: FileServer, here: Path) -> None:
    here.write_text("a file")
    with pytest.raises(InputError, match=rf"here: {os.strerror(errno.EEXIST)}"):
        bring(server, here)


def test_what_progress_raises_ends_the_work(
    server: FileServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is asked to stop leaves what has come, and takes it up again."""
    monkeypatch.setattr(download, "REPORT_SECONDS", 0.01)
    going_on = threading.Event()
    server.before = lambda number: going_on.wait(30) if number == 3 else None
    server.faults = ["", "short"]

    def stop(done: int, total: int, said: str) -> None:
        assert (total, said) == (len(CONTENT), "0 of 1 files")
        if done == HALF:
            raise Stopped

    with pytest.raises(Stopped):
        bring_with(server, here, stop)
    going_on.set()
    assert not (here / "a.bin").exists()
    assert bring(server, here).sha256 == SHA256


def bring_with(server: FileServer, here: Path, progress: Callable[[int, int, str], None]) -> None:
    wanted = Wanted(url=f"{server.url}/a.bin", path=here / "a.bin")
    download_files([wanted], progress=progress, wait=Pauses())


def test_processes_that_ask_at_once_fetch_once(server: FileServer, here: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from olmo_core.remote.download import Wanted, download_files\n"
        "download_files([Wanted(url=sys.argv[1], path=pathlib.Path(sys.argv[2]))])\n"
    )
    command = [sys.executable, "-c", code, f"{server.url}/a.bin", str(here / "a.bin")]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert (here / "a.bin").read_bytes() == CONTENT
    assert parts_asked(server) == ["bytes=0-"]


def test_other_protocols_are_fsspec_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    monkeypatch.setattr(storage, "_STREAM_BYTES", 100_000)
    wanted = Wanted(url=f"file://{source}", path=tmp_path / "here" / "x")
    transfer, stop = Transfer(wanted, wait=Pauses()), threading.Event()
    transfer.look()
    real = storage.stream

    def broken(url: str, start: int, *, of: storage.RemoteFile) -> Iterator[tuple[int, bytes]]:
        for number, piece in enumerate(real(url, start, of=of)):
            if number == 3:
                stop.set()
            yield piece

    monkeypatch.setattr("olmo_core.remote.transfer.stream", broken)
    with pytest.raises(Stopped, match="at 400000 of 1024000 bytes"):
        transfer.bring(stop)
    monkeypatch.undo()
    (found,) = download_files([wanted], wait=Pauses())
    assert (found.sha256, found.path.read_bytes()) == (SHA256, CONTENT)
    with pytest.raises(Missing, match="FileNotFoundError"):
        download_files([Wanted(url=f"file://{tmp_path}/none", path=tmp_path / "y")])
