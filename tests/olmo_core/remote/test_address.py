"""Secrets in URLs: nothing that is written down or said of a file has them."""

import logging
from pathlib import Path

import pytest

from olmo_core.errors import InputError
from olmo_core.remote.address import address
from olmo_core.remote.cache import RemoteFiles, cache_path, fetch
from olmo_core.remote.download import download_files
from olmo_core.remote.storage import stat
from olmo_core.remote.transfer import Wanted
from tests.olmo_core.file_server import FileServer
from tests.olmo_core.remote.downloads import CONTENT, Pauses

SECRET = "c0ffee5ecret"


def written(folder: Path) -> str:
    """The names and contents of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(f"{path.relative_to(folder)}\n{path.read_bytes()!r}\n" for path in files)


@pytest.mark.usefixtures("waiting_is_told")
@pytest.mark.parametrize("place", ["query", "user"])
def test_a_secret_is_written_and_said_nowhere(
    server: FileServer, here: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with_user = server.url.replace("://", f"://ann:{SECRET}@")
    url = f"{server.url}/a.bin?sig={SECRET}" if place == "query" else f"{with_user}/a.bin"
    target = cache_path(url, here)
    server.faults = ["500", "short", "cut"]
    [file] = download_files([Wanted(url=url, path=target)], wait=Pauses())
    assert file.path.read_bytes() == CONTENT
    [again] = download_files([Wanted(url=url, path=target)], wait=Pauses())
    assert again == file
    assert fetch(url, here / "whole").read_bytes() == CONTENT
    content = memoryview(bytearray(100))
    RemoteFiles(here / "blocks").read_into(url, 0, content)
    RemoteFiles(here / "blocks").read_into(url, 0, content)
    server.faults = ["500"] * 4
    wanted = Wanted(url=url.replace("a.bin", "none"), path=here / "x", sha256="0" * 64)
    errors: list[str] = []
    with pytest.raises(InputError) as raised:
        download_files([wanted], wait=Pauses())
    errors.append(str(raised.value))
    wanted = Wanted(url=url, path=here / "x", sha256="0" * 64)
    with pytest.raises(InputError) as raised:
        download_files([wanted], wait=Pauses())
    errors.append(str(raised.value))
    gone = f"http://127.0.0.1:1/x?sig={SECRET}" if place == "query" else f"http://{SECRET}@[::1]:1/"
    with pytest.raises(InputError) as raised:
        stat(gone, wait=Pauses())
    errors.append(str(raised.value))
    assert all("***" in error for error in errors), errors
    assert SECRET not in "".join(errors) + caplog.text + written(here)
    assert "http" in written(here)  # the rest of the address is there


def test_other_secrets_are_another_address(tmp_path: Path) -> None:
    one, other, user = "https://h/x?sig=1", "https://h/x?sig=2", "https://a:b@h/x"
    assert address("https://h/x") == "https://h/x"
    assert len({address(url) for url in (one, other, user, "https://h/x")}) == 4
    assert address(one).startswith("https://h/x?sig=*** (")
    paths = {cache_path(url, tmp_path) for url in (one, other, user, "https://h/x")}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {tmp_path / "https" / "h"}
