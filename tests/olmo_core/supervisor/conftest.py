"""A toy job under a supervisor, which leaves no process behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core.run.process import members

# What each attempt does stands in toy.json, a list of words an attempt.
from tests.olmo_core.supervisor.supervised import Toy


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    toy = Toy(tmp_path)
    yield toy
    assert not members(toy.folder.path), "a process is left"
