"""Downloads that break off, and files that change meanwhile: never two versions in one file."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from olmo_core.errors import InputError
from tests.olmo_core.file_server import FileServer
from tests.olmo_core.remote.downloads import (
    CONTENT,
    HALF,
    OTHER,
    SHA256,
    break_off,
    bring,
    change,
    left_behind,
    parts_asked,
)

pytestmark = pytest.mark.usefixtures("waiting_is_told")


@pytest.mark.parametrize("validators", ["etag", "date"])
def test_a_dropped_connection_costs_what_was_under_way(
    server: FileServer, here: Path, validators: str
) -> None:
    server.validators = validators
    server.faults = ["", "short", "short", "cut"]
    assert bring(server, here).sha256 == SHA256
    starts = [0, HALF, HALF + HALF // 2, HALF + HALF // 2 + HALF // 4]
    assert parts_asked(server) == [f"bytes={start}-" for start in starts]
    assert left_behind(here) == []


@pytest.mark.parametrize("validators", ["etag", "date"])
def test_a_killed_process_s_part_is_taken_up(
    server: FileServer, here: Path, validators: str
) -> None:
    server.validators = validators
    break_off(server, here)
    assert bring(server, here, sha256=SHA256).size_bytes == len(CONTENT)
    assert parts_asked(server) == [f"bytes={HALF}-"]


def test_a_part_beyond_what_is_recorded_is_not_trusted(server: FileServer, here: Path) -> None:
    """After a crash of the machine a file may be longer than what reached the disk."""
    break_off(server, here)
    with (here / ".a.bin.partial").open("r+b") as file:
        file.seek(HALF - 10)
        file.write(b"\0" * 500)
    record = here / ".a.bin.partial.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "bytes": HALF - 10}))
    assert bring(server, here).sha256 == SHA256
    assert parts_asked(server) == [f"bytes={HALF - 10}-"]


@pytest.mark.parametrize("validators", ["none", "weak"])
def test_a_part_of_an_unknown_version_is_begun_anew(
    server: FileServer, here: Path, validators: str
) -> None:
    break_off(server, here)
    server.validators = validators
    record = here / ".a.bin.partial.json"
    said = server.said_of(server.folder / "a.bin").get("ETag", "")
    record.write_text(json.dumps({**json.loads(record.read_text()), "version": said}))
    server.faults = ["", "short"]
    assert bring(server, here).sha256 == SHA256
    assert parts_asked(server) == ["bytes=0-", "bytes=0-"]


@pytest.mark.parametrize("validators", ["etag", "date", "ignored", "none", "weak"])
def test_two_versions_are_never_joined(server: FileServer, here: Path, validators: str) -> None:
    """It changes once between two processes and once under way, to files of the same size."""
    server.validators = validators
    break_off(server, here)
    change(server)
    server.faults = ["", "short"]
    server.before = lambda number: change(server, CONTENT[::3] * 3) if number == 3 else None
    assert bring(server, here).sha256 == hashlib.sha256(CONTENT[::3] * 3).hexdigest()
    assert left_behind(here) == []


def test_two_versions_are_never_joined_when_the_first_comes_back(
    server: FileServer, here: Path
) -> None:
    """As from a farm of servers of which some have the new version."""
    old = (server.folder / "a.bin").stat()
    break_off(server, here)
    change(server)
    break_off(server, here)
    (server.folder / "a.bin").write_bytes(CONTENT)
    os.utime(server.folder / "a.bin", ns=(old.st_mtime_ns, old.st_mtime_ns))
    assert bring(server, here).sha256 == SHA256
    assert parts_asked(server) == ["bytes=0-"]


def test_one_that_changes_all_the_time_is_given_up(server: FileServer, here: Path) -> None:
    server.before = lambda number: change(server, bytes([number % 256]) * 10)
    with pytest.raises(InputError, match=r"a\.bin: changed while in use"):
        bring(server, here)
    assert not (here / "a.bin").exists()


def test_one_that_changes_while_its_last_bytes_come(server: FileServer, here: Path) -> None:
    server.before = lambda number: change(server) if number == 3 else None  # its question after
    assert (here / "a.bin") == bring(server, here).path
    assert (here / "a.bin").read_bytes() == OTHER


def test_a_server_without_ranges(server: FileServer, here: Path) -> None:
    server.ranges = False
    server.faults = ["", "short", "short"]
    assert bring(server, here).sha256 == SHA256
    assert parts_asked(server) == [None, None, None]
    server.faults = ["", *["short"] * 4]
    with pytest.raises(InputError, match=r"a\.bin: .*tried 4 times"):
        bring(server, here / "elsewhere")


def test_a_server_that_answers_a_range_with_everything(server: FileServer, here: Path) -> None:
    server.faults = ["", "short"]
    server.before = lambda number: setattr(server, "ranges", number < 3)
    assert bring(server, here, sha256=SHA256).path.read_bytes() == CONTENT
    assert parts_asked(server) == ["bytes=0-", f"bytes={HALF}-"]


@pytest.mark.parametrize("fault", ["shifted", "longer", "cut", "short"])
def test_wrong_lengths(server: FileServer, here: Path, fault: str) -> None:
    server.faults = ["", fault]
    assert bring(server, here).sha256 == SHA256
    server.faults = ["", *[fault] * 12]
    if fault in ("shifted", "longer"):
        with pytest.raises(InputError, match=r"a\.bin: "):
            bring(server, here / "elsewhere")
        assert not (here / "elsewhere" / "a.bin").exists()
    else:  # each brings some bytes more
        assert bring(server, here / "elsewhere").sha256 == SHA256


def test_a_spoilt_part_is_fetched_anew_once(server: FileServer, here: Path) -> None:
    break_off(server, here)
    with (here / ".a.bin.partial").open("r+b") as file:
        file.write(b"spoilt")
    assert bring(server, here, sha256=SHA256).path.read_bytes() == CONTENT
    assert parts_asked(server) == [f"bytes={HALF}-", "bytes=0-"]
