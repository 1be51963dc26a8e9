"""Remote files, against a real HTTP server that fails in the ways that servers do."""

import base64
import hashlib
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from olmo_core.errors import InputError
from olmo_core.remote import storage
from olmo_core.remote.cache import cache_path, fetch
from olmo_core.remote.storage import Changed, Missing, read_range, stat
from tests.olmo_core.file_server import FileServer, serving

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(storage, "PIECE_BYTES", 3000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "served"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.bin").write_bytes(CONTENT)
    (folder / "empty").touch()
    with serving(folder) as state:
        yield state


def test_ranges_are_the_file_s_bytes(server: FileServer) -> None:
    url = f"{server.url}/a/b.bin"
    assert stat(url).size == len(CONTENT)
    assert stat(f"{server.url}/empty").size == 0
    for start, stop in ((0, 1), (100, 700), (0, len(CONTENT)), (len(CONTENT) - 1, len(CONTENT))):
        assert read_range(url, start, stop) == CONTENT[start:stop]
    assert server.requests[-1] == ("/a/b.bin", f"bytes={len(CONTENT) - 1}-{len(CONTENT) - 1}")
    assert read_range(url, 5, 5) == b""


def test_ten_ranges_come_over_one_connection(server: FileServer) -> None:
    url = f"{server.url}/a/b.bin"
    stat(url)
    for start in range(10):
        assert read_range(url, start, start + 500) == CONTENT[start : start + 500]
    assert (len(server.requests), server.connections) == (11, 1)


def test_a_fork_takes_no_connection_of_its_parent(server: FileServer) -> None:
    url = f"{server.url}/a/b.bin"
    read_range(url, 0, 9)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as child:
        read = child.submit(read_range, url, 10, 500)
        assert read.result() == CONTENT[10:500]
    assert read_range(url, 20, 600) == CONTENT[20:600]
    assert server.connections == 2


def test_threads_read_side_by_side(server: FileServer) -> None:
    url, starts = f"{server.url}/a/b.bin", range(0, 9000, 100)
    with ThreadPoolExecutor(16) as threads:
        parts = list(threads.map(lambda start: read_range(url, start, start + 300), starts))
    assert parts == [CONTENT[start : start + 300] for start in starts]
    assert server.connections <= 16


def test_a_redirect_keeps_the_range_and_stays_out_of_the_log(
    server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.faults = ["redirect"]
    assert read_range(f"{server.url}/a/b.bin?signature=secret", 10, 500) == CONTENT[10:500]
    assert [part for _, part in server.requests] == ["bytes=10-499"] * 2
    assert "secret" not in caplog.text
    server.faults = ["redirect"] * 44  # of each of four tries, eleven
    with pytest.raises(InputError, match=r"too many redirects.*tried 4 times"):
        stat(f"{server.url}/a/b.bin")


def test_a_busy_server_is_asked_when_it_says(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", pauses.append)
    server.faults = ["busy", "429"]
    assert read_range(f"{server.url}/a/b.bin", 10, 500) == CONTENT[10:500]
    assert pauses == [7.0, 0.0]


def test_the_proxies_of_the_environment_are_used(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://me:p%40ss@"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read_range(f"{server.url}/a/b.bin", 0, 9) == CONTENT[:9]
    with pytest.raises(Missing, match=r"elsewhere\.invalid/a/b\.bin: HTTP 404"):
        stat("http://elsewhere.invalid/a/b.bin")  # as the proxy says
    assert server.requests[-1] == ("http://elsewhere.invalid/a/b.bin", "bytes=0-0")
    assert server.authorizations[-1] == "Basic " + base64.b64encode(b"me:p@ss").decode()


@pytest.mark.parametrize("fault", ["500", "429", "short", "cut", "shifted"])
def test_what_may_pass_is_tried_again(server: FileServer, fault: str) -> None:
    server.faults = [fault, fault]
    assert read_range(f"{server.url}/a/b.bin", 10, 500) == CONTENT[10:500]
    assert len(server.requests) == 3
    server.faults = [fault] * 4
    with pytest.raises(InputError, match=r"/a/b\.bin: .*tried 4 times"):
        read_range(f"{server.url}/a/b.bin", 10, 500)


def test_a_range_of_another_version_is_refused(server: FileServer, tmp_path: Path) -> None:
    served = server.folder / "a" / "b.bin"
    for url in (f"{server.url}/a/b.bin", f"file://{served}"):
        before = stat(url)
        assert read_range(url, 1, 5, of=before) == CONTENT[1:5]
        os.utime(served, ns=(1, served.stat().st_mtime_ns + 10**9))
        with pytest.raises(Changed, match=r"b\.bin: changed while in use: it was 10240 bytes"):
            read_range(url, 1, 5, of=before)


def test_what_will_not_pass_is_not(server: FileServer) -> None:
    with pytest.raises(Missing, match=r"/none: HTTP 404"):
        stat(f"{server.url}/none")
    with pytest.raises(InputError, match=f"past its end, it has {len(CONTENT)}"):
        read_range(f"{server.url}/a/b.bin", len(CONTENT), len(CONTENT) + 9)
    with pytest.raises(InputError, match=f"past its end, it has {len(CONTENT)}"):
        read_range(f"{server.url}/a/b.bin", 10, len(CONTENT) + 9)
    assert len(server.requests) == 3
    server.ranges = False
    with pytest.raises(InputError, match="no byte ranges"):
        read_range(f"{server.url}/a/b.bin", 10, 500)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_is_fetched_once_through_failures(
    server: FileServer, tmp_path: Path, ranges: bool
) -> None:
    url, cache = f"{server.url}/a/b.bin", tmp_path / "cache"
    server.ranges = ranges
    server.faults = ["", "500", "short", "500"]
    path = fetch(url, cache, SHA256)
    assert path == cache_path(url, cache)
    assert path.read_bytes() == CONTENT
    asked = len(server.requests)
    assert fetch(url, cache, SHA256) == path
    assert len(server.requests) == asked  # nobody was asked again
    assert fetch(url, cache) == path
    assert len(server.requests) == asked + 1  # only whether it has changed


def test_a_broken_connection_costs_a_piece(server: FileServer, tmp_path: Path) -> None:
    server.faults = ["", "", "", "short"]
    fetch(f"{server.url}/a/b.bin", tmp_path, SHA256)
    pieces = ["0-2999", "3000-5999", "6000-8999", "6000-8999", "9000-10239"]
    assert [part for _, part in server.requests[1:]] == [f"bytes={piece}" for piece in pieces]


def test_a_file_that_changes_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    url, served = f"{server.url}/a/b.bin", server.folder / "a" / "b.bin"
    fetch(url, tmp_path)
    served.write_bytes(b"other")
    os.utime(served, ns=(1, 1))
    assert fetch(url, tmp_path).read_bytes() == b"other"
    with pytest.raises(InputError, match=f"its SHA-256 is [0-9a-f]*, not {SHA256}"):
        fetch(url, tmp_path, SHA256)
    assert fetch(url, tmp_path).read_bytes() == b"other"


def test_one_that_changes_while_it_is_read_is_refused(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, real = f"{server.url}/a/b.bin", storage.read_range

    def read_and_change(url: str, start: int, stop: int) -> bytes:
        content = real(url, start, stop)
        os.utime(server.folder / "a" / "b.bin", ns=(start, start))
        return content

    monkeypatch.setattr(storage, "read_range", read_and_change)
    with pytest.raises(InputError, match="changed while it was read"):
        fetch(url, tmp_path)
    assert not cache_path(url, tmp_path).exists()


@pytest.mark.parametrize("damage", [b"short", b"x" * len(CONTENT)])
def test_a_damaged_cache_is_seen(server: FileServer, tmp_path: Path, damage: bytes) -> None:
    path = fetch(f"{server.url}/a/b.bin", tmp_path, SHA256)
    path.write_bytes(damage)
    assert fetch(f"{server.url}/a/b.bin", tmp_path, SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_damaged_record_is_none(server: FileServer, tmp_path: Path, content: str) -> None:
    path = fetch(f"{server.url}/a/b.bin", tmp_path, SHA256)
    path.with_name(f".{path.name}.json").write_text(content)
    asked = len(server.requests)
    assert fetch(f"{server.url}/a/b.bin", tmp_path, SHA256).read_bytes() == CONTENT
    assert len(server.requests) > asked


def test_without_the_server_the_cache_serves(server: FileServer, tmp_path: Path) -> None:
    fetch(f"{server.url}/a/b.bin", tmp_path)
    server.faults = ["500"] * 4
    assert fetch(f"{server.url}/a/b.bin", tmp_path).read_bytes() == CONTENT


def test_places_in_the_cache(tmp_path: Path) -> None:
    assert cache_path("https://h:1/r/step 1/x", tmp_path) == tmp_path / "https/h_1/r/step_1/x"
    one, two = (cache_path(f"https://h/x?key={key}", tmp_path) for key in "ab")
    assert one != two
    for url in ("https://", "https://h/../../etc/passwd"):
        with pytest.raises(InputError, match="not the address of a file"):
            cache_path(url, tmp_path)


def test_other_protocols_are_fsspec_s(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(CONTENT)
    url = f"file://{file}"
    assert stat(url).size == len(CONTENT)
    assert read_range(url, 3, 9) == CONTENT[3:9]
    assert fetch(url, tmp_path / "cache", SHA256).read_bytes() == CONTENT
    with pytest.raises(Missing, match="FileNotFoundError"):
        stat(f"file://{tmp_path}/none")
    with pytest.raises(InputError, match="not a file"):
        stat(f"file://{tmp_path}")
    with pytest.raises(InputError, match="tried 4 times"):
        read_range(url, 0, len(CONTENT) + 1)
    with pytest.raises(InputError, match="nosuch"):
        stat("nosuch://bucket/x")
