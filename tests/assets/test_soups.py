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
