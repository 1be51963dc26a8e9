"""In what two recipes, runs, checkpoints or exports differ: the causes, and what came of them."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.assemble import build_graph
from assets.evals.regression import scores
from assets.fingerprint import Change, changes
from assets.lineage.ancestors import input_folder
from assets.lineage.causes import Causes, Found, find_causes, joined, joined_title, other_jobs
from assets.lineage.sides import Model, ScoredAs, Side, narrowed, told_apart
from assets.paths import shared_roots
from assets.recipe import find_recipes, load_recipe
from olmo_core.lineage.facts import environment_of, order_of, tokens_by_source
from olmo_core.lineage.losses import LossDifference, compare_losses, read_losses
from olmo_core.lineage.weights import ComparedWeights, compare_weights
from olmo_core.run.folder import RunFolder

if TYPE_CHECKING:
    from olmo_core.evals.compare.models import Compared, Floors
    from olmo_core.evals.store.read import Results
    from olmo_core.lineage.documents import ComparedDocuments

Row = Mapping[str, Any]
INDEX = "documents"  # the asset that says of each token whose it is


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    """The scores of two models side by side."""

    before: ScoredAs
    after: ScoredAs
    compared: "Compared"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Two sides: what decides their results, then what else their runs show."""

    before: Side
    after: Side
    causes: Causes
    data: Sequence[Found] = ()
    documents: "ComparedDocuments | None" = None  # None: no two indexes, or one and the same
    environment: Sequence[Found] = ()
    losses: Mapping[str, LossDifference] = field(default_factory=dict[str, LossDifference])
    weights: Mapping[str, ComparedWeights] = field(default_factory=dict[str, ComparedWeights])
    scores: Sequence[ScoredPair] = ()
    notes: Sequence[str] = ()  # what could not be compared, and why


def compare_sides(before: Side, after: Side, root: Path) -> Differences:
    """Return in what two sides differ; of a recipe and a run, the recipe's same asset is taken.

    Args:
        before: The first.
        after: The second.
        root: Of results.

    Raises:
        ConfigError: the recipe has no such asset.
        InputError: a file of weights is damaged.
    """
    before, after = told_apart(_narrowed(before, after, root))
    causes = find_causes(before, after)
    trained = _runs(before, after)
    apart = [(name, a, b) for name, a, b in trained if a.path != b.path]
    alike = [each for each in apart if not _of_other_jobs(before, after)]
    weights, unread = _weights(_models(before, after))
    compared, unscored = _scores(before, after, root)
    return Differences(
        before=before,
        after=after,
        causes=causes,
        data=joined((name, _data_changes(before, after, a, b)) for name, a, b in alike),
        documents=_documents(before, after),
        environment=joined((name, _environment_changes(a, b)) for name, a, b in apart),
        losses=dict(_losses(before, after, trained)),
        weights=weights,
        scores=compared,
        notes=[*before.notes, *after.notes, *causes.notes, *unread, *unscored],
    )


def _narrowed(before: Side, after: Side, root: Path) -> tuple[Side, Side]:
    """Return both, a whole recipe beside a run as its asset of the same name."""
    if before.asset is None and before.recipe is not None and after.asset is not None:
        return narrowed(before, after.asset, root), after
    if after.asset is None and after.recipe is not None and before.asset is not None:
        return before, narrowed(after, before.asset, root)
    return before, after


def _runs(before: Side, after: Side) -> list[tuple[str, RunFolder, RunFolder]]:
    """Return the runs that are compared, each with a title: of whole recipes all of equal names."""
    if before.asset is not None and after.asset is not None:
        if before.run is None or after.run is None:
            return []
        return [(joined_title(before.asset, after.asset), before.run, after.run)]
    return [
        (name, run, after.runs[name]) for name, run in before.runs.items() if name in after.runs
    ]


def _models(before: Side, after: Side) -> list[tuple[str, Model, Model]]:
    """Return the models that are compared: one each whatever they are called, else equal names."""
    if len(before.models) == len(after.models) == 1:
        [(old, a)], [(new, b)] = before.models.items(), after.models.items()
        return [(joined_title(old, new), a, b)]
    return [
        (name, a, after.models[name]) for name, a in before.models.items() if name in after.models
    ]


def _facts_changes(area: str, old: Row, new: Row) -> list[Change]:
    return changes({"parts": {area: old}}, {"parts": {area: new}})


def _of_other_jobs(before: Side, after: Side) -> bool:
    if before.asset is None or after.asset is None:
        return False
    return other_jobs(before.records[before.asset], after.records[after.asset])


def _environment_changes(a: RunFolder, b: RunFolder) -> list[Change]:
    old, new = environment_of(a), environment_of(b)
    if ("config" in old) != ("config" in new):  # one alone is a training
        old.pop("config", None)
        new.pop("config", None)
    return _facts_changes("environment", old, new)


def _data_changes(before: Side, after: Side, a: RunFolder, b: RunFolder) -> list[Change]:
    """Return in what the data of two runs differ: inputs by digest, tokens by source, order."""
    steps = before.step, after.step
    old, new = (_data_of(run, step) for run, step in zip((a, b), steps, strict=True))
    if before.asset is None:  # of a recipe, what differs since its inputs do has been said
        for name in old["inputs"].keys() | new["inputs"].keys():
            first, second = (side["inputs"].get(name) for side in (old, new))
            if first is None or second is None or first["fingerprint"] != second["fingerprint"]:
                old["inputs"].pop(name, None)
                new["inputs"].pop(name, None)
    return _facts_changes("data", old, new)


def _data_of(run: RunFolder, step: int | None) -> dict[str, Any]:
    launch = run.read(run.launch) or {}
    record: Row = run.read_result() if run.finished else launch
    inputs: Mapping[str, Any] = record.get("inputs") or {}
    tokens = tokens_by_source(run)
    for entry in inputs.values():
        mix = RunFolder(input_folder(run, launch, entry))
        tokens = tokens_by_source(mix) or tokens
    order = order_of(run, step)
    return {
        "inputs": {
            name: {key: str(entry.get(key))[:12] for key in ("fingerprint", "digest")}
            for name, entry in inputs.items()
        },
        "tokens": tokens,
        "order": order,
    }


def _documents(before: Side, after: Side) -> "ComparedDocuments | None":
    """Return which documents the tokens of one side hold and those of the other do not."""
    old, new = _index_of(before), _index_of(after)
    if old is None or new is None or old.read_result()["digest"] == new.read_result()["digest"]:
        return None
    from olmo_core.lineage.documents import compare_documents

    return compare_documents(old.path, new.path)


def _index_of(side: Side) -> RunFolder | None:
    """Return the index of a side's tokens: its own, else one of its recipe made from the same."""
    if (own := side.runs.get(INDEX)) is not None and own.finished:
        return own
    tokens = side.runs.get("tokens")
    if tokens is None or not tokens.finished:
        return None
    digest = tokens.read_result()["digest"]
    beside = (
        RunFolder(path.parent) for path in tokens.path.parents[1].glob(f"{INDEX}/*/result.json")
    )
    return next(
        (run for run in beside if run.read_result()["inputs"]["tokens"]["digest"] == digest), None
    )


def _losses(
    before: Side, after: Side, trained: Sequence[tuple[str, RunFolder, RunFolder]]
) -> Iterator[tuple[str, LossDifference]]:
    for name, a, b in trained:
        if a.path == b.path and before.step == after.step:
            continue
        old, new = read_losses(a, up_to=before.step), read_losses(b, up_to=after.step)
        if old is not None and new is not None and (found := compare_losses(old, new)) is not None:
            yield name, found


def _weights(
    pairs: Sequence[tuple[str, Model, Model]],
) -> tuple[dict[str, ComparedWeights], list[str]]:
    """Return the models' weights side by side, and why some are not."""
    found: dict[str, ComparedWeights] = {}
    notes: list[str] = []
    for name, a, b in pairs:
        if a.weights is None or b.weights is None:
            notes += [model.no_weights for model in (a, b) if model.weights is None]
        elif a.weights != b.weights:
            found[name] = compare_weights(a.weights, b.weights)
    return found, list(dict.fromkeys(notes))


def _scores(before: Side, after: Side, root: Path) -> tuple[list[ScoredPair], list[str]]:
    """Return the scores of models side by side, and which have none."""
    pairs = [(a.scored_as, b.scored_as) for _, a, b in _models(before, after)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None and a != b]
    if not known:
        return [], []
    from olmo_core.evals.compare.models import compare
    from olmo_core.evals.store.read import open_results

    results = open_results(root, shared_roots(root))
    found: list[ScoredPair] = []
    recipes = {model.recipe for pair in known for model in pair}
    notes = [
        f"scores left out: {why}"
        for path, why in results.damaged.items()
        if not recipes.isdisjoint(path.parts)
    ]
    floors = functools.cache(lambda: _floors([before, after], root))
    for a, b in known:
        old, new = _rows(results, a), _rows(results, b)
        if old and new:
            compared = compare((a.label, b.label), old, new, floors())
            found.append(ScoredPair(before=a, after=b, compared=compared))
        elif old or new:
            none = b if old else a
            notes.append(f"{none.label}: has no scores, so there is nothing to compare")
    return found, notes


def _rows(results: "Results", model: ScoredAs) -> list[dict[str, Any]]:
    """Return the figures of a model of this very run, those of the latest evaluation last."""
    from olmo_core.evals.store.read import IN_LOOP

    return results.query(
        "select * from current where recipe = ? and run = ? and model = ? and asset <> ? "
        "order by finished, position",
        *(model.recipe, model.run, model.model, IN_LOOP),
    )


def _floors(sides: Sequence[Side], root: Path) -> "Floors":
    """Return how far seeds alone put a figure apart, in either recipe: the wider."""
    found: dict[Any, Any] = {}
    recipes = dict.fromkeys(side.recipe for side in sides)
    for recipe in [name for name in recipes if name in find_recipes()]:
        for key, floor in scores(build_graph(load_recipe(str(recipe))), root).floors.items():
            if key not in found or floor.spread > found[key].spread:
                found[key] = floor
    return found
