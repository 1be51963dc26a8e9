"""What `olmo show` says of where a result comes from: inputs, commit, seeds, a variant's values."""

from collections.abc import Iterator, Mapping
from typing import Any

from assets.graph import Graph
from assets.lineage.ancestors import read_ancestor
from assets.lineage.recorded import seeds
from assets.recipe import base_of, changed_files
from olmo_core.config.load import Tree
from olmo_core.run.folder import RunFolder

COMMIT_DIGITS = 12
BY_STAGE = ("stage1", "stage2")  # files that are of trainings; in the others a section is an asset


def origin_of(graph: Graph, name: str, run: RunFolder, *, current: bool) -> dict[str, Any]:
    """Return where a finished run comes from, as far as it has recorded it.

    Returns:
        `inputs` (name -> recipe, asset and version), `commit`, `uncommitted` (characters of the
        changes beside it), `seeds` (by dotted key), and of a variant's current run `overrides`:
        the values in which it differs from the recipe that it extends.
    """
    found = read_ancestor(run)
    assert found is not None  # it has finished
    code: Mapping[str, Any] = found.launch.get("code") or {}
    return {
        "inputs": {each.name: each.relative for each in found.inputs},
        "commit": str(code["commit"])[:COMMIT_DIGITS] if code.get("commit") else None,
        "uncommitted": len(code["diff"]) if code.get("diff") else None,
        "seeds": seeds(found),
        "overrides": dict(_overrides(graph, name)) if current else {},
    }


def _overrides(graph: Graph, name: str) -> Iterator[tuple[str, Any]]:
    folder = graph.recipe.folder
    if base_of(folder) is None:
        return
    for file, tree in changed_files(folder).items():
        if file in BY_STAGE:
            if name.startswith(file):
                yield from _leaves(tree, f"{file}.")
        elif isinstance(section := tree.get(name), Tree):
            yield from _leaves(section, f"{file}.{name}.")


def _leaves(tree: Tree, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Tree):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
