"""Which values of a recipe are part of the identity of which assets."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assets.assemble import build_graph
from assets.recipe import load_recipe
from olmo_core.evals.task_sources import DATA, TASKS
from tests.assets.recipe_files import replace


def test_how_often_a_run_saves_is_no_part_of_its_identity(copy: Path) -> None:
    before = build_graph(load_recipe("mine")).fingerprints["stage1"].value
    replace(copy / "stage1.yaml", "save_interval: 20", "save_interval: 10")
    assert build_graph(load_recipe("mine")).fingerprints["stage1"].value == before


def test_one_seed_changes_its_ingredient_and_what_descends_from_it(copy: Path) -> None:
    before = build_graph(load_recipe("mine")).fingerprints
    replace(copy / "stage2.yaml", "{seed: 42069}", "{seed: 42070}")
    after = build_graph(load_recipe("mine")).fingerprints
    changed = {name for name in before if before[name].value != after[name].value}
    assert changed == {
        "stage2_ingredient2",
        "soup",
        "export",
        "perplexity",
        "downstream",
        "leaderboard",
        "model_card",
    }


def test_one_evaluation_limit_changes_evaluations_only(copy: Path) -> None:
    before = build_graph(load_recipe("mine")).fingerprints
    replace(copy / "evals.yaml", "limit: 8", "limit: 7")
    after = build_graph(load_recipe("mine")).fingerprints
    changed = {name for name in before if before[name].value != after[name].value}
    assert changed == {"downstream", "leaderboard", "model_card"}


def test_where_a_recipe_lies_is_no_part_of_its_identity(copy: Path, tmp_path: Path) -> None:
    here = build_graph(load_recipe("mine")).fingerprints["leaderboard"].value
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(copy, moved / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLMO_RECIPES", str(moved))
        assert build_graph(load_recipe("mine")).fingerprints["leaderboard"].value == here


def test_what_a_check_lets_pass_makes_nothing_else_of_an_asset(copy: Path) -> None:
    corpus = copy / "corpus.yaml"
    corpus.write_text(corpus.read_text() + "\ndecontaminated: {min_words: 9}\n")
    before = build_graph(load_recipe("mine"))
    replace(
        corpus, "{min_words: 9}", "{min_words: 9, max_share: 0.7, unchecked_sources: [licences]}"
    )
    after = build_graph(load_recipe("mine"))
    values = [
        {name: found.value for name, found in graph.fingerprints.items()}
        for graph in (before, after)
    ]
    assert values[0] == values[1]
    held: dict[str, tuple[float, str]] = {
        "books": (0.75, "books/1"),
        "licences": (1.0, "licences/1"),
    }
    finished: Any = SimpleNamespace(data={"evaluation": held})
    said: list[str] = []
    for graph in (before, after):
        [check] = graph.nodes["filtered"].checks
        verdict = check.evaluate(finished)
        assert not verdict.passed
        said.append(verdict.description.split(":")[0])
    assert said == [
        "licences/1 holds 100% of one, max_share is 80%",
        "books/1 holds 75% of one, max_share is 70%",
    ]


def test_only_what_reads_a_task_is_stale_where_its_row_changes(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe evaluates copa and openbookqa."""
    corpus = copy / "corpus.yaml"
    corpus.write_text(corpus.read_text() + "\ndecontaminated: {min_words: 9}\n")
    before = build_graph(load_recipe("mine")).fingerprints
    inputs = {name: node.inputs for name, node in build_graph(load_recipe("mine")).nodes.items()}
    rows: list[tuple[dict[str, Any], str, dict[str, str], set[str]]] = [
        (TASKS, "sciq", {"file": "other.yaml"}, set[str]()),
        (DATA, "sciq", {"question": "other"}, set[str]()),
        (TASKS, "copa", {"file": "other.yaml"}, {"downstream"}),
        (DATA, "copa", {"question": "other"}, {"decontaminated"}),
    ]
    for table, row, changes, made_by_it in rows:
        with monkeypatch.context() as patch:
            patch.setitem(table, row, dataclasses.replace(table[row], **changes))
            after = build_graph(load_recipe("mine")).fingerprints
        stale = {name for name in before if before[name].value != after[name].value}
        expected = set(made_by_it)
        for name, made_from in inputs.items():
            if expected & set(made_from):
                expected.add(name)
        assert stale == expected
