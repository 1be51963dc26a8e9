"""A checkout in a temporary folder that holds what set-up reads."""

import shutil
from pathlib import Path

import pytest

from environments.setup import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the project's pyproject.toml and environments/, and no environment."""
    root = tmp_path / "checkout"
    shutil.copytree(
        ROOT / "environments", root / "environments", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", root)
    return root
