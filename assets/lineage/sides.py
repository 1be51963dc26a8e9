"""What `olmo diff` compares: a recipe, a run of one of its assets, a checkpoint, or a folder."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assets.assemble import build_graph
from assets.graph import Graph
from assets.lineage.ancestors import Record, ancestors, launch_record
from assets.recipe import find_recipes, load_recipe
from assets.staleness import latest_finished
from olmo_core.checkpoint.layout import CHECKPOINTS, STATE, list_checkpoints
from olmo_core.checkpoint.weight_files import INDEX, WEIGHTS
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.files import read_json
from olmo_core.run.folder import RunFolder

_NAME = re.compile(
    r"(?P<recipe>[^/@]+)(?:/(?P<asset>[^/@]+)(?:/(?P<version>[^/@]+))?(?:@step(?P<step>\d+))?)?"
)
_STEP = re.compile(r"step(\d+)")
MODEL, EXPORTS = "model", "exports"


@dataclass(frozen=True, kw_only=True)
class ScoredAs:
    """By what a model is known in the store of results."""

    recipe: str
    run: str  # the version
    model: str  # soup, stage1@step300

    @property
    def label(self) -> str:
        """Return it as it is shown: `demo/soup (b3cdb60568ff)`."""
        return f"{self.recipe}/{self.model} ({self.run})"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of a side: where its weights lie, and by what its scores are known."""

    weights: Path | None
    no_weights: str = ""  # why there are none that can be read
    scored_as: ScoredAs | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the things that are compared."""

    name: str  # as it is shown: demo/stage1/da57c51991a7
    asset: str | None  # None: a whole recipe, or a folder that no asset has made
    recipe: str | None
    # of each asset, those that it is made from before it; a recipe's are as it stands now
    records: Mapping[str, Record]
    runs: Mapping[str, RunFolder] = field(default_factory=dict[str, RunFolder])
    models: Mapping[str, Model] = field(default_factory=dict[str, Model])
    step: int | None = None  # of a checkpoint
    notes: tuple[str, ...] = ()

    @property
    def run(self) -> RunFolder | None:
        """Return the run of its asset; None where it has none, or is a whole recipe."""
        return None if self.asset is None else self.runs.get(self.asset)


def find_side(name: str, root: Path) -> Side:
    """Return what a name on the command line means.

    Args:
        name: `demo`, `demo/stage1`, `demo/stage1/da57c51991a7`, any of an asset with `@step300`,
            or the path of a run, a checkpoint or an exported model.
        root: Of results.

    Raises:
        ConfigError: there is nothing of that name; says what there is.
    """
    match = _NAME.fullmatch(name)
    if match is not None and match["recipe"] in find_recipes():
        graph = build_graph(load_recipe(match["recipe"]))
        if match["asset"] is None:
            return _of_recipe(graph, root)
        step = None if match["step"] is None else int(match["step"])
        return _of_asset(graph, root, match["asset"], match["version"], step)
    path = Path(name).expanduser().absolute()
    if path.is_dir():
        return _of_folder(path, name)
    recipe = name.partition("/")[0].partition("@")[0]
    raise ConfigError(
        f"{name}: neither a recipe, one of its assets (demo/stage1), a checkpoint "
        f"(demo/stage1@step300), nor a folder; {nearest(recipe, find_recipes())}"
    )


def told_apart(sides: Sequence[Side]) -> list[Side]:
    """Return the sides, those of one name under the path of their run: a version in two roots."""
    often = Counter(side.name for side in sides)
    ends = ["" if side.step is None else f"@step{side.step}" for side in sides]
    return [
        replace(side, name=f"{side.run.path}{end}") if side.run and often[side.name] > 1 else side
        for side, end in zip(sides, ends, strict=True)
    ]


def narrowed(side: Side, asset: str, root: Path) -> Side:
    """Return what a whole recipe has of one asset.

    Raises:
        ConfigError: it has no such asset.
    """
    assert side.recipe is not None
    return _of_asset(build_graph(load_recipe(side.recipe)), root, asset, None, None)


def _of_recipe(graph: Graph, root: Path) -> Side:
    runs: dict[str, RunFolder] = {}
    notes: list[str] = []
    for name in graph.nodes:
        if (run := graph.finished(root, name)) is not None:
            runs[name] = run
        elif latest_finished(graph, root, name) is not None:
            notes.append(name)
    recipe = graph.recipe.name
    why = f"{recipe}: no run as the recipe stands, so only its values are compared of "
    return Side(
        name=recipe,
        asset=None,
        recipe=recipe,
        records={name: graph.fingerprints[name].record() for name in graph.nodes},
        runs=runs,
        models={
            name: model
            for name, run in runs.items()
            for model in _models(run, None).values()
            if (run.path / MODEL).is_dir()
        },
        notes=(why + ", ".join(notes),) if notes else (),
    )


def _of_asset(graph: Graph, root: Path, asset: str, version: str | None, step: int | None) -> Side:
    graph.select([asset])  # an unknown name is an error
    run = _chosen(graph, root, asset, version)
    shown = f"{graph.recipe.name}/{asset}"
    if run is None:
        if step is not None:
            raise ConfigError(
                f"{shown}@step{step}: no run; olmo run {graph.recipe.name} --select {asset}"
            )
        needed = graph.select([asset])
        return Side(
            name=shown,
            asset=asset,
            recipe=graph.recipe.name,
            records={name: graph.fingerprints[name].record() for name in needed},
            notes=(f"{shown}: not made yet; its values are those of the recipe as it stands",),
        )
    side = _of_run(run, step)
    if version is None and (run.read(run.launch) or {}).get("fingerprint") != (
        graph.fingerprints[asset].value
    ):
        note = f"{shown}: no run as the recipe and the code stand; {run.path.name} is the latest"
        return replace(side, notes=(note,))
    return side


def _chosen(graph: Graph, root: Path, asset: str, version: str | None) -> RunFolder | None:
    folder = graph.folder(root, asset)
    if version is not None:
        there = sorted(path.name for path in folder.glob("*") if path.is_dir())
        if version not in there:
            raise ConfigError(
                f"{graph.recipe.name}/{asset}: no version {version!r}; there: "
                f"{', '.join(there) or 'none'}"
            )
        return RunFolder(folder / version)
    finished = graph.finished(root, asset)
    unfinished = [run for run in graph.unfinished(root, asset) if run.launch.is_file()]
    return finished or next(iter(unfinished), None) or latest_finished(graph, root, asset)


def _of_folder(path: Path, name: str) -> Side:
    """Return what a folder is: a run, one of its checkpoints, an export, or someone's model."""
    step = _STEP.fullmatch(path.name)
    if step is not None and path.parent.name == CHECKPOINTS:
        return _of_run(RunFolder(path.parents[1]), int(step[1]))
    if (path / "launch.json").is_file():
        return _of_run(RunFolder(path), None)
    if not any((path / file).is_file() for file in (WEIGHTS, INDEX)):
        raise ConfigError(
            f"{name}: neither a run (launch.json), a checkpoint of one, nor a model ({WEIGHTS})"
        )
    if path.parent.name == EXPORTS and (path.parents[1] / "launch.json").is_file():
        whole = _of_run(RunFolder(path.parents[1]), None)
        return replace(whole, name=name, models={path.name: whole.models[path.name]})
    if path.name == MODEL and (path.parent / "launch.json").is_file():
        return replace(_of_run(RunFolder(path.parent), None), name=name)
    config = path / "config.json"
    values = {"config": read_json(config)} if config.is_file() else {}
    models = {path.name: Model(weights=path)}
    return Side(name=name, asset=None, recipe=None, records={"": {"parts": values}}, models=models)


def _of_run(run: RunFolder, step: int | None) -> Side:
    launch = launch_record(run)
    asset, recipe = str(launch.get("asset") or run.path.parent.name), launch.get("recipe")
    if step is not None and step not in [each.step for each in list_checkpoints(run.path)]:
        there = ", ".join(str(each.step) for each in list_checkpoints(run.path)) or "none"
        raise ConfigError(f"{run.path}: no checkpoint of step {step}; there: {there}")
    made_from = _ancestors(run)
    made_from.pop(asset, None)
    runs = {**made_from, asset: run}
    shown = "/".join(run.path.parts[-3:] if recipe else run.path.parts)
    return Side(
        name=shown if step is None else f"{shown}@step{step}",
        asset=asset,
        recipe=recipe,
        records={name: launch_record(each) for name, each in runs.items()},
        runs=runs,
        models=_models(run, step),
        step=step,
    )


def _ancestors(run: RunFolder) -> dict[str, RunFolder]:
    """Return what a run is made from, that others are made from first, as far as it is here.

    Of what is gone only the fingerprint is known, which the run's own record holds.
    """
    if not run.launch.is_file():
        return {}
    return {each.asset: each.run for each in ancestors(run)[:-1] if each.launch}


def _models(run: RunFolder, step: int | None) -> dict[str, Model]:
    """Return the models of a run: that of a training or a soup, all of an export."""
    launch = launch_record(run)
    recipe, asset = launch.get("recipe"), str(launch.get("asset") or run.path.parent.name)
    if (run.path / EXPORTS).is_dir():
        found: dict[str, Model] = {}
        for folder in sorted(path for path in (run.path / EXPORTS).iterdir() if path.is_dir()):
            entry = launch["inputs"].get(folder.name)
            known = None if entry is None else Path(entry["path"]).parts
            scored = None
            if known is not None:
                scored = ScoredAs(recipe=known[0], run=known[-1], model=folder.name)
            found[folder.name] = Model(weights=folder, scored_as=scored)
        return found
    scored = None
    if recipe is not None:
        scored = ScoredAs(recipe=run.path.parents[1].name, run=run.path.name, model=asset)
    folder = run.path / MODEL
    if step is None or (run.finished and run.read_result()["report"]["data"].get("step") == step):
        if folder.is_dir():
            return {asset: Model(weights=folder, scored_as=scored)}
        if step is None and not (run.path / CHECKPOINTS).is_dir():
            return {}
    whole = {each.step: each for each in list_checkpoints(run.path)}
    last = step if step is not None else max(whole, default=None)
    if scored is not None and step is not None:
        scored = replace(scored, model=f"{asset}@step{step}")
    weights = run.path / CHECKPOINTS if last is None else whole[last].path
    if not (weights / STATE).is_dir():
        why = f"{weights}: {'no checkpoint yet' if last is None else f'no {STATE}'}"
        return {asset: Model(weights=None, no_weights=why, scored_as=scored)}
    return {asset: Model(weights=weights, scored_as=scored)}
