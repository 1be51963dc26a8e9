"""By which job a recipe's soup is made, and what it must not be asked for."""

from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from tests.assets.recipe_files import replace

INGREDIENTS = ("stage2_ingredient1", "stage2_ingredient2")


def graph_with(copy: Path, section: str) -> Graph:
    replace(copy / "evals.yaml", "soup: {}", f"soup: {section}")
    return build_graph(load_recipe("mine"))


@pytest.mark.parametrize("section", ["{}", "{weights: [0.25, 0.75]}", "{method: mean}"])
def test_a_mean_is_made_as_before(copy: Path, section: str) -> None:
    node = graph_with(copy, section).nodes["soup"]
    assert (node.module, node.inputs) == ("olmo_core.checkpoint.soup", INGREDIENTS)
    weights = [0.25, 0.75] if "weights" in section else None
    assert node.config == {"weights": weights}  # and nothing that would make it stale


def test_a_greedy_soup_reads_the_held_out_documents_alone(copy: Path) -> None:
    before = build_graph(load_recipe("mine")).fingerprints
    graph = graph_with(copy, "{method: greedy}")
    node = graph.nodes["soup"]
    assert node.module == "olmo_core.soups.soup"
    assert node.inputs == (*INGREDIENTS, "held_out", "tokenizer")
    assert node.config["perplexity"]["sets"] == [
        {**node.config["perplexity"]["sets"][0], "name": "held_out", "kind": "held_out"}
    ]
    assert node.config["perplexity"]["bytes_per_source"] == 15_000  # as the recipe's perplexity
    changed = {name for name in before if before[name].value != graph.fingerprints[name].value}
    assert changed == {"soup", "export", "downstream", "perplexity", "leaderboard", "model_card"}


def test_of_several_sets_the_held_out_one_chooses(copy: Path) -> None:
    replace(
        copy / "evals.yaml",
        "  bytes_per_source: 15_000",
        "  sets:\n"
        "    - {name: mine, kind: documents, sources: {a: [/a.jsonl]}}\n"
        "    - {name: own, kind: held_out, bytes_per_source: 7}",
    )
    [chosen] = graph_with(copy, "{method: greedy}").nodes["soup"].config["perplexity"]["sets"]
    assert (chosen["name"], chosen["bytes_per_source"]) == ("own", 7)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{weights: [1.0]}", r"evals\.yaml:3: soup\.weights: 1 weights; .* the 2 ingredients"),
        ("{method: gredy}", r"evals\.yaml:3: .*method"),
        ("{method: greedy, weights: [0.5, 0.5]}", "finds its own"),
        ("{methods: greedy}", "method"),
    ],
)
def test_a_section_that_is_none_is_refused(copy: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        graph_with(copy, section)


def test_greedy_needs_documents_that_are_held_out(copy: Path) -> None:
    corpus = (copy / "corpus.yaml").read_text()
    share = next(line for line in corpus.splitlines() if line.strip().startswith("share:"))
    replace(copy / "corpus.yaml", share, f"{share.partition(':')[0]}: 0")
    with pytest.raises(ConfigError, match=r"evals\.yaml:3: soup\.method: .*held_out\.share"):
        graph_with(copy, "{method: greedy}")


def test_the_mean_of_last_checkpoints_is_told_when_they_were_written(copy: Path) -> None:
    replace(copy / "stage2.yaml", "save_interval: 1000", "save_interval: 2")
    node = graph_with(copy, "{last_checkpoints: 2}").nodes["soup"]
    assert node.module == "olmo_core.soups.soup"
    assert node.inputs == INGREDIENTS
    assert node.config["save_intervals"] == dict.fromkeys(INGREDIENTS, 2)


def test_the_steps_after_the_schedule_s_end_count(copy: Path) -> None:
    """Without `stop_at` OLMo takes ten steps more: 20 here, with checkpoints at 10 and 20."""
    replace(copy / "stage2.yaml", "stop_at: 10", "stop_at: null")
    replace(copy / "stage2.yaml", "save_interval: 1000", "save_interval: 10")
    node = graph_with(copy, "{last_checkpoints: 2}").nodes["soup"]
    assert node.config["save_intervals"] == dict.fromkeys(INGREDIENTS, 10)


@pytest.mark.parametrize(
    ("saving", "section", "message"),
    [
        ("save_interval: 1000", "2", "soup.last_checkpoints: 2, but of stage2_ingredient1 1 are w"),
        ("save_interval: null", "2", "1 are written"),
        ("save_interval: 2\nsave_num_checkpoints_to_keep: 1", "2", "1 are kept"),
    ],
)
def test_checkpoints_that_will_not_be_there_are_refused_before_training(
    copy: Path, saving: str, section: str, message: str
) -> None:
    text = (copy / "stage2.yaml").read_text().splitlines()
    kept = [line for line in text if not line.startswith("save_num_checkpoints_to_keep")]
    (copy / "stage2.yaml").write_text("\n".join(kept) + "\n")
    replace(copy / "stage2.yaml", "save_interval: 1000", saving)
    with pytest.raises(ConfigError, match=message):
        graph_with(copy, f"{{last_checkpoints: {section}}}")


def test_a_recipe_without_stage_2_may_average_the_last_checkpoints_of_stage_1(copy: Path) -> None:
    (copy / "stage2.yaml").unlink()
    replace(copy / "evals.yaml", "soup: {}", "")
    corpus = (copy / "corpus.yaml").read_text()
    (copy / "corpus.yaml").write_text(corpus.partition("stage2_mix:")[0])
    assert "soup" not in build_graph(load_recipe("mine")).nodes
    with (copy / "evals.yaml").open("a") as text:
        text.write("\nsoup: {last_checkpoints: 2}\n")
    graph = build_graph(load_recipe("mine"))
    assert graph.nodes["soup"].inputs == ("stage1",)
    assert "soup" in graph.nodes["export"].inputs
    checks = [check.name for check in graph.nodes["perplexity"].checks]
    assert "soup_is_as_good_as_its_best" in checks
    replace(copy / "evals.yaml", "{last_checkpoints: 2}", "{last_checkpoints: 2, method: greedy}")
    with pytest.raises(ConfigError, match=r"soup\.method: greedy, but the recipe has one run"):
        build_graph(load_recipe("mine"))


def asking_for(copy: Path, section: str) -> Graph:
    with (copy / "evals.yaml").open("a") as text:
        text.write(f"\ninterpolation: {section}\n")
    return build_graph(load_recipe("mine"))


def test_the_line_between_two_models_is_an_asset_that_makes_nothing_else_stale(copy: Path) -> None:
    before = build_graph(load_recipe("mine")).fingerprints
    graph = asking_for(copy, "{}")
    assert {**graph.fingerprints} == {
        **before, "interpolation": graph.fingerprints["interpolation"]
    }  # fmt: skip
    node = graph.nodes["interpolation"]
    assert (node.stage, node.module) == ("evals", "olmo_core.soups.interpolation")
    assert node.inputs == (*INGREDIENTS, "held_out", "tokenizer")
    assert node.config["perplexity"]["bytes_per_source"] == 15_000


def test_any_two_models_have_a_line_between_them(copy: Path) -> None:
    node = asking_for(copy, "{between: [stage1, soup], points: 3}").nodes["interpolation"]
    assert node.inputs == ("stage1", "soup", "held_out", "tokenizer")


def test_a_line_to_no_model_is_refused(copy: Path) -> None:
    message = (
        r"evals\.yaml:\d+: interpolation\.between: no model 'stage2_ingredient3'; did you mean"
    )
    with pytest.raises(ConfigError, match=message):
        asking_for(copy, "{between: [stage2_ingredient1, stage2_ingredient3]}")
