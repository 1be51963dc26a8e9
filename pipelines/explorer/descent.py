"""What a model was made from: the runs behind it, back to the first weights and to the corpus."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.evals.store.tokens_behind import inputs_of
from olmo_core.run.folder import RunFolder
from pipelines.explorer.experiments import MODEL, Experiment
from pipelines.explorer.files import kept


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A model behind another one, or that one itself."""

    name: str  # of the asset
    experiment: Experiment | None  # None: its run folder is not here any more
    weight: float | None = None  # in the soup that it is part of
    at_step: int | None = None  # from which the model after it has gone on


def generations(experiment: Experiment, known: Mapping[Path, Experiment]) -> list[list[Ancestor]]:
    """Return the model, what it was made from, what that was made from, and so on.

    A run that several have begun from stands once, in the earliest generation that it is in.

    Args:
        experiment: The model.
        known: All experiments by their run folder.
    """
    rows: list[list[Ancestor]] = [[Ancestor(name=experiment.asset, experiment=experiment)]]
    while len(rows) <= len(known) + 1:  # a longer chain has no end: a damaged record
        parents: dict[Path, Ancestor] = {}
        for child in rows[-1]:
            if child.experiment is not None:
                parents |= dict(_parents(child.experiment, known))
        if not parents:
            break
        rows.append([*parents.values()])
    later: set[str] = set()
    for row in reversed(rows):
        row[:] = [
            each for each in row if each.experiment is None or each.experiment.id not in later
        ]
        later |= {each.experiment.id for each in row if each.experiment is not None}
    return [row for row in rows if row]


def _parents(
    experiment: Experiment, known: Mapping[Path, Experiment]
) -> Iterator[tuple[Path, Ancestor]]:
    parts: Sequence[Mapping[str, Any]] = experiment.data.get("parents") or ()
    weights = {
        part["model"]: weight
        for part, weight in zip(parts, experiment.data.get("weights") or (), strict=False)
    }
    parent: Mapping[str, Any] = experiment.data.get("parent") or {}
    for name, path in inputs_of(experiment.folder.path).items():
        if MODEL.fullmatch(name):
            yield (
                path,
                Ancestor(
                    name=name,
                    experiment=known.get(path),
                    weight=weights.get(name),
                    at_step=parent.get("step"),
                ),
            )


def trained(rows: Sequence[Sequence[Ancestor]]) -> list[Experiment]:
    """Return the training runs among some generations, the earliest first."""
    return [
        each.experiment
        for row in reversed(rows)
        for each in row
        if each.experiment is not None and each.experiment.trained
    ]


def behind(path: Path) -> dict[str, Path]:
    """Return the run folders that a run was made from, by asset: of what is here, all."""
    found: dict[str, Path] = {}
    waiting = [path]
    while waiting:
        for name, folder in _inputs(waiting.pop()).items():
            if name not in found and folder.is_dir():
                found[name] = folder
                waiting.append(folder)
    return found


@kept("launch.json")
def _inputs(path: Path) -> dict[str, Path]:
    return inputs_of(path)


@kept("result.json")
def report_of(path: Path) -> Mapping[str, Any]:
    """Return what a finished run reported; nothing of another."""
    run = RunFolder(path)
    return run.read_result()["report"] if run.finished else {}
