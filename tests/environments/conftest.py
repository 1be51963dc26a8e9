"""A checkout that holds what set-up reads, and a PATH with no Python on it."""

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder to be all of PATH, with the tools that the scripts of set-up use."""
    folder = tmp_path / "path"
    folder.mkdir()
    for tool in ("cat", "dirname", "head", "sh", "tail"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return folder


def command(folder: Path, name: str, script: str) -> Path:
    """Put a shell script into a folder of the test's own; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
