"""Ingredients of stage 2: two or more that differ, each with a mix of its own if it says so."""

from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from tests.assets.recipe_files import replace, set_ingredients


@pytest.mark.parametrize(
    ("ingredients", "message"),
    [
        ("[{seed: 1}]", "at least two"),
        ("[{seed: 1}, {seed: 1}]", "two are equal"),
        ("[{seed: 1}, 2]", "expected mappings"),
        ("3", "at least two"),
        ("[{seed: 1}, {sed: 2}]", "sed: unknown key"),
    ],
)
def test_ingredients_are_two_or_more_and_differ(copy: Path, ingredients: str, message: str) -> None:
    set_ingredients(copy, ingredients)
    with pytest.raises(ConfigError, match=message):
        build_graph(load_recipe("mine"))


def test_the_values_of_an_ingredient_mean_what_they_mean_in_yaml(copy: Path) -> None:
    set_ingredients(copy, "[{seed: 1, max_grad_norm: null}, {seed: 2, run_name: 'a: b'}]")
    first, second = (config for _, config in load_recipe("mine").ingredients())
    assert first.max_grad_norm is None
    assert second.run_name == "a: b"


def test_an_ingredient_may_have_a_mix_of_its_own(copy: Path) -> None:
    set_ingredients(copy, "[{seed: 42}, {seed: 666, mix: stage2_mix_long}]")
    with pytest.raises(ConfigError, match=r"stage2_mix_long: section missing"):
        build_graph(load_recipe("mine"))
    with (copy / "corpus.yaml").open("a") as text:
        text.write("\nstage2_mix_long:\n  sources: {licences: {repetitions: 3}}\n")
    recipe = load_recipe("mine")
    graph = build_graph(recipe)
    assert recipe.mixes == ("stage1_mix", "stage2_mix", "stage2_mix_long")
    assert [mix for mix in recipe.mixes if mix in graph.nodes["stage2_ingredient1"].inputs] == [
        "stage2_mix"
    ]
    assert [mix for mix in recipe.mixes if mix in graph.nodes["stage2_ingredient2"].inputs] == [
        "stage2_mix_long"
    ]
    assert set(recipe.mixes) < set(graph.nodes["model_card"].inputs)
    assert [config.seed for config in recipe.trainings("stage2_mix_long")] == [666]
    replace(copy / "corpus.yaml", "repetitions: 3", "repetitions: 4")
    after = build_graph(load_recipe("mine")).fingerprints
    changed = {name for name in after if after[name].value != graph.fingerprints[name].value}
    assert {"stage2_mix_long", "stage2_ingredient2", "soup"} < changed
    assert not {"stage2_mix", "stage2_ingredient1"} & changed


@pytest.mark.parametrize(
    "mix", ["tokens", "Stage2_mix", "stage2_mix_", "stage2_mix/a", "3", "null"]
)
def test_what_cannot_be_the_name_of_a_mix(copy: Path, mix: str) -> None:
    set_ingredients(copy, f"[{{seed: 42}}, {{seed: 666, mix: {mix}}}]")
    with pytest.raises(ConfigError, match=r"stage2\.yaml:\d+: ingredients: mix: found"):
        build_graph(load_recipe("mine"))


def test_a_stage_2_without_ingredients_is_refused(copy: Path) -> None:
    lines = (copy / "stage2.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ingredients:"))
    (copy / "stage2.yaml").write_text("\n".join(lines[:start]) + "\n")
    with pytest.raises(ConfigError, match=r"ingredients: missing.*or no stage2\.yaml at all"):
        build_graph(load_recipe("mine"))
