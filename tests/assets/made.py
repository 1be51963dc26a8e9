"""Run folders as if every asset had been made, for what reads them and starts no job."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from assets.graph import Graph
from assets.paths import open_version
from assets.reuse import location
from olmo_core.files import write_json
from olmo_core.run.folder import SCHEMA_VERSION


def unchecked(graph: Graph) -> Graph:
    """The graph without checks, which would read what jobs report."""
    nodes = {name: replace(node, checks=()) for name, node in graph.nodes.items()}
    return replace(graph, nodes=nodes)


def make_all(graph: Graph, root: Path) -> None:
    """Leave a finished run of every asset that has none, with empty reports."""
    for name in graph.nodes:
        if graph.finished(root, name) is None:
            make_one(graph, root, name)


def make_one(graph: Graph, root: Path, name: str, digest: str = "") -> None:
    """Leave a finished run of one asset, whose inputs have some; `digest` is of its content."""
    inputs: dict[str, Any] = {}
    for entry in graph.nodes[name].inputs:
        run = graph.finished(root, entry)
        assert run is not None
        result = run.read_result()
        known = {key: result[key] for key in ("fingerprint", "digest")}
        inputs[entry] = {**known, **location(run.path, root)}
    identity = graph.fingerprints[name]
    folder = open_version(graph.folder(root, name), identity.version)
    names = {"recipe": graph.recipe.name, "asset": name, "partition": None}
    about = {"schema_version": SCHEMA_VERSION, **names, "inputs": inputs}
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.launch, {**identity.record(), **about})
    write_json(
        folder.result,
        {
            **about,
            "fingerprint": identity.value,
            "digest": digest or identity.value,
            "files": {},
            "report": {"numbers": {}, "tables": {}, "data": {}},
            "finished": time.time(),
        },
    )
