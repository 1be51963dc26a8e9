from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from olmo_core.remote import storage
from tests.olmo_core.file_server import FileServer, serving
from tests.olmo_core.remote.downloads import CONTENT


@pytest.fixture
def waiting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of whole seconds, which no test sleeps through."""
    monkeypatch.setattr(storage, "PAUSES_SECONDS", (1.0, 2.0, 4.0))
    monkeypatch.setattr(storage, "time", SimpleNamespace(sleep=_no_sleep))


def _no_sleep(seconds: float) -> None:
    raise AssertionError("slept, although there was something to wait with")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.bin").write_bytes(CONTENT)
    (folder / "empty").touch()
    with serving(folder) as state:
        yield state


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"
