"""Recipes: found on the path, strict, and every mistake names file, line and key."""

import shutil
from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.recipe import find_recipes, load_recipe, require_name
from olmo_core.errors import ConfigError
from tests.assets.recipe_files import replace


def test_recipes_are_found_on_the_path_before_the_checkout(copy: Path) -> None:
    (copy.parent / "demo").mkdir()
    (copy.parent / "demo" / "corpus.yaml").write_text("raw: {}\n")
    found = find_recipes()
    assert found["mine"] == copy
    assert found["demo"] == copy.parent / "demo"


def test_an_unknown_recipe_names_the_nearest(copy: Path) -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'mien'; did you mean 'mine'"):
        load_recipe("mien")


def test_a_folder_on_the_path_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="absent: no such folder"):
        find_recipes()


@pytest.mark.parametrize("name", ["a b", "-x", "a;touch x", "ü"])
def test_a_name_that_is_no_name_is_refused(copy: Path, name: str) -> None:
    shutil.copytree(copy, copy.parent / name)
    with pytest.raises(ConfigError, match="a recipe's name is"):
        load_recipe(name)


@pytest.mark.parametrize("name", ["../tiny", "$(touch x)", ""])
def test_a_name_that_is_a_path_is_not_found(copy: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="unknown recipe"):
        load_recipe(name)


def test_an_unknown_key_names_file_line_and_the_nearest_key(copy: Path) -> None:
    replace(copy / "evals.yaml", "batch_size:", "batch_sise:")
    with pytest.raises(
        ConfigError, match=r"evals\.yaml:\d+: downstream\.batch_sise: unknown key; did you mean"
    ):
        build_graph(load_recipe("mine"))


def test_an_unknown_key_of_training_names_file_line_and_the_nearest_key(copy: Path) -> None:
    replace(copy / "stage1.yaml", "learning_rate:", "learning_rat:")
    with pytest.raises(ConfigError, match=r"stage1\.yaml:\d+: optimizer\.learning_rat: unknown"):
        build_graph(load_recipe("mine"))


def test_an_unknown_section_and_a_missing_one_are_named(copy: Path) -> None:
    (copy / "evals.yaml").write_text((copy / "evals.yaml").read_text() + "\nleader: {}\n")
    with pytest.raises(ConfigError, match=r"evals\.yaml:\d+: leader: unknown section; did you"):
        build_graph(load_recipe("mine"))
    text = (copy / "corpus.yaml").read_text()
    (copy / "corpus.yaml").write_text(text.replace("\ntokens:", "\ntoken:"))
    with pytest.raises(ConfigError, match=r"corpus\.yaml: tokens: section missing"):
        build_graph(load_recipe("mine"))


@pytest.mark.parametrize(
    ("file", "line", "key"),
    [
        ("stage1.yaml", "load_path: /somewhere", "load_path"),
        ("stage2.yaml", "load_path: /somewhere", "load_path"),
        ("stage1.yaml", "save_folder: /somewhere", "save_folder"),
    ],
)
def test_what_the_graph_sets_is_refused_in_a_recipe(
    copy: Path, file: str, line: str, key: str
) -> None:
    (copy / file).write_text(f"{line}\n{(copy / file).read_text()}")
    with pytest.raises(ConfigError, match=rf"{file}:1: {key}: the graph sets it"):
        build_graph(load_recipe("mine"))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("evals.yaml", "name: copa", "name: copa_", r"no task 'copa_'; did you mean"),
        ("stage2.yaml", "n_layers: 2", "n_layers: 3", r"stage2\.yaml:\d+: model\.n_layers: 3 \(i"),
        ("corpus.yaml", "docstrings: {repet", "docstring: {repet", r"no source 'docstring' in raw"),
        ("corpus.yaml", "vocab_size: 1024", "vocab_size: 2048", r"1024 rows for the 2048 entries"),
        ("stage1.yaml", "max_duration: 40e3T", "max_duration: -1", r"max_duration is -1"),
        ("stage1.yaml", "max_duration: 40e3T", "max_duration: 1e400T", r"max_duration is '1e400T'"),
        (
            "stage2.yaml",
            "stop_at: 10",
            "stop_at: 9",
            r"stage2\.yaml:\d+: stop_at: ingredient 1 would end at the rate 0\.0001465, 10% of "
            r"its peak 0\.001465, .* the schedule ends at step 10",
        ),
        (
            "stage2.yaml",
            "alpha_f: 0",
            "alpha_f: 0.1",
            r"stage2\.yaml:\d+: scheduler: ingredient 1 ",
        ),
        (
            "stage2.yaml",
            "{seed: 42069}",
            "{seed: 1, stop_at: 8}",
            r"stop_at: ingredient 2 would end",
        ),
        ("stage1.yaml", "\nseed: ", "\nseed: -", r"seed is -\d+; expected 0 or more"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    copy: Path, file: str, old: str, new: str, message: str
) -> None:
    replace(copy / file, old, new)
    with pytest.raises(ConfigError, match=message):
        build_graph(load_recipe("mine"))


def test_interpolations_work_in_a_recipe(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build_graph(load_recipe("mine")).fingerprints["stage1"].value
    monkeypatch.setenv("NAME", "other")
    replace(copy / "stage1.yaml", "run_name: ", "run_name: ${oc.env:NAME}-")
    recipe = load_recipe("mine")
    assert (recipe.stage1_config().run_name or "").startswith("other-")
    assert build_graph(recipe).fingerprints["stage1"].value == before


def test_the_graph_names_the_tasks_whose_questions_are_looked_for(copy: Path) -> None:
    corpus = copy / "corpus.yaml"
    corpus.write_text(corpus.read_text() + "\ndecontaminated: {min_words: 9}\n")
    nodes = build_graph(load_recipe("mine")).nodes
    assert nodes["decontaminated"].config["tasks"] == ["copa", "openbookqa"]
    assert "decontaminated" in nodes["filtered"].inputs
    replace(corpus, "{min_words: 9}", "{unchecked_sources: [books]}")
    with pytest.raises(
        ConfigError,
        match=r"corpus.yaml:\d+: decontaminated: unchecked_sources: no source 'books' in ",
    ):
        build_graph(load_recipe("mine"))
    replace(corpus, "{unchecked_sources: [books]}", "{tasks: [copa]}")
    with pytest.raises(ConfigError, match="decontaminated: tasks: the graph sets it"):
        build_graph(load_recipe("mine"))


@pytest.mark.parametrize("name", ["cache", "dagster", "recipes", "results"])
def test_a_name_that_the_root_has_taken_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no recipe can be named {name}: "):
        require_name(name, name)
    require_name(f"{name}_1", name)


def test_evaluators_are_known_before_anything_is_made_and_get_the_recipe_s_tokenizer(
    copy: Path, tmp_path: Path
) -> None:
    before = build_graph(load_recipe("mine")).nodes["stage1"]
    stage1 = copy / "stage1.yaml"
    text = stage1.read_text()
    stage1.write_text(text + "evaluators: [{label: helaswag, type: downstream}]\n")
    said = r"mine: stage1: evaluators: .*'helaswag': did you mean 'hellaswag'"
    with pytest.raises(ConfigError, match=said):
        build_graph(load_recipe("mine"))
    stage1.write_text(text + "evaluators: [{label: hellaswag, type: downstream}]\n")
    node = build_graph(load_recipe("mine")).nodes["stage1"]
    assert node.config == before.config
    inputs = {name: tmp_path / name for name in node.inputs}
    assert node.render is not None
    rendered = node.render(node, inputs, tmp_path)
    assert rendered["core"]["roots"]["tokenizer"] == str(tmp_path / "tokenizer")
    assert rendered["evaluators"][0]["label"] == "hellaswag"
