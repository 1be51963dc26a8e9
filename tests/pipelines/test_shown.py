"""Which recipes Dagster shows."""

from pathlib import Path

import pytest
import yaml

from assets.paths import CHECKOUT
from assets.recipe import find_recipes
from olmo_core.errors import ConfigError
from pipelines import instance
from pipelines.shown import OURS, shown_recipes


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "runs"))
    monkeypatch.delenv("OLMO_RECIPES", raising=False)
    monkeypatch.delenv("OLMO_SHOW", raising=False)
    return tmp_path / "runs"


def test_before_a_first_run_all_recipes_are_shown() -> None:
    assert shown_recipes() == list(find_recipes())


def test_then_those_that_something_has_been_made_of(root: Path) -> None:
    (root / "olmo_1b").mkdir(parents=True)
    assert shown_recipes() == ["olmo_1b"]
    (root / "demo").mkdir()
    assert shown_recipes() == ["demo", "olmo_1b"]


def test_a_persons_own_are_shown_without_results(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "recipes" / "saved").mkdir(parents=True)
    (root / "recipes" / "saved" / "recipe.yaml").write_text("extends: demo\n")
    assert shown_recipes() == ["saved"]
    (tmp_path / "mine" / "own").mkdir(parents=True)
    (tmp_path / "mine" / "own" / "recipe.yaml").write_text("extends: demo\n")
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "mine"))
    assert shown_recipes() == ["own", "saved"]


def test_others_are_shown_when_they_are_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "demo").mkdir(parents=True)
    monkeypatch.setenv("OLMO_SHOW", "olmo_7b, olmo_1b")
    assert shown_recipes() == ["demo", "olmo_1b", "olmo_7b"]
    monkeypatch.setenv("OLMO_SHOW", "all")
    assert shown_recipes() == list(find_recipes())


def test_a_name_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMO_SHOW", "olmo_7")
    with pytest.raises(ConfigError, match=r"OLMO_SHOW: unknown recipe 'olmo_7'.*olmo_7b"):
        shown_recipes()


def test_ours_is_the_last_folder_of_the_search_path() -> None:
    assert {folder.parent for folder in find_recipes().values()} == {OURS}


def test_runs_are_placed_where_the_servers_load_the_definitions() -> None:
    [own] = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text())["load_from"]
    assert own["python_module"]["module_name"] == instance.LOCATION
    [production] = yaml.safe_load((CHECKOUT / "deploy/workspace.yaml").read_text())["load_from"]
    assert production["grpc_server"]["location_name"] == instance.LOCATION
