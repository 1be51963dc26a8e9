"""The sweep: every checkpoint of a recipe's runs, evaluated as the exported models are.

A checkpoint's partition key is `<run>@step<N>`. Partitions appear while training runs; nothing is
made from a sweep's results, so they stay leaves of the graph.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assets.execution.produce import AssetBuild, Input, input_of
from assets.fingerprint import Fingerprint, fingerprint
from assets.graph import Graph
from assets.launcher import Refused
from assets.node import Node
from assets.reuse import runs_of
from olmo_core.checkpoint.layout import MANIFEST, TRAIN, Checkpoint, list_checkpoints
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import sha256_file
from olmo_core.run.folder import RunFolder

# Sweep asset -> the main line's evaluation whose section of the recipe it shares.
SWEEP = {"checkpoint_downstream": "downstream", "checkpoint_perplexity": "perplexity"}
MODULE = "olmo_core.evals.checkpoint"
REMEDY = "copy the checkpoint back whole, or move its folder away"
KEY = re.compile(r"(?P<run>[A-Za-z0-9_]{1,63})@step(?P<step>[0-9]{1,18})")


@dataclass(frozen=True, kw_only=True)
class SweptCheckpoints:
    """The checkpoints of a recipe's runs as they stand now, by partition key, in order."""

    whole: Mapping[str, Path]
    damaged: Mapping[str, str]  # what is wrong with each
    results: Path  # the recipe's folder

    def left(self, keys: Iterable[str]) -> list[str]:
        """Return those of the keys that are of an earlier version of the recipe, or deleted."""
        if not self.results.is_dir():  # the root is not mounted, perhaps: nothing is known
            return []
        return [key for key in keys if key not in self.whole and key not in self.damaged]

    def wanted(self, *, every: int, runs: Collection[str]) -> "SweptCheckpoints":
        """Return those at multiples of so many steps, of these runs; of all if none is named."""

        def fits(key: str) -> bool:
            run, _, step = key.rpartition("@step")
            return int(step) % every == 0 and (not runs or run in runs)

        return replace(
            self,
            whole={key: path for key, path in self.whole.items() if fits(key)},
            damaged={key: why for key, why in self.damaged.items() if fits(key)},
        )

    def run_of(self, key: str) -> str:
        """Return the version of the run that a whole checkpoint is of."""
        return self.whole[key].parents[1].name


def checkpoints(graph: Graph, root: Path) -> SweptCheckpoints:
    """Return the checkpoints of the recipe's runs that are to be evaluated.

    One without its manifest is still being written and is not there yet. An ephemeral one is soon
    gone. What a damaged one is cannot be told: it is named, and stops none of the others.
    """
    whole: dict[tuple[str, int], Path] = {}
    damaged: dict[tuple[str, int], str] = {}
    for name, node in graph.nodes.items():
        runs = graph.runs(root, name) if node.distributed else ()
        for checkpoint in [each for run in runs for each in list_checkpoints(run.path)]:
            key = (name, checkpoint.step)
            try:
                kind = _kind(checkpoint)
            except InputError as error:
                damaged.setdefault(key, str(error))
                continue
            if kind not in (None, "ephemeral"):
                whole.setdefault(key, checkpoint.path)
    return SweptCheckpoints(
        results=root / graph.recipe.name,
        whole={f"{name}@step{step}": whole[name, step] for name, step in sorted(whole)},
        # A run of the same fingerprint may have it whole.
        damaged={
            f"{name}@step{step}": damaged[name, step]
            for name, step in sorted(damaged.keys() - whole.keys())
        },
    )


def _kind(checkpoint: Checkpoint) -> str | None:
    """Return what kind of checkpoint it is; None while it is being written or deleted.

    Raises:
        InputError: the file that says so is missing or damaged; names it.
    """
    manifest, train = checkpoint.path / MANIFEST, checkpoint.path / TRAIN
    if not manifest.is_file():
        return None
    try:
        return str(checkpoint.read_train()["kind"])
    except OSError as error:
        if not manifest.is_file():  # deleted meanwhile
            return None
        raise InputError(f"{train}: {error.strerror or error}; {REMEDY}") from None
    except (KeyError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, InputError) else f"{train}: has no `kind`"
        raise InputError(f"{said}; {REMEDY}") from None


def partitions_name(recipe: str) -> str:
    """Return Dagster's name of the partitions of a recipe's sweep."""
    return f"{recipe}_checkpoints"


def not_scored(run: RunFolder) -> list[str]:
    """Return why a finished evaluation lacks tasks; each line names the task."""
    return [row["why"] for row in run.read_result()["report"]["data"].get("not_scored", ())]


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
        in_turn=True,
        inputs=(
            *(node.name for node in graph.nodes.values() if node.distributed),
            "tokenizer",
            *(["held_out"] if "held_out" in evaluation.inputs else []),
        ),
        checks=(),
    )


def sweep_work(
    graph: Graph, name: str, key: str, root: Path, found: SweptCheckpoints | None = None
) -> AssetBuild:
    """Return the evaluation `name` of a checkpoint; `found`, if given, is what `checkpoints` says.

    Raises:
        ConfigError: the key is malformed.
        Refused: there is no such whole checkpoint now, or it is damaged.
    """
    if not KEY.fullmatch(key):
        raise ConfigError(f"partition {key[:80]!r}: expected <run>@step<N>, as in stage1@step100")
    found = checkpoints(graph, root) if found is None else found
    if key in found.damaged:
        raise Refused(f"{name}: {found.damaged[key]}")
    folder = found.whole.get(key)
    if folder is None:
        raise Refused(f"{name}: there is no whole checkpoint {key} of the recipe as it stands")
    node = sweep_node(graph, name)
    manifest = _digest(folder / MANIFEST, name)  # it holds the SHA-256 of every file
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


def _digest(manifest: Path, name: str) -> str:
    try:
        return sha256_file(manifest)
    except OSError as error:  # the checkpoint has been deleted meanwhile, say
        raise Refused(f"{name}: {manifest}: {error.strerror or error}") from None
