"""A run with checkpoints, and toy jobs that evaluate them: a checkpoint's own value and 10."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assets.graph import Graph
from olmo_core.files import write_json
from tests.conftest import toy_graph

MODULE = "toy_job"  # in place of assets.evals.sweep.MODULE


def sweep_graph(recipe: str, *, wait: str = "") -> Graph:
    """What a sweep reads of a recipe's graph; the jobs wait for a file if one is named."""
    base = toy_graph()
    node = replace(base.nodes["first"], recipe=recipe)
    config = {"value": 10, "wait": wait}
    nodes = {
        "stage1": replace(node, name="stage1", stage="train", distributed=True),
        **{name: replace(node, name=name) for name in ("tokenizer", "held_out")},
        **{
            name: replace(node, name=name, stage="evals", config=config)
            for name in ("downstream", "perplexity")
        },
    }
    return replace(base, recipe=replace(base.recipe, name=recipe), nodes=nodes)


def save_checkpoints(graph: Graph, root: Path, keys: Sequence[str]) -> None:
    """Save checkpoints worth 1, 2, …, and finish all else that their evaluation reads."""
    for name in ("tokenizer", "held_out"):
        folder = graph.folder(root, name) / graph.fingerprints[name].version
        folder.mkdir(parents=True)
        (folder / "value").write_text("0")
        result = {
            "fingerprint": graph.fingerprints[name].value,
            "digest": "x",
            "inputs": {},
            "files": {},
            "report": {"numbers": {}, "data": {}},
        }
        write_json(folder / "result.json", {"schema_version": 1, **result})
    for number, key in enumerate(keys, start=1):
        folder = checkpoint(graph, root, key)
        folder.mkdir(parents=True)
        write_json(folder / "train.json", {"kind": "permanent"})
        write_json(folder / "manifest.json", {"step": number})
        (folder / "value").write_text(str(number))


def checkpoint(graph: Graph, root: Path, key: str) -> Path:
    """The folder of a checkpoint `stage1@step<N>`."""
    run, _, step = key.partition("@")
    return graph.folder(root, run) / graph.fingerprints[run].version / "checkpoints" / step
