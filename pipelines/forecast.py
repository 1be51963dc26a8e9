"""What a run of a recipe's graph will take: job by job, in the order in which they can be made."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.graph import Graph
from assets.launcher import Launch
from assets.node import Node
from assets.paths import shared_roots
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.forecast.figures import Figure, Forecast, Place
from olmo_core.forecast.job import forecast_job
from olmo_core.forecast.loads import Work, text_size
from olmo_core.forecast.outputs import BYTES_OF_A_TOKEN
from olmo_core.forecast.training import TrainingWork
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs that a run would make, with their forecasts and places, and what was assumed."""

    forecasts: Mapping[str, Forecast]
    places: Mapping[str, Place]
    elapsed_seconds: float | None  # of all; None where that of some job is not known
    notes: tuple[str, ...]
    rows: Mapping[str, str] = field(default_factory=dict[str, str])  # of a sweep: job -> its row


def forecast_graph(
    graph: Graph,
    root: Path,
    selected: Sequence[str],
    place_of: Callable[[Launch], Place],
    queues: Callable[[Launch], bool],
    *,
    forced: Collection[str] = (),
) -> Plan:
    """Return what `olmo run` would make of the selected assets, and what that will take.

    Args:
        graph: The recipe's.
        root: Of results.
        selected: Assets with all that they are made from, in order.
        place_of: Where a job would run.
        queues: Whether its engine has a queue, in which jobs wait side by side.
        forced: Assets that are made again, though they are finished.

    Raises:
        ConfigError: the devices do not divide the global batch of a training run.
    """
    configs, notes = configs_of(graph)
    made = {} if notes else _finished(graph, root, selected)
    known: dict[str, Mapping[str, Any]] = {
        name: run.read_result()["report"]["numbers"] for name, run in made.items()
    }
    trainings = training_configs(graph)
    forecasts: dict[str, Forecast] = {}
    places: dict[str, Place] = {}
    for name in selected:
        if name in made and name not in forced:
            continue
        node = graph.nodes[name]
        places[name] = place_of(launch_like(node))
        forecasts[name] = forecast_job(
            Work(
                asset=name,
                module=node.module,
                config=configs[name],
                inputs={entry: known[entry] for entry in node.inputs if entry in known},
            ),
            places[name],
            (root, *shared_roots(root)),
            config=trainings.get(name),
            text=_assumed_text(trainings) if name == "raw" else None,
        )
        known[name] = forecasts[name].numbers
        if text := forecasts[name].figures.get("text_bytes"):
            notes.append(f"{name}: {text_size(text.value)} ({text.basis})")
    queued = [name for name in forecasts if queues(launch_like(graph.nodes[name]))]
    return Plan(
        forecasts=forecasts,
        places=places,
        elapsed_seconds=elapsed(graph, forecasts, queued),
        notes=tuple(notes),
    )


def training_configs(graph: Graph) -> dict[str, TrainConfig]:
    """Return the configuration of each training run of a recipe, by its asset.

    Those of stage 2 begin with a checkpoint, whichever it will be.
    """
    ingredients = [
        dataclasses.replace(config, load_path="stage1") for _, config in graph.recipe.ingredients()
    ]
    numbered = {f"stage2_ingredient{k}": each for k, each in enumerate(ingredients, start=1)}
    return {"stage1": graph.recipe.stage1_config(), **numbered}


def elapsed(graph: Graph, forecasts: Mapping[str, Forecast], queued: Sequence[str]) -> float | None:
    """Return the seconds from the first job's start to the last one's end, without queueing.

    Jobs of an engine with a queue run side by side as soon as their inputs are there; the others
    one after another.
    """
    ends: dict[str, float] = {}
    free = 0.0  # when the last of those that run one after another ends
    for name, forecast in forecasts.items():
        seconds = forecast.value("seconds")
        if seconds is None:
            return None
        ready = max((ends.get(entry, 0.0) for entry in graph.nodes[name].inputs), default=0.0)
        if name in queued:
            ends[name] = ready + seconds
        else:
            free = ends[name] = max(ready, free) + seconds
    return max(ends.values(), default=0.0)


def configs_of(graph: Graph) -> tuple[Mapping[str, Mapping[str, Any]], list[str]]:
    """Return the jobs' configurations, and why nothing can be compared with what has been made.

    With what else makes a result, such as the digests of the sources, if that is on this machine.
    """
    try:
        parts = {name: each.parts for name, each in graph.fingerprints.items()}
    except ConfigError as error:
        configs = {name: node.config for name, node in graph.nodes.items()}
        return configs, [f"everything is taken to be made anew: {error}"]
    return {name: each["config"] for name, each in parts.items()}, []


def _finished(graph: Graph, root: Path, selected: Sequence[str]) -> dict[str, RunFolder]:
    """Return the finished run of each selected asset that has one."""
    found = {name: graph.finished(root, name) for name in selected}
    return {name: run for name, run in found.items() if run is not None}


def _assumed_text(trainings: Mapping[str, TrainConfig]) -> Figure | None:
    """Return the text of sources of which nothing is known: as much as stage 1 reads, once."""
    work = TrainingWork(asset="stage1", config=trainings["stage1"])
    if work.steps is None:
        return None
    tokens = work.steps * work.config.tokens_per_step
    return Figure(
        value=BYTES_OF_A_TOKEN * tokens,
        basis=f"assumed: the tokens of stage 1, {BYTES_OF_A_TOKEN:g} bytes each",
    )


def launch_like(node: Node) -> Launch:
    """Return a launch by which a site knows how the node's job would run."""
    return Launch(
        folder=RunFolder(Path()),
        module=node.module,
        stage=node.stage,
        config={},
        identity={"recipe": node.recipe, "asset": node.name},
        distributed=node.distributed,
        shares_tasks=node.shares_tasks,
    )
