"""`olmo diff` on real runs that differ in one value: that value is named, and nothing else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.integration.conftest import RECIPES, World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tiny: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """`tiny` beside a variant of its training and one of its corpus, in a root of their own."""
    folder = tmp_path_factory.mktemp("diff")
    (folder / "mine").mkdir()
    found = World(root=shutil.copytree(tiny.root, folder / "root", symlinks=True))
    variants = (
        ("stage1.optimizer.learning_rate=5e-4", "tiny_rate", "perplexity"),
        ("corpus.held_out.seed=7", "tiny_seed", "documents"),
    )
    for setting, name, asset in variants:
        arguments = ("--set", setting, "--as", name, "--select", asset)
        done = found.olmo("run", "tiny", *arguments, OLMO_RECIPES=paths(found))
        assert done.returncode == 0, done.stdout + done.stderr
    return found


def paths(world: World) -> str:
    return f"{world.root.parent / 'mine'}:{RECIPES}"


def diff(world: World, *names: str) -> dict[str, Any]:
    done = world.olmo("diff", *names, "--json", OLMO_RECIPES=paths(world))
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = json.loads(done.stdout)
    return found


def test_a_training_differs_in_its_learning_rate_alone(world: World) -> None:
    found = diff(world, "tiny/stage1", "tiny_rate/stage1")
    [cause] = found["causes"]
    assert (cause["assets"], cause["what"]) == (["stage1"], "optimizer.learning_rate")
    assert cause["after"] == 5e-4
    assert found["because"] == {}
    assert found["data"] == []
    assert found["documents"] is None  # made from the same tokens
    [losses] = found["losses"].values()
    assert losses["first_step_apart"] == 2  # the first loss is that of the first weights
    [weights] = found["weights"].values()
    assert weights["not_compared"] == []
    assert 0 < weights["all"]["relative"] < 1
    assert all(tensor["norm"] > 0 for tensor in weights["tensors"])


def test_checkpoints_of_two_runs_have_weights_that_lie_apart(world: World) -> None:
    [model] = diff(world, "tiny/stage1", "tiny_rate/stage1")["weights"].values()
    steps = sorted(
        int(path.name.removeprefix("step"))
        for path in (world.path("stage1") / "checkpoints").glob("step*")
    )
    names = [f"{recipe}/stage1@step{steps[-1]}" for recipe in ("tiny", "tiny_rate")]
    [weights] = diff(world, *names)["weights"].values()
    assert weights["all"]["relative"] == pytest.approx(model["all"]["relative"], rel=1e-9)
    assert weights["not_compared"] == []


def test_a_corpus_differs_in_its_seed_alone_and_in_these_documents(world: World) -> None:
    found = diff(world, "tiny/documents", "tiny_seed/documents")
    [cause] = found["causes"]
    assert (cause["assets"], cause["what"], cause["after"]) == (["held_out"], "seed", 7)
    ids = {name: indexed(world, name) for name in ("tiny", "tiny_seed")}
    first, second = ids["tiny"] - ids["tiny_seed"], ids["tiny_seed"] - ids["tiny"]
    assert first
    assert second
    documents = found["documents"]
    assert total(documents["first"]) == len(first)
    assert total(documents["second"]) == len(second)
    assert set(documents["first"]["ids"]) <= first
    assert set(documents["second"]["ids"]) <= second


def test_two_recipes_side_by_side(world: World, tmp_path: Path) -> None:
    """One value is the cause of all; every model is scored on both sides, every training drawn."""
    found = diff(world, "tiny", "tiny_rate")
    [cause] = found["causes"]
    assert cause["line"] == "stage1: optimizer.learning_rate: 0.008 → 0.0005"
    assert {each["what"] for each in found["card"]} == {"title", "description", "unconfirmed"}
    assert found["because"]["soup"] == ["stage2_ingredient1", "stage2_ingredient2"]
    assert (found["data"], found["documents"]) == ([], None)
    trainings = ["stage1", "stage2_ingredient1", "stage2_ingredient2"]
    assert list(found["losses"]) == trainings
    assert list(found["weights"]) == [*trainings, "soup"]

    before, after = (in_perplexity(world, recipe) for recipe in ("tiny", "tiny_rate"))
    scored = {
        figure["before"].split("/")[1].split()[0]: figure
        for figure in found["scores"]
        if (figure["task"], figure["metric"]) == ("held_out", "bits_per_byte")
    }
    assert list(scored) == [*trainings, "soup"]
    for model, figure in scored.items():
        assert figure["value_before"] == pytest.approx(before[model], abs=1e-4)
        assert figure["value_after"] == pytest.approx(after[model], abs=1e-4)
        assert 0 < figure["low"] < figure["change"] < figure["high"]
        assert figure["p_adjusted"] < 0.05
        assert figure["change"] > figure["seed_spread"]  # of the two ingredients of either recipe
        assert figure["verdict"] == "worse"  # the rate is too low for so few steps

    picture = tmp_path / "losses.svg"
    arguments = ("diff", "tiny", "tiny_rate")
    for more in ((), ("--out", str(picture))):
        done = world.olmo(*arguments, *more, OLMO_RECIPES=paths(world), COLUMNS="150")
        assert done.returncode == 0, done.stderr
        assert re.search(r"held_out +bits_per_byte .* worse", done.stdout)
        assert "olmo curves tiny tiny_rate" in done.stdout
        assert ("x tiny_rate" in done.stdout) == (not more)  # the legend, three times
    drawn = picture.read_text()
    for title in trainings:
        assert f"{title}: training loss" in drawn
    assert drawn.count(">tiny_rate</text>") == len(trainings)


def in_perplexity(world: World, recipe: str) -> dict[str, float]:
    """The bits per byte of each model, as the evaluation itself has reported them."""
    [result] = (world.root / recipe / "perplexity").glob("*/result.json")
    rows = json.loads(result.read_text())["report"]["tables"]["bits_per_byte held_out"]
    return {row["model"]: row["all documents"] for row in rows}


def total(found: dict[str, Any]) -> int:
    return sum(each["documents"] for each in found["sources"].values())


def indexed(world: World, recipe: str) -> set[str]:
    """The ids of all documents with tokens, by token file."""
    [result] = (world.root / recipe / "documents").glob("*/result.json")
    files = [*(result.parent / "places").rglob("*.parquet")]
    assert files
    return {id for file in files for id in pq.read_table(file, columns=["id"])["id"].to_pylist()}
