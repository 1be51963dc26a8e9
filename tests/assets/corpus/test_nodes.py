"""What the nodes of the corpus say of their jobs."""

from assets.assemble import build_graph
from assets.recipe import load_recipe
from olmo_core.run.code import PACKAGE_ROOT, sources


def test_whatever_does_tasks_shares_them() -> None:
    """A site may then give it workers on other nodes."""
    nodes = build_graph(load_recipe("demo")).nodes
    corpus = {name: node for name, node in nodes.items() if node.stage == "corpus"}
    does_tasks = {
        name
        for name, node in corpus.items()
        for module in sources(node.module)
        if "map_tasks(" in PACKAGE_ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
    }
    assert {name for name, node in corpus.items() if node.shares_tasks} == does_tasks
    assert {"raw", "tokenizer", "tokens"} < does_tasks < {*corpus}
