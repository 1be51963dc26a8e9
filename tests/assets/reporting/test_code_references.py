"""Links from assets to the files that decide them."""

from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.evals.sweep import sweep_names, sweep_node
from assets.recipe import find_recipes, load_recipe
from assets.reporting.code_references import code_references


@pytest.mark.parametrize("name", sorted(find_recipes()))
def test_every_asset_links_to_files_that_there_are(name: str) -> None:
    graph = build_graph(load_recipe(name))
    nodes = [*graph.nodes.values(), *(sweep_node(graph, each) for each in sweep_names(graph))]
    for node in nodes:
        [value] = code_references(graph.recipe, node).values()
        for reference in value.code_references:
            lines = Path(reference.file_path).read_text().splitlines()
            if reference.line_number is not None:
                # The key of the asset's section stands on that line.
                section = node.name.removeprefix("checkpoint_")
                assert lines[reference.line_number - 1].startswith(f"{section}:")


def test_a_training_links_to_its_stage_and_what_is_run() -> None:
    graph = build_graph(load_recipe("demo"))
    for name, stage in (("stage1", "stage1"), ("stage2_ingredient2", "stage2")):
        [value] = code_references(graph.recipe, graph.nodes[name]).values()
        labels = [reference.label for reference in value.code_references]
        assert labels == ["olmo_core/train/__main__.py", f"demo/{stage}.yaml"]
