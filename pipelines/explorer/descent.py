"""What a model was made from: the models behind it, back to the first weights, and the corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.lineage.ancestors import Ancestor, ancestors, read_ancestor
from olmo_core.errors import InputError
from olmo_core.run.folder import RunFolder
from pipelines.explorer.experiments import MODEL, Experiment
from pipelines.explorer.files import kept


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model behind another one, or that one itself."""

    name: str  # of the asset
    experiment: Experiment | None  # None: its run folder is not here any more
    weight: float | None = None  # in the soup that it is part of


def made_from(path: Path) -> list[Ancestor]:
    """Return a run and all that it is made from, as far as it is here and can be read.

    What others are made from comes first.
    """
    try:
        return ancestors(RunFolder(path), lambda run: _read(run.path))
    except InputError:  # the run itself: its page says that it is damaged
        return []


@kept("launch.json", "result.json")
def _read(path: Path) -> Ancestor | None:
    try:
        return read_ancestor(RunFolder(path))
    except (AttributeError, KeyError, TypeError, ValueError):  # as the table says of a model
        return None


def generations(
    experiment: Experiment, behind: Sequence[Ancestor], known: Mapping[Path, Experiment]
) -> list[list[Model]]:
    """Return the model, what it was made from, what that was made from, and so on.

    A run that several have begun from stands once, in the earliest generation that it is in.

    Args:
        experiment: The model.
        behind: The model's run and all that it is made from.
        known: All experiments by their run folder.
    """
    own = experiment.folder.path
    models = {own: Model(name=experiment.asset, experiment=experiment)}
    ages = {own: 0}
    looked_at: set[Path] = set()
    for child in reversed(behind):  # each after all that are made from it
        looked_at.add(child.run.path)
        if child.run.path not in ages:
            continue  # it is none of the models
        for read in child.inputs:
            # What was looked at before is behind itself: a damaged record.
            if MODEL.fullmatch(read.name) and read.folder not in looked_at:
                ages[read.folder] = max(ages.get(read.folder, 0), ages[child.run.path] + 1)
                models[read.folder] = Model(
                    name=read.name,
                    experiment=known.get(read.folder),
                    weight=_weights(known.get(child.run.path)).get(read.name),
                )
    rows: list[list[Model]] = [[] for _ in range(1 + max(ages.values()))]
    for path, model in models.items():
        rows[ages[path]].append(model)
    return rows


def _weights(soup: Experiment | None) -> dict[str, float]:
    """Return the weights of a soup's ingredients; of another model nothing."""
    data: Mapping[str, Any] = {} if soup is None else soup.data
    parts: Sequence[Mapping[str, Any]] = data.get("parents") or ()
    rows = zip(parts, data.get("weights") or (), strict=False)
    return {part["model"]: weight for part, weight in rows}


def trained(rows: Sequence[Sequence[Model]]) -> list[Experiment]:
    """Return the training runs among some generations, the earliest first."""
    return [
        each.experiment
        for row in reversed(rows)
        for each in row
        if each.experiment is not None and each.experiment.trained
    ]


@kept("result.json")
def report_of(path: Path) -> Mapping[str, Any]:
    """Return what a finished run reported; nothing of another."""
    run = RunFolder(path)
    return run.read_result()["report"] if run.finished else {}
