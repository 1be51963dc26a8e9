"""A recipe that a test may change."""

import shutil
from pathlib import Path

import pytest

from tests.assets.recipe_files import TINY


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe `mine` on a search path of its own, equal to tiny."""
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path))
    return Path(shutil.copytree(TINY, tmp_path / "mine"))
