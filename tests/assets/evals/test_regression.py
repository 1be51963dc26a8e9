"""Successive checkpoints of a recipe, from the store of results to Dagster's check and `olmo`."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.assemble import build_graph
from assets.evals import regression
from assets.evals.regression import scores, seed_groups
from assets.execution.materialise import build_regression_check
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from olmo_core.evals.rows import ModelFacts
from pipelines.cli import compare as command
from pipelines.cli.compare import print_comparison
from tests.assets.evals.scored_checkpoints import score
from tests.olmo_core.evals.store.evaluations import evaluate, figure

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def graph(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    return build_graph(load_recipe("tiny"))


def check(graph: Graph) -> dg.AssetCheckResult:
    verdict = build_regression_check(graph, "checkpoint_downstream")()
    assert isinstance(verdict, dg.AssetCheckResult)
    assert verdict.severity == dg.AssetCheckSeverity.WARN
    return verdict


def test_a_checkpoint_that_is_worse_than_the_one_before_is_named(
    graph: Graph, toy_root: Path
) -> None:
    for step, value in ((20, 0.40), (100, 0.50), (200, 0.30), (300, 0.31)):
        score(graph, toy_root, step, value)
    verdict = check(graph)
    assert not verdict.passed
    assert verdict.description is not None
    assert "stage1@step200 is worse than stage1@step100: copa acc 0.5 → 0.3" in verdict.description
    assert "step300" not in verdict.description
    assert verdict.metadata["figures_compared"] == dg.IntMetadataValue(3)


def test_a_check_looks_at_the_last_checkpoints_of_each_run(
    graph: Graph, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regression, "LAST_PAIRS", 2)
    for step, value in ((20, 0.50), (100, 0.30), (200, 0.31), (300, 0.32)):
        score(graph, toy_root, step, value)
    assert check(graph).passed
    known = scores(graph, toy_root)
    assert len(known.pairs()) == 3
    assert known.pairs(2) == known.pairs()[1:]


def test_progress_and_chance_are_no_regression(graph: Graph, toy_root: Path) -> None:
    for step, value in ((20, 0.40), (100, 0.50), (200, 0.49)):
        score(graph, toy_root, step, value)
    verdict = check(graph)
    assert verdict.passed
    assert verdict.description == (
        "2 figures of 2 pairs of checkpoints: none became worse; 2 by standard errors alone"
    )


def test_a_task_that_is_asked_otherwise_now_is_not_compared(graph: Graph, toy_root: Path) -> None:
    score(graph, toy_root, 100, 0.5)
    score(graph, toy_root, 200, 0.1, limit=50)
    verdict = check(graph)
    assert verdict.passed
    assert verdict.metadata["figures_not_compared"] == dg.IntMetadataValue(1)
    assert "1 were not compared" in str(verdict.description)
    compared = scores(graph, toy_root).compare("stage1@step100", "stage1@step200")
    assert "limit None → 50" in compared.not_compared["copa", "acc"]


def test_checkpoints_of_an_earlier_version_of_the_recipe_do_not_count(
    graph: Graph, toy_root: Path
) -> None:
    score(graph, toy_root, 100, 0.9, run="0123456789ab")
    score(graph, toy_root, 200, 0.1)
    assert list(scores(graph, toy_root).rows) == ["stage1@step200"]


def test_a_damaged_result_is_named_and_the_rest_is_compared(graph: Graph, toy_root: Path) -> None:
    for step, value in ((20, 0.5), (100, 0.3), (200, 0.3)):
        score(graph, toy_root, step, value)
    [rows] = toy_root.glob("tiny/checkpoint_downstream/stage1@step200/*/rows.parquet")
    [kept] = toy_root.glob("results/tiny/checkpoint_downstream/stage1@step200--*")
    for path in (rows, kept):
        path.write_bytes(b"torn")
    verdict = check(graph)
    assert not verdict.passed
    assert "stage1@step100 is worse" in str(verdict.description)
    assert f"not compared: {kept}" in str(verdict.description)


def ingredients(graph: Graph, changes: Mapping[str, Any]) -> Graph:
    """The graph, with three trainings of equal inputs that differ as the changes say."""
    first = graph.nodes["stage2_ingredient1"]
    nodes = dict(graph.nodes)
    for number, (key, value) in enumerate(changes.items(), start=2):
        name = f"stage2_ingredient{number}"
        nodes[name] = replace(first, name=name, config={**first.config, key: value})
    return replace(graph, nodes=nodes)


def test_trainings_that_differ_by_their_seed_alone_are_a_group(graph: Graph) -> None:
    assert seed_groups(ingredients(graph, {"seed": 7, "max_duration": "3e3T"})) == [
        ["stage2_ingredient1", "stage2_ingredient2"]
    ]
    assert seed_groups(build_graph(load_recipe("demo"))) == [
        [f"stage2_ingredient{number}" for number in (1, 2, 3)]
    ]


def model(name: str) -> ModelFacts:
    facts = {"recipe": "tiny", "run": f"run of {name}", "seed": 1, "step": 5, "tokens": 1}
    return ModelFacts(model=name, revision=None, sha256=name, **facts)


def test_what_seeds_do_is_learned_from_the_ingredients(
    graph: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"stage2_ingredient1": 0.30, "stage2_ingredient2": 0.45, "soup": 0.40, "stage1": 0.50}
    evaluate(
        toy_root,
        *map(model, values),
        figures=(figure(value=0.5, stderr=0.01),),
        recipe="tiny",
        version="0" * 12,
    )
    evaluate_each(toy_root, values)
    graph = ingredients(graph, {"seed": 7})
    known = scores(graph, toy_root)
    [floor] = known.floors.values()
    assert (floor.spread, floor.models) == (pytest.approx(0.15), 2)
    [figure_of] = known.compare("stage1", "soup").figures
    assert (figure_of.before, figure_of.after) == (0.50, 0.40)  # of the last evaluation
    assert figure_of.verdict == "within seeds"
    [other] = known.compare("stage1", "stage2_ingredient1").figures
    assert other.verdict == "worse"


def evaluate_each(root: Path, values: Mapping[str, float]) -> Path:
    """A later evaluation, in which each model has a score of its own."""
    from olmo_core.evals import rows

    written = rows.write_rows

    def own(path: Path, found: Any) -> None:
        written(path, [{**row, "value": values[row["model"]]} for row in found])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.olmo_core.evals.store.evaluations.write_rows", own)
        figures = (figure(stderr=0.01),)
        return evaluate(
            root, *map(model, values), figures=figures, recipe="tiny", version="1" * 12
        ).path


def test_the_command_shows_all_checkpoints_or_two_models(
    graph: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_comparison("tiny", [], as_json=False) == 0
    assert "no two checkpoints" in capsys.readouterr().out
    for step, value in ((20, 0.40), (100, 0.50), (200, 0.30)):
        score(graph, toy_root, step, value)
    assert print_comparison("tiny", [], as_json=False) == 1
    shown = capsys.readouterr().out
    assert "stage1@step20 → stage1@step100" in shown
    assert "better" in shown
    assert "worse" in shown
    assert command.METHOD[:40] in shown
    assert print_comparison("tiny", ["stage1@step20", "stage1@step100"], as_json=True) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["task"], found["verdict"], found["seeds"]) == ("copa", "better", None)
    assert found["change"] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="did you mean 'stage1@step20'"):
        print_comparison("tiny", ["stage1@step2", "stage1@step100"], as_json=False)
    with pytest.raises(ConfigError, match="expected two"):
        print_comparison("tiny", ["soup"], as_json=False)


def test_nothing_of_it_is_imported_with_the_definitions() -> None:
    code = (
        "import sys, pipelines.definitions as d; d.build_definitions(['demo'])\n"
        "print([m for m in ('pyarrow', 'duckdb', 'torch', 'urllib3') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
