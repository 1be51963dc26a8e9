"""A node of the graph: one asset of one recipe, and the job that makes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.recipe import Recipe
from olmo_core.config.load import to_dict
from olmo_core.run.folder import RunFolder
from olmo_core.run.result import damaged_files

STAGES = ("corpus", "train", "evals", "release")


@dataclass(frozen=True)
class Verdict:
    """What a check found: passed or not, in a sentence, with the figures behind it."""

    passed: bool
    description: str
    figures: Mapping[str, int | float | str] = field(default_factory=dict[str, int | float | str])


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question to a finished asset; a blocking one keeps what follows from starting."""

    name: str
    description: str
    evaluate: Callable[["Finished"], Verdict]
    blocking: bool = True


def check(
    description: str, *, blocking: bool = True
) -> Callable[[Callable[["Finished"], Verdict]], Check]:
    """Turn the function below into a check of its name."""
    return lambda evaluate: Check(
        name=evaluate.__name__, description=description, evaluate=evaluate, blocking=blocking
    )


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished asset with its finished inputs, as a check sees it."""

    node: "Node"
    folder: RunFolder
    result: Mapping[str, Any]
    inputs: Mapping[str, RunFolder]

    @property
    def data(self) -> Mapping[str, Any]:
        """The machine-readable facts that the job reported."""
        return self.result["report"]["data"]

    def input_data(self, name: str) -> Mapping[str, Any]:
        """Return the facts that the job of an input reported."""
        return self.inputs[name].read_result()["report"]["data"]


@check("What this was made from has not changed underneath.")
def inputs_unchanged(finished: Finished) -> Verdict:
    """Compare each input with the digest that was read, and its files with what was written."""
    changed: list[str] = []
    for name, folder in finished.inputs.items():
        recorded = finished.result["inputs"][name]["digest"]
        if not folder.finished:
            changed.append(f"{name}: {folder.path} is gone")
        elif folder.read_result()["digest"] != recorded:
            changed.append(f"{name}: digest {recorded[:12]} was read, now another stands there")
        else:
            changed += damaged_files(folder)
    if changed:
        return Verdict(False, "; ".join(changed))
    return Verdict(True, f"{len(finished.inputs)} inputs are what was read")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars beside a table of the report, a group of them per row."""

    table: str
    labels: tuple[str, ...]  # columns that together name a row
    values: tuple[str, ...]  # columns to draw
    stacked: bool = False  # as parts of one bar


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves beside a table of the report, a point of each per row."""

    table: str
    x: str  # column
    x_title: str
    values: tuple[str, ...]  # columns to draw
    unit: str  # of the values


@dataclass(frozen=True, kw_only=True)
class Node:
    """One asset: what makes it, from what, and what bears its identity.

    `config` is the complete identity-bearing configuration; `further_identity` gives what else
    changes the result (versions of the packages that are read, digests of a user's files), asked
    for only when a fingerprint is computed. `render` makes the content of config.yaml.
    """

    recipe: str
    name: str
    stage: str
    description: str
    module: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("python",)
    distributed: bool = False
    shares_tasks: bool = False  # by `olmo_core.tasks.map`
    in_turn: bool = False  # many short jobs: one process may run them, `olmo_core.run.in_turn`
    further_identity: Callable[[], Mapping[str, Any]] = dict[str, Any]  # none
    # What this machine lacks, without which the job cannot be done, one line each.
    lacks: Callable[[], Sequence[str]] = tuple[str, ...]
    render: Callable[["Node", Mapping[str, Path], Path], Mapping[str, Any]] | None = None
    checks: tuple[Check, ...] = ()
    charts: tuple[Chart | Curves, ...] = ()

    @property
    def key(self) -> list[str]:
        """The Dagster key: recipe, asset."""
        return [self.recipe, self.name]

    def identity(self) -> dict[str, Any]:
        """Return the configuration that a fingerprint hashes, with `further_identity`."""
        return {**self.config, **self.further_identity()}

    def config_file(self, inputs: Mapping[str, Path], folder: Path) -> Mapping[str, Any]:
        """Return the content of the run folder's config.yaml."""
        if self.render is not None:
            return self.render(self, inputs, folder)
        return {
            "recipe": self.recipe,
            "asset": self.name,
            "config": dict(self.config),
            "inputs": {name: str(path) for name, path in inputs.items()},
        }


def section_node(
    recipe: Recipe,
    file: str,
    name: str,
    config_class: type[Any],
    *,
    stage: str = "",
    module: str = "",
    **fields: Any,
) -> Node:
    """Return a node whose configuration is its section of `<file>.yaml`, built as `config_class`.

    It belongs to the stage that the file is named after, and its module is named as the asset,
    unless something else is said.
    """
    stage = stage or file
    return Node(
        recipe=recipe.name,
        name=name,
        stage=stage,
        module=module or f"olmo_core.{stage}.{name}",
        config=to_dict(recipe.section(file, name, config_class)),
        **fields,
    )
