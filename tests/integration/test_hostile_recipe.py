"""A recipe's values that a shell, W&B, YAML or a path could take for something else, in real jobs.

Jobs that take them end as ever, with the values to the letter; what is refused is refused clearly.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hostile import hostile
from tests.integration.conftest import RECIPES, World

Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, file: str, change: Change) -> dict[str, str]:
    """The environment of a recipe `tiny` with one of its files changed."""
    recipe = shutil.copytree(RECIPES / "tiny", folder / "recipes" / "tiny")
    content = yaml.safe_load((recipe / file).read_text())
    change(content)
    (recipe / file).write_text(yaml.safe_dump(content, sort_keys=False))
    return {"OLMO_RECIPES": str(recipe.parent)}


@pytest.fixture
def world(tiny: World, tmp_path: Path) -> World:
    """The finished recipe, in a root of this test's own."""
    return World(root=shutil.copytree(tiny.root, tmp_path / "root", symlinks=True))


@pytest.fixture
def cage(tmp_path: Path) -> Path:
    made = tmp_path / "cage"
    made.mkdir()
    return made


@pytest.mark.slow
def test_names_of_a_run_reach_training_and_wandb_to_the_letter(
    world: World, tmp_path: Path, cage: Path
) -> None:
    # `${` is OmegaConf's in these files: what it cannot read is refused, as below.
    values = [value.replace("\0", "") for value in hostile(cage / "canary") if "${" not in value]
    name = "".join(values)

    def change(stage1: dict[str, Any]) -> None:
        stage1["run_name"] = name
        keys = ("project", "name", "group", "entity")
        stage1["wandb"] = {**dict(zip(keys, values, strict=False)), "tags": values}

    environment = changed(tmp_path, "stage1.yaml", change)
    done = world.olmo(
        *("run", "tiny", "--select", "stage1", "--force"), **environment, WANDB_MODE="offline"
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert list(cage.iterdir()) == []
    runs = (world.root / "tiny" / "stage1").glob("*/config.yaml")
    [config] = [c for c in map(read_yaml, runs) if c["run_name"] == name]
    assert config["wandb"]["tags"] == values
    assert (Path(config["save_folder"]) / "result.json").exists()


@pytest.mark.slow
def test_texts_of_a_model_card_come_through_to_the_letter(
    world: World, tmp_path: Path, cage: Path
) -> None:
    values = hostile(cage / "canary")

    def change(evals: dict[str, Any]) -> None:
        evals["model_card"] |= {
            "title": values[0],
            "description": "".join(values),
            "tags": values,
            "hardware": "".join(values),
            "limitations": values,
        }

    environment = changed(tmp_path, "evals.yaml", change)
    done = world.olmo("run", "tiny", "--select", "model_card", **environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert list(cage.iterdir()) == []
    cards = (world.root / "tiny" / "model_card").glob("*/README.md")
    [card] = [text for text in map(read, cards) if "".join(values) in text]
    front = yaml.safe_load(card.split("\n---\n")[0])
    assert set(values) <= set(front["tags"])
    assert card.count("".join(values)) == 2  # description and hardware


def read(path: Path) -> str:
    return path.read_bytes().decode()  # read_text would make "\n" of "\r\n"


def read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["source", "root", "include", "task", "run_name", "language"])
def test_what_is_refused_is_refused_clearly_and_nothing_runs(
    kind: str, world: World, tmp_path: Path, cage: Path
) -> None:
    value = f"../$(touch {cage}/canary)`touch {cage}/canary`\n'; touch {cage}/canary; '\x1b[2J"

    def change(content: dict[str, Any]) -> None:
        if kind == "run_name":
            content["run_name"] = f"${{x:{value}}}"
        elif kind == "task":
            content["downstream"]["tasks"][0]["name"] = value
        elif kind == "language":
            content["model_card"]["language"] = [value]
        else:
            key = "name" if kind == "source" else kind
            entry = {"name": "hostile", "reader": "files", "root": str(tmp_path)}
            content["raw"]["sources"].append(
                {**entry, "include": ["*.jsonl"], key: [value] if kind == "include" else value}
            )

    files = {"task": "evals.yaml", "language": "evals.yaml", "run_name": "stage1.yaml"}
    environment = changed(tmp_path, files.get(kind, "corpus.yaml"), change)
    selected = {"task": "downstream", "language": "model_card", "run_name": "stage1"}
    select = selected.get(kind, "raw")
    done = world.olmo("run", "tiny", "--select", select, **environment)
    assert done.returncode in (1, 2)
    assert list(cage.iterdir()) == []
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "touch" in said, said  # the value is named
    assert "\x1b[2J" not in said
    results = world.root.glob("tiny/*/*/result.json")
    assert all(json.loads(path.read_text())["fingerprint"] for path in results)
