"""The descent of a model: every run behind it, down to raw files, seeds, code and packages.

From run folders alone. A run folder that is gone is named, with who has read it, never passed over.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.ancestors import Ancestor, Input, ancestors
from assets.lineage.checkpoints import parse_name
from assets.lineage.recorded import Parent, started_from
from assets.lineage.runs import Lineage
from assets.paths import shared_roots
from olmo_core.checkpoint.layout import list_checkpoints
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.accepted import Acceptance, read_acceptances


@dataclass(frozen=True, kw_only=True)
class Revision:
    """An exported folder that holds the weights."""

    name: str
    export: Ancestor
    folder: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A run folder that is gone: all that is known of it is what its readers have recorded."""

    read: Input
    readers: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """A model and all that it comes from; `runs` by folder, what others are made from first."""

    recipe: str
    root: Path
    model: Ancestor
    step: int | None  # of a checkpoint; None: the end of the run, a soup or an export
    runs: Mapping[Path, Ancestor]
    missing: Mapping[Path, Missing]
    changed: Mapping[tuple[Path, str], str]  # run and input: the digest that stands there now
    accepted: Mapping[Path, Sequence[Acceptance]]  # by the run whose result counts
    revisions: Sequence[Revision]

    @property
    def label(self) -> str:
        """Return what is traced: `demo/soup/cd17678cd86c`, `demo/stage1/092d8a948985@step300`."""
        return self.model.relative + ("" if self.step is None else f"@step{self.step}")

    def parent(self, run: Ancestor) -> Parent | None:
        """Return what a training started from; None: from first weights, or it is no training.

        Raises:
            InputError: it has left neither a result nor a checkpoint that says it.
        """
        return started_from(run, self.step if run is self.model else None)


def trace_model(lineage: Lineage, name: str | None = None) -> Descent:
    """Return the descent of a model.

    Args:
        lineage: The recipe's.
        name: `soup`, `stage1`, `stage1@step300`, `export`, any with a version as in
            `soup/cd17678cd86c`. Default: the recipe's soup, else the last training.

    Raises:
        ConfigError: there is no such model.
        InputError: a file of one of the runs is malformed.
    """
    models = [
        *lineage.training,
        *(each for each in ("soup", "export") if each in lineage.graph.nodes),
    ]
    default = "soup" if "soup" in models else lineage.training[-1]
    asset, version, step = parse_name(name or default)
    if asset not in models:
        recipe = lineage.graph.recipe.name
        raise ConfigError(f"recipe {recipe} makes no model {asset!r}; {nearest(asset, models)}")
    run = lineage.chosen(asset, version)
    if step is not None:
        there = [each.step for each in list_checkpoints(run.path)]
        if step not in there:
            steps = ", ".join(map(str, there)) or "none"
            raise ConfigError(f"{run.path}: no checkpoint of step {step}; there: {steps}")
    found = ancestors(run)
    runs = {each.run.path: each for each in found}
    return Descent(
        recipe=lineage.graph.recipe.name,
        root=lineage.root,
        model=found[-1],
        step=step,
        runs=runs,
        missing=_missing(runs),
        changed=dict(_changed(runs)),
        accepted=_accepted(runs, (lineage.root, *shared_roots(lineage.root))),
        revisions=[*_revisions(lineage, found[-1], step)],
    )


def _missing(runs: Mapping[Path, Ancestor]) -> dict[Path, Missing]:
    readers: dict[Path, list[str]] = {}
    inputs: dict[Path, Input] = {}
    for run in runs.values():
        for each in run.inputs:
            if each.folder not in runs:
                inputs[each.folder] = each
                readers.setdefault(each.folder, []).append(run.relative)
    return {path: Missing(read=inputs[path], readers=readers[path]) for path in inputs}


def _changed(runs: Mapping[Path, Ancestor]) -> Iterator[tuple[tuple[Path, str], str]]:
    for path, run in runs.items():
        for each in run.inputs:
            result = runs[each.folder].result if each.folder in runs else None
            if result is not None and result["digest"] != each.digest:
                yield (path, each.name), result["digest"]


def _accepted(runs: Mapping[Path, Ancestor], roots: Sequence[Path]) -> dict[Path, list[Acceptance]]:
    by_result: dict[str, list[Acceptance]] = {}
    for root in roots:
        try:
            acceptances = read_acceptances(root).values()
        except ValueError as error:
            raise InputError(str(error)) from None
        for each in acceptances:
            by_result.setdefault(each.old["fingerprint"], []).append(each)
    return {
        path: by_result[value]
        for path, run in runs.items()
        if (value := run.record.get("fingerprint")) in by_result
    }


def _revisions(lineage: Lineage, model: Ancestor, step: int | None) -> Iterator[Revision]:
    """Yield the revisions that hold a model's weights; of an export all that it has."""
    for folder in lineage.finished("export"):
        export = ancestors(folder)[-1]
        held = {each.name for each in export.inputs if each.folder == model.run.path}
        for row in export.data["models"]:
            whole = export.run.path == model.run.path
            if whole or (row["model"] in held and step in (None, row["step"])):
                yield Revision(
                    name=row["revision"],
                    export=export,
                    folder=export.run.path / row["path"],
                    sha256=row["sha256"],
                )
