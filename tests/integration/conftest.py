"""The recipe `tiny`, taken through the whole real graph once for all tests of this folder."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OLMO = Path(sys.executable).with_name("olmo")
RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, kw_only=True)
class World:
    """A root of results, and the `olmo` command over it."""

    root: Path
    recipe: str = "tiny"

    @property
    def environment(self) -> dict[str, str]:
        own = {"OLMO_ROOT": str(self.root), "OLMO_RECIPES": str(RECIPES)}
        inherited = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME",)}
        return {**inherited, **own}

    def olmo(self, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(OLMO), *arguments],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def show(self) -> dict[str, Mapping[str, Any]]:
        """What `olmo show RECIPE --json` says, by asset."""
        return {entry["asset"]: entry for entry in json.loads(self._json("show"))}

    def leaderboard(self) -> list[dict[str, Any]]:
        """What `olmo leaderboard RECIPE --json` says."""
        return json.loads(self._json("leaderboard"))

    def path(self, asset: str) -> Path:
        return Path(self.show()[asset]["path"])

    def result(self, asset: str) -> dict[str, Any]:
        return json.loads((self.path(asset) / "result.json").read_text())

    def _json(self, command: str) -> str:
        done = self.olmo(command, self.recipe, "--json")
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The finished recipe `tiny`."""
    world = World(root=tmp_path_factory.mktemp("tiny"))
    done = world.olmo("run", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    return world
