"""Recipes: found on the path, strict, and every mistake names file, line and key."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assets.agreement import rate_doubts
from assets.assemble import build_graph
from assets.recipe import find_recipes, load_recipe
from olmo_core.errors import ConfigError
from olmo_core.evals.task_sources import DATA, TASKS

TINY = Path(__file__).parents[1] / "recipes" / "tiny"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe `mine` on a search path of its own, equal to tiny."""
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path))
    return Path(shutil.copytree(TINY, tmp_path / "mine"))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_ingredients(recipe: Path, ingredients: str) -> None:
    lines = (recipe / "stage2.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ingredients:"))
    end = start + 1
    while end < len(lines) and lines[end].startswith((" ", "-")):
        end += 1
    lines[start:end] = [f"ingredients: {ingredients}"]
    (recipe / "stage2.yaml").write_text("\n".join(lines) + "\n")


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


def test_a_stage_2_that_starts_at_another_rate_than_stage_1_ends_with_is_doubted(
    copy: Path,
) -> None:
    assert rate_doubts(load_recipe("mine")) == []
    replace(copy / "stage2.yaml", "learning_rate: 1.4646e-3", "learning_rate: 1.5e-3")
    [doubt] = rate_doubts(load_recipe("mine"))  # one for both ingredients
    line = (copy / "stage2.yaml").read_text().split("learning_rate")[0].count("\n") + 1
    assert doubt == (
        f"{copy}/stage2.yaml:{line}: optimizer.learning_rate: stage 2 starts at 0.0015, "
        "but stage 1 ends at 0.0014646"
    )


@pytest.mark.parametrize("name", ["demo", "olmo2_1b", "olmo2_7b", "olmo2_13b", "olmo2_32b"])
def test_released_recipes_are_not_doubted(name: str) -> None:
    assert rate_doubts(load_recipe(name)) == []


def test_how_often_a_run_saves_is_no_part_of_its_identity(copy: Path) -> None:
    before = build_graph(load_recipe("mine")).fingerprints["stage1"].value
    replace(copy / "stage1.yaml", "save_interval: 20", "save_interval: 10")
    assert build_graph(load_recipe("mine")).fingerprints["stage1"].value == before


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


OFFICIAL = ("olmo_1b", "olmo_7b", "olmo_7b_twin", "olmo_65b")
OFFICIAL2 = ("olmo2_1b", "olmo2_7b", "olmo2_13b", "olmo2_32b")


@pytest.mark.parametrize("name", [*OFFICIAL, *OFFICIAL2])
def test_every_recipe_s_graph_is_built_on_a_machine_without_its_data(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_SOURCES", raising=False)
    graph = build_graph(load_recipe(name))
    trained = [node for node in graph.nodes.values() if node.distributed]
    number = {"olmo2_13b": 4}.get(name, 3 if name in OFFICIAL2 else 0)
    assert [node.name for node in trained][1:] == [
        f"stage2_ingredient{i}" for i in range(1, number + 1)
    ]
    with pytest.raises(
        ConfigError,
        match=rf"{name}/corpus\.yaml:\d+: sources: \w+: root .* \(not set: OLMO_SOURCES",
    ):
        _ = graph.fingerprints


def test_what_is_not_on_this_machine_is_named_with_its_line(copy: Path) -> None:
    lines = (copy / "corpus.yaml").read_text().split("\n")
    place = lines.index("    - name: docstrings")
    missing = '    - {name: mine, reader: files, root: "${NOT_SET}/texts"}'
    (copy / "corpus.yaml").write_text("\n".join([*lines[:place], missing, *lines[place:]]))
    with pytest.raises(ConfigError, match=rf"corpus\.yaml:{place + 1}: sources: mine: .*NOT_SET"):
        _ = build_graph(load_recipe("mine")).fingerprints
    (copy / "corpus.yaml").write_text(
        "\n".join(lines).replace("tokenizer:\n", "tokenizer:\n  file: ${NOT_SET}/t.json\n")
    )
    place = lines.index("tokenizer:") + 1
    with pytest.raises(ConfigError, match=rf"corpus\.yaml:{place}: tokenizer: file .*NOT_SET"):
        _ = build_graph(load_recipe("mine")).fingerprints


def test_a_recipe_without_stage_2_ends_with_stage_1(copy: Path) -> None:
    (copy / "stage2.yaml").unlink()
    corpus, evals = (copy / "corpus.yaml").read_text(), (copy / "evals.yaml").read_text()
    with pytest.raises(ConfigError, match=r"stage2_mix: unknown section"):
        build_graph(load_recipe("mine"))
    (copy / "corpus.yaml").write_text(corpus[: corpus.index("\nstage2_mix:")])
    with pytest.raises(ConfigError, match=r"soup: unknown section"):
        build_graph(load_recipe("mine"))
    (copy / "evals.yaml").write_text(evals.replace("\nsoup: {}", ""))
    graph = build_graph(load_recipe("mine"))
    assert not {"soup", "stage2_mix", "stage2_ingredient1"} & set(graph.nodes)
    assert graph.nodes["export"].inputs == ("stage1", "tokenizer")
    assert [check.name for check in graph.nodes["perplexity"].checks] == [
        "every_model_on_every_task",
        "learned_more_than_frequencies",
    ]
    assert graph.nodes["model_card"].inputs == (
        "leaderboard",
        "export",
        "stage1",
        "tokens",
        "stage1_mix",
    )
    _ = graph.fingerprints


def test_a_stage_2_without_ingredients_is_refused(copy: Path) -> None:
    lines = (copy / "stage2.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ingredients:"))
    (copy / "stage2.yaml").write_text("\n".join(lines[:start]) + "\n")
    with pytest.raises(ConfigError, match=r"ingredients: missing.*or no stage2\.yaml at all"):
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
