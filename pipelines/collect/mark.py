"""Which runs of a root stay, and why; the rest may go.

Kept are runs that are at work or were lately, that are the newest or count now, that were accepted,
pinned, published or reused, and those that cannot be read; and all that one of these depends on.
"""

import dataclasses
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assets.assemble import build_graph
from assets.evals.sweep import SWEEP
from assets.execution.reused import reuses
from assets.graph import Graph
from assets.launcher import EngineError, Launcher
from assets.paths import versions
from assets.recipe import Recipe, find_recipes, load_recipe
from assets.staleness import sweep_states
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.accepted import read_acceptances
from olmo_core.run.folder import RunFolder
from pipelines.collect.decisions import pins, releases
from pipelines.collect.records import Records, Run, named_runs

HEARTBEAT_SECONDS = 600.0  # after which a job without a sign of life has ended
INDEX, TOKENS = (
    "documents",
    "tokens",
)  # the index of documents is kept with the tokens that it is of


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """The recipes as they stand: those whose graph can be built, and why others cannot."""

    graphs: Mapping[str, Graph]
    broken: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Marked:
    """Why each run stays that does, and what may go, with the reason."""

    stays: Mapping[str, str]
    goes: Mapping[str, str]  # those that depend on others before them


def read_recipes() -> Recipes:
    """Return the recipes of the search path as they stand now."""
    graphs: dict[str, Graph] = {}
    broken: dict[str, str] = {}
    for name in find_recipes():
        try:
            graphs[name] = build_graph(load_recipe(name))
            _ = graphs[name].fingerprints
        except (ConfigError, InputError, OSError) as error:
            graphs.pop(name, None)
            broken[name] = str(error)
    return Recipes(graphs=graphs, broken=broken)


def mark(
    records: Records,
    recipes: Recipes,
    launcher: Launcher,
    *,
    older_than_seconds: float,
    further: Mapping[str, str],
) -> Marked:
    """Return what stays and what may go.

    Args:
        records: Of the root.
        recipes: As they stand now.
        launcher: Knows what is at work.
        older_than_seconds: What was at work, or the newest, more lately than that stays.
        further: What stays besides, and why.

    Raises:
        ValueError: a record of a decision cannot be read, so that it is not known what stays.
    """
    since = time.time() - older_than_seconds
    why = dict(further)
    for name, reason in _roots(records, recipes, launcher, since):
        why.setdefault(name, reason)
    replayed = {
        name: f"a replay at work reads it: {replay.name}"
        for replay in records.replays
        if replay.touched > since or alive(replay, launcher)
        for name in records.read_by(replay)
    }
    stays = _closed(records, {**replayed, **why})
    gone = {
        run.name: _reason(records, run) for run in records.runs.values() if run.name not in stays
    }
    return Marked(stays=stays, goes={name: gone[name] for name in readers_first(records, gone)})


def alive(run: Run, launcher: Launcher) -> str:
    """Return how it is known that a run's job may be at work; empty if it is not."""
    try:
        if run.locked:
            return "at work"
        if run.finished is not None or not run.folder.launch.exists():
            return ""
        state = launcher.state(run.folder)
    except (EngineError, OSError, ValueError) as error:
        return f"it cannot be told whether it is at work: {error}"
    if state.alive:
        return "queued" if state.queued else "at work"
    # Of a process on another machine the local engine knows no more than the locks say.
    elsewhere = run.host not in (None, socket.gethostname())
    lately = time.time() - run.touched < HEARTBEAT_SECONDS
    return f"at work on {run.host} a moment ago" if elsewhere and lately else ""


def readers_first(records: Records, names: Mapping[str, Any]) -> list[str]:
    """Return names so that whatever depends on another comes before it.

    At every moment between two of them nothing that is left depends on something that has gone.
    """
    order: list[str] = []
    state: dict[str, int] = {}  # 1: its readers are being placed, 2: placed
    for start in names:
        waiting = [start]
        while waiting:
            name = waiting[-1]
            if name not in state:
                state[name] = 1
                readers = records.readers.get(name, ())
                waiting.extend(each for each in readers if each in names and each not in state)
            else:
                waiting.pop()
                if state[name] == 1:
                    state[name] = 2
                    order.append(name)
    return order


def _roots(
    records: Records, recipes: Recipes, launcher: Launcher, since: float
) -> Iterator[tuple[str, str]]:
    """Yield runs that stay for a reason of their own; of several reasons the first counts."""
    for run in records.runs.values():
        if run.linked:
            yield run.name, "a symbolic link leads to it"
        if run.damage:
            yield run.name, f"cannot be read: {run.damage}"
        elif says := alive(run, launcher):
            yield run.name, says
        if run.mute:
            for other in records.runs.values():
                if other.touched <= run.touched:
                    yield other.name, f"{run.name} may depend on it, and cannot be read"
    yield from _decided(records)
    for name, error in recipes.broken.items():
        for run in records.runs.values():
            if name in (run.recipe, run.made_by):
                yield run.name, f"recipe {name} cannot be read: {error}"
    for graph in recipes.graphs.values():
        yield from _current(records, graph)
    for line in records.lines.values():
        yield from _newest(line, since)


def _decided(records: Records) -> Iterator[tuple[str, str]]:
    for what, decisions in (("released", releases(records.root)), ("pinned", pins(records.root))):
        for decision in decisions:
            yield from ((n, f"{what} {decision}") for n in decision.runs if n in records.runs)
    for acceptance in read_acceptances(records.root).values():
        for record in (acceptance.old, acceptance.new):
            for run in records.by_fingerprint.get(str(record["fingerprint"]), ()):
                yield run.name, str(acceptance)
    for reuse in reuses(records.root):
        if reuse.path in records.runs:
            yield reuse.path, f"reused as {reuse.reader}"


def _current(records: Records, graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield what counts now for a recipe: finished, begun, or named by one of its values."""
    recipe, root = graph.recipe.name, records.root
    for text in _values(graph.recipe):
        for name in named_runs(text):
            if name in records.runs:
                yield name, f"recipe {recipe} names it"
    for name in graph.nodes:
        try:
            yield from _of_asset(records, graph, name)
        except (OSError, ValueError, KeyError) as error:
            for run in records.runs.values():
                if run.asset == name:
                    yield run.name, f"cannot tell what counts as {recipe}/{name}: {error}"
    try:
        for state in sweep_states(graph, root):
            if state.state == "up to date":
                counts = f"counts now as {recipe}/{state.asset} {state.partition}"
                yield from _here(records, state.run, counts)
    except (OSError, ValueError, KeyError) as error:
        for run in records.runs.values():
            if run.asset in SWEEP:
                yield run.name, f"cannot tell what counts for {recipe}'s checkpoints: {error}"


def _of_asset(records: Records, graph: Graph, name: str) -> Iterator[tuple[str, str]]:
    recipe, root = graph.recipe.name, records.root
    own = versions(graph.folder(root, name), graph.fingerprints[name].version)
    for run in (graph.finished(root, name), *[run for run in own if run.finished][-1:]):
        yield from _here(records, run, f"counts now as {recipe}/{name}")
    for run in graph.unfinished(root, name):
        if run.last_checkpoint() is not None:
            yield from _here(records, run, f"olmo run {recipe} would go on with it")


def _here(records: Records, run: RunFolder | None, why: str) -> Iterator[tuple[str, str]]:
    if run is not None and (name := _name(records, run)) in records.runs:
        yield name, why


def _name(records: Records, run: RunFolder) -> str:
    within = run.path.is_relative_to(records.root)
    return str(run.path.relative_to(records.root)) if within else ""


def _newest(line: list[Run], since: float) -> Iterator[tuple[str, str]]:
    """Yield the versions of one asset, or partition, that stay by their age.

    An old version stays until the grace has passed since a newer one finished.
    """
    finished = [run for run in line if run.finished is not None]
    if finished:
        yield finished[0].name, "the newest"
    for run in line:
        newer = [f.finished or 0.0 for f in finished if (f.finished or 0.0) > _ended(run)]
        if run.touched > since:
            yield run.name, "at work lately"
        elif newer and min(newer) > since:
            yield run.name, "the newest until lately"
        elif run.finished is None and run.has_checkpoint and not newer:
            yield run.name, "has checkpoints, and nothing newer has finished"


def _ended(run: Run) -> float:
    return run.touched if run.finished is None else run.finished


def _closed(records: Records, roots: Mapping[str, str]) -> dict[str, str]:
    """Return the roots and all that they depend on, with why; an index goes with its tokens."""
    why = dict(roots)
    waiting = [*roots]
    indexes: dict[str, list[Run]] = defaultdict(list)
    for run in records.runs.values():
        if run.asset == INDEX and run.finished is not None:
            for name in records.read_by(run):
                if records.runs[name].asset == TOKENS:
                    indexes[name].append(run)
    while waiting:
        name = waiting.pop()
        needed = [(other, f"read by {name}") for other in records.read_by(records.runs[name])]
        if found := indexes.get(name):
            index = max(found, key=lambda run: run.finished or 0.0)
            needed.append((index.name, f"the index of {name}"))
        for other, reason in needed:
            if other not in why:
                why[other] = reason
                waiting.append(other)
    return why


def _reason(records: Records, run: Run) -> str:
    if run.finished is not None:
        newest = next(each for each in records.lines[run.line] if each.finished is not None)
        return f"superseded by {newest.version}"
    return "did not finish" if run.folder.launch.exists() else "was never submitted"


def _values(recipe: Recipe) -> Iterator[str]:
    """Yield every text among a recipe's values."""
    waiting: list[Any] = [getattr(recipe, each.name) for each in dataclasses.fields(recipe)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
