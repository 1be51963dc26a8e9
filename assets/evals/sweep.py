"""The sweep: every checkpoint of a recipe's runs, evaluated as the exported models are.

A checkpoint's partition key is `<run>@step<N>`. Partitions appear while training runs; nothing is
made from a sweep's results, so they stay leaves of the graph.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from assets.execution.produce import AssetBuild, Input, input_of
from assets.fingerprint import Fingerprint, fingerprint
from assets.graph import Graph
from assets.launcher import Refused
from assets.node import Node
from assets.reuse import runs_of
from olmo_core.checkpoint.layout import MANIFEST, list_checkpoints
from olmo_core.errors import ConfigError
from olmo_core.files import sha256_file

# Sweep asset -> the main line's evaluation whose section of the recipe it shares.
SWEEP = {"checkpoint_downstream": "downstream", "checkpoint_perplexity": "perplexity"}
MODULE = "olmo_core.evals.checkpoint"
KEY = re.compile(r"(?P<run>[A-Za-z0-9_]{1,63})@step(?P<step>[0-9]{1,18})")


def checkpoints(graph: Graph, root: Path) -> dict[str, Path]:
    """Return whole checkpoints of the recipe's runs as they stand now, by partition key.

    A checkpoint without its manifest is still being written and is not there yet.
    """
    found: dict[tuple[str, int], Path] = {}
    for name, node in graph.nodes.items():
        runs = graph.runs(root, name) if node.distributed else ()
        for checkpoint in [each for run in runs for each in list_checkpoints(run.path)]:
            whole = (checkpoint.path / MANIFEST).is_file()
            if whole and checkpoint.read_train()["kind"] != "ephemeral":  # which is soon gone
                found.setdefault((name, checkpoint.step), checkpoint.path)
    return {f"{name}@step{step}": found[name, step] for name, step in sorted(found)}


def partitions_name(recipe: str) -> str:
    """Return Dagster's name of the partitions of a recipe's sweep."""
    return f"{recipe}_checkpoints"


def sweep_names(graph: Graph) -> list[str]:
    """Return the names of a recipe's sweep assets: those whose evaluation it has."""
    return [name for name, evaluation in SWEEP.items() if evaluation in graph.nodes]


def sweep_node(graph: Graph, name: str) -> Node:
    """Return the node of a sweep asset, over any of its partitions."""
    evaluation = graph.nodes[SWEEP[name]]
    return replace(
        evaluation,
        name=name,
        description=f"One row per checkpoint, as {SWEEP[name]} has them per model.",
        module=MODULE,
        inputs=tuple(node.name for node in graph.nodes.values() if node.distributed)
        + (("tokenizer",) if name == "checkpoint_downstream" else ("tokenizer", "held_out")),
        checks=(),
    )


def sweep_work(
    graph: Graph, name: str, key: str, root: Path, found: Mapping[str, Path] | None = None
) -> AssetBuild:
    """Return the evaluation `name` of a checkpoint; `found`, if given, is what `checkpoints` says.

    Raises:
        ConfigError: the key is malformed.
        Refused: there is no such whole checkpoint now.
    """
    if not KEY.fullmatch(key):
        raise ConfigError(f"partition {key[:80]!r}: expected <run>@step<N>, as in stage1@step100")
    folder = (checkpoints(graph, root) if found is None else found).get(key)
    if folder is None:
        raise Refused(f"{name}: there is no whole checkpoint {key} of the recipe as it stands")
    node = sweep_node(graph, name)
    manifest = sha256_file(folder / MANIFEST)  # it holds the SHA-256 of every file
    others = [entry for entry in node.inputs if not graph.nodes[entry].distributed]
    inputs = {
        "checkpoint": Fingerprint(parts={"manifest": manifest}),
        **{entry: graph.fingerprints[entry] for entry in others},
    }
    identity = fingerprint(
        module=MODULE, config=node.identity(), packages=node.packages, inputs=inputs
    )
    parent = graph.folder(root, name) / key
    return AssetBuild(
        node=node,
        fingerprint=identity,
        parent=parent,
        finished=lambda: next(
            (run for run in runs_of(parent, root, identity) if run.finished), None
        ),
        inputs=lambda progress: {
            "checkpoint": Input(
                path=folder, fingerprint=inputs["checkpoint"].value, digest=manifest
            ),
            **{entry: input_of(graph, entry, root, name, progress) for entry in others},
        },
        partition=key,
    )
