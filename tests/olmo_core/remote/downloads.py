"""Downloads of one file, of a MB, from the server of `conftest.py`."""

import hashlib
import os
from pathlib import Path

import pytest

from olmo_core.errors import InputError
from olmo_core.remote.download import download_files
from olmo_core.remote.transfer import Downloaded, Wanted
from tests.olmo_core.file_server import FileServer

CONTENT = bytes(range(256)) * 4000  # a MB: "short" sends half of it
OTHER = bytes(reversed(CONTENT))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Pauses(list[float]):
    """Waits that end at once."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def bring(server: FileServer, here: Path, **known: object) -> Downloaded:
    """Download the one file."""
    wanted = Wanted(url=f"{server.url}/a.bin", path=here / "a.bin", **known)  # type: ignore[arg-type]
    (found,) = download_files([wanted], wait=Pauses())
    return found


def parts_asked(server: FileServer) -> list[str | None]:
    """The ranges asked for but the questions for size and version."""
    return [part for _, part in server.requests if part != "bytes=0-0"]


def left_behind(here: Path) -> list[str]:
    return sorted(path.name for path in here.iterdir() if ".partial" in path.name)


def break_off(server: FileServer, here: Path) -> None:
    """Leave half of the file, as a killed process does."""
    server.faults = ["", "short", *["500"] * 4]
    with pytest.raises(InputError, match="tried 4 times"):
        bring(server, here)
    kept = 0 if server.validators in ("none", "weak") else HALF  # else begun anew at each try
    assert (here / ".a.bin.partial").stat().st_size == kept
    server.requests.clear()


def change(server: FileServer, content: bytes = OTHER) -> None:
    """Replace the file; its time is another one, to the second."""
    path = server.folder / "a.bin"
    before = path.stat().st_mtime
    path.write_bytes(content)
    os.utime(path, (before + 5, before + 5))
