"""A card has the texts of its own recipe, and of no other."""

import shutil
from pathlib import Path

import pytest
import yaml

from assets.assemble import build_graph
from assets.recipe import find_recipes, load_recipe
from olmo_core.errors import ConfigError

CHECKOUT = Path(__file__).parents[2]


def card(name: str) -> dict[str, object]:
    return dict(build_graph(load_recipe(name)).nodes["model_card"].config)


def copied(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe `demo` under another name; its evals.yaml."""
    copy = shutil.copytree(CHECKOUT / "pipelines" / "recipes" / "demo", folder / name)
    monkeypatch.setenv("OLMO_RECIPES", str(folder))
    return copy / "evals.yaml"


@pytest.mark.parametrize("name", find_recipes())
def test_every_recipe_of_the_project_has_its_own_texts(name: str) -> None:
    config = card(name)
    assert config["unconfirmed"] == ""
    assert config["description"]


def test_a_copy_leaves_the_texts_out_until_they_are_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evals = copied("mine", tmp_path, monkeypatch)
    config = card("mine")
    assert config["title"] == "Variant of demo"  # equal recipes have one card, whatever their names
    assert (config["description"], config["intended_use"], config["limitations"]) == ("", "", [])
    assert "were written for the recipe demo, and are left out" in str(config["unconfirmed"])
    evals.write_text(evals.read_text().replace("written_for: demo", "written_for: mine"))
    assert card("mine")["unconfirmed"] == ""
    assert card("mine")["limitations"] == card("demo")["limitations"] != []


def test_a_variant_leaves_the_texts_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo_lr2").mkdir()
    (tmp_path / "demo_lr2" / "recipe.yaml").write_text("extends: demo\n")
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path))
    assert card("demo_lr2")["title"] == "Variant of demo"
    assert card("demo_lr2")["description"] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"license": "nonsense-9"}, r"evals\.yaml:\d+: model_card\.license.*identifier of the hub"),
        ({"language": ["english"]}, r"evals\.yaml:\d+: model_card\.language.*ISO 639-1"),
        ({"unconfirmed": "no"}, r"evals\.yaml:\d+: model_card: unconfirmed: the graph sets it"),
    ],
)
def test_a_card_that_the_hub_would_not_take_is_refused_with_its_line(
    change: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evals = copied("mine", tmp_path, monkeypatch)
    content = yaml.safe_load(evals.read_text())
    content["model_card"] = {**content["model_card"], "license_name": None, **change}
    evals.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message):
        card("mine")
