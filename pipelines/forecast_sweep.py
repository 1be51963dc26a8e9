"""What a sweep will take: each evaluation that checkpoints lack, there or yet to be written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assets.evals.sweep import SWEEP, checkpoints, sweep_node
from assets.graph import Graph
from assets.launcher import Launch
from assets.paths import shared_roots
from olmo_core.config.model import count_parameters
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.forecast.checkpoints import kept_steps, scored_as_model
from olmo_core.forecast.figures import Forecast, Place
from olmo_core.forecast.job import forecast_job
from olmo_core.forecast.loads import Work, work_module
from olmo_core.forecast.past import reported
from olmo_core.forecast.training import TrainingWork
from pipelines.forecast import Plan, configs_of, forecast_graph, launch_like, training_configs
from pipelines.sweep import Lacking, lacking


@dataclass(frozen=True, kw_only=True)
class ToScore:
    """An evaluation of a checkpoint; without a folder it is not written yet."""

    name: str
    key: str
    folder: Path | None
    parameters: int | None  # None: not known

    @property
    def run(self) -> str:
        """Return the training whose checkpoint it is."""
        return self.key.partition("@")[0]

    @property
    def label(self) -> str:
        """Return its name as `olmo sweep` has it."""
        return f"{self.name} {self.key}"


def forecast_sweep(
    graph: Graph,
    root: Path,
    names: Sequence[str],
    place_of: Callable[[Launch], Place],
    queues: Callable[[Launch], bool],
    *,
    every: int = 1,
    runs: Collection[str] = (),
) -> Plan:
    """Return what `olmo sweep` would make, of all checkpoints that the recipe's trainings keep.

    Args:
        graph: The recipe's.
        root: Of results.
        names: Assets of the sweep.
        place_of: Where a job would run.
        queues: Whether its engine has a queue.
        every: Of each training, only checkpoints at multiples of so many steps.
        runs: Only checkpoints of these trainings; all if none is named.
    """
    trainings = training_configs(graph)
    notes: list[str] = []
    works: list[ToScore] = []
    try:
        found = checkpoints(graph, root).wanted(every=every, runs=runs)
        lacks = lacking(graph, root, found, names=names)
        works += to_score(lacks)
        notes += [f"left out: {name}: {why}" for name, why in lacks.refused.items()]
        notes += [f"left out: {key}: {why}" for key, why in found.damaged.items()]
        there = {run for run in trainings if graph.finished(root, run) is not None}
    except ConfigError:  # its sources are elsewhere: `configs_of` says so
        found, there = None, set[str]()
    for run, config in trainings.items():
        if run in there or (runs and run not in runs):
            continue
        known = {*found.whole, *found.damaged} if found else set[str]()
        keys = [key for key in _planned(run, config, every) if key not in known]
        size = count_parameters(config.model).total
        works += [
            ToScore(name=name, key=key, folder=None, parameters=size)
            for key in keys
            for name in names
        ]
        if keys:
            notes.append(f"{run}: not written yet: {_ends(keys)}")
        elif TrainingWork(asset=run, config=config).steps is None:
            notes.append(f"{run}: how many checkpoints it will write is not known")
    return forecast_evaluations(graph, root, works, place_of, queues, notes)


def to_score(lacks: Lacking) -> list[ToScore]:
    """Return the evaluations that checkpoints lack which are there."""
    found: list[ToScore] = []
    for work in lacks.works:
        assert work.partition is not None
        folder = lacks.swept.whole[work.partition]
        size = (reported("checkpoint", folder) or {}).get("parameters")
        found.append(
            ToScore(name=work.node.name, key=work.partition, folder=folder, parameters=size)
        )
    return found


def _ends(keys: Sequence[str]) -> str:
    """Return the first and the last of checkpoints in their order, and how many there are."""
    return keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}, {len(keys)} in all"


def _planned(run: str, config: TrainConfig, every: int) -> list[str]:
    """Return the checkpoints that a training will have kept; none where its end is not known."""
    steps = TrainingWork(asset=run, config=config).steps
    if steps is None:
        return []
    return [f"{run}@step{step}" for step in kept_steps(config, steps) if step % every == 0]


def forecast_evaluations(
    graph: Graph,
    root: Path,
    works: Sequence[ToScore],
    place_of: Callable[[Launch], Place],
    queues: Callable[[Launch], bool],
    notes: Sequence[str] = (),
) -> Plan:
    """Return the forecasts of evaluations; those that have the same to do are forecast once."""
    roots = (root, *shared_roots(root))
    configs, of_sources = configs_of(graph)
    held_out = _held_out(graph, root, place_of, queues) if works else {}
    names = {work.name for work in works}
    queued = {name for name in names if queues(launch_like(sweep_node(graph, name)))}
    turns = [work for work in works if work.name not in queued]  # of one process
    known: dict[tuple[str, str, bool, bool], Forecast] = {}
    forecasts: dict[str, Forecast] = {}
    places: dict[str, Place] = {}
    for work in works:
        config = configs[SWEEP[work.name]]
        cached = work.folder is not None and scored_as_model(work.folder, work.name, config, roots)
        node = sweep_node(graph, work.name)
        first = work.name in queued or work is turns[0]
        same = (work.name, work.run, cached, first)
        places[work.label] = place_of(launch_like(node))
        if same not in known:
            inputs: dict[str, Mapping[str, Any]] = {}
            if work.parameters is not None:
                inputs["checkpoint"] = {"parameters": work.parameters}
            if "held_out" in node.inputs:
                inputs["held_out"] = held_out
            job = Work(
                asset=work.name,
                module=work_module(work.name, node.module),
                config=config,
                inputs=inputs,
                from_cache=cached,
                first_in_process=first,
            )
            known[same] = forecast_job(job, places[work.label], roots)
        forecasts[work.label] = replace(known[same], asset=work.label)
    waits = {work.label for work in works if work.name in queued}
    return Plan(
        forecasts=forecasts,
        places=places,
        elapsed_seconds=_elapsed(forecasts, waits),
        notes=(*of_sources, *notes),
        rows={work.label: f"{work.name} {work.run}" for work in works},
    )


def _held_out(
    graph: Graph,
    root: Path,
    place_of: Callable[[Launch], Place],
    queues: Callable[[Launch], bool],
) -> Mapping[str, Any]:
    """Return what `held_out` reports, or is forecast to; empty for a recipe without it."""
    if "held_out" not in graph.nodes:
        return {}
    plan = forecast_graph(graph, root, graph.select(["held_out"]), place_of, queues)
    if "held_out" in plan.forecasts:
        return plan.forecasts["held_out"].numbers
    run = graph.finished(root, "held_out")
    return run.read_result()["report"]["numbers"] if run else {}


def _elapsed(forecasts: Mapping[str, Forecast], queued: Collection[str]) -> float | None:
    """Return the seconds from begin to end: in a queue side by side, else one after another."""
    seconds = {name: forecast.value("seconds") for name, forecast in forecasts.items()}
    if None in seconds.values():
        return None
    waiting = max((seconds[name] or 0.0 for name in queued), default=0.0)
    return max(waiting, sum(each or 0.0 for name, each in seconds.items() if name not in queued))
