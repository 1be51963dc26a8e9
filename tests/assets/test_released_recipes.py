"""The recipes of OLMo, and recipes without what a machine or a stage lacks."""

from pathlib import Path

import pytest

from assets.agreement import rate_doubts
from assets.assemble import build_graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from tests.assets.recipe_files import replace


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
