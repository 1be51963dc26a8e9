"""What is up to date, what is not, and why: read from recipe, code and run folders alone.

A cause stands at the asset that has it. What is made from that one names it as an input.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assets.evals.sweep import checkpoints, sweep_names, sweep_work
from assets.execution.produce import AssetBuild
from assets.fingerprint import ABSENT, Change, changes
from assets.graph import Graph
from assets.launcher import Refused
from assets.paths import shared_roots
from assets.reuse import reused_from
from olmo_core.run.folder import RunFolder

StateName = Literal["up to date", "check failed", "running", "blocked", "stale", "missing"]


@dataclass(frozen=True, kw_only=True)
class AssetState:
    """Whether an asset, or a partition of it, is as it would be made now, and if not, why."""

    asset: str
    partition: str | None = None
    state: StateName
    changes: tuple[Change, ...] = ()  # of what it is made from itself; its inputs' are theirs
    # that are not up to date, and so this is not; of those made from one another the last
    inputs: tuple[str, ...] = ()
    says: tuple[str, ...] = ()  # the check that failed, what blocks it
    accepted: str | None = None  # by whom and why an older result counts
    reused_from: str | None = None  # another recipe or a shared root, whose work it is
    run: RunFolder | None = None  # up to date: its run; running: the job's; stale: the last one

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is to be made and no check stops what follows."""
        return self.state == "up to date"

    @property
    def why(self) -> list[str]:
        """Return why it is not up to date, one line per cause."""
        return [*self.says, *map(change_line, self.changes), *self.reasons]

    @property
    def reasons(self) -> list[str]:
        """Return what its state comes from beside causes of its own: inputs, or no run before."""
        if self.inputs:
            word = "input" if len(self.inputs) == 1 else "inputs"
            return [f"because of its {word} {', '.join(self.inputs)}"]
        return ["never built"] if self.state == "missing" else []

    def job(self) -> dict[str, Any]:
        """Return what is known of the job of a running one: engine, id, how far it is."""
        assert self.run is not None
        launch = self.run.read(self.run.launch) or {}
        status = self.run.read_status() or {}
        known = {"engine": launch.get("engine", "local"), "job_id": launch.get("job_id")}
        return known | {key: status.get(key) for key in ("step", "done", "total", "unit")}


def change_line(change: Change) -> str:
    """Return one change as a line; of an input that has been made anew, its old and new version."""
    if change.area == "inputs" and ABSENT not in (change.old, change.new):
        return f"input {change.what}: {change.old[:12]} → {change.new[:12]}"
    return str(change)


def asset_states(graph: Graph, root: Path, names: Iterable[str]) -> dict[str, AssetState]:
    """Return the state of assets of the main line by name, of their inputs too, in order."""
    found: dict[str, AssetState] = {}
    for name in graph.select(names):
        found[name] = _asset_state(graph, root, name, found)
    return found


def _asset_state(
    graph: Graph, root: Path, name: str, known: Mapping[str, AssetState]
) -> AssetState:
    node, recipe = graph.nodes[name], graph.recipe.name
    accepted = graph.fingerprints[name].accepted
    state = functools.partial(AssetState, asset=name, accepted=str(accepted) if accepted else None)
    if (run := graph.finished(root, name)) is not None:
        state = functools.partial(state, run=run, reused_from=reused_from(run, root, recipe))
        if failed := graph.failed_check(root, name):
            return state(state="check failed", says=(failed,))
        return state(state="up to date")
    for run in graph.unfinished(root, name):
        if run.is_running():
            return state(state="running", run=run, reused_from=reused_from(run, root, recipe))
    behind = tuple(entry for entry in node.inputs if not known[entry].up_to_date)
    before = latest_finished(graph, root, name)
    launch = before.read(before.launch) if before is not None else None
    own: tuple[Change, ...] = ()
    if before is not None and launch is not None:
        own = _own_changes(graph, root, name, launch, before, behind)
    failed = [(entry, known[entry]) for entry in node.inputs]
    says = [f"by {entry}: {at.says[0]}" for entry, at in failed if at.state == "check failed"][:1]
    says = says or [f"not here: {line}" for line in node.lacks()]
    if says:
        return state(state="blocked", says=tuple(says), changes=own, run=before)
    last = tuple(each for each in behind if not _made_from(graph, each, behind))
    if launch is None:
        return state(state="missing", inputs=last)
    return state(state="stale", changes=own, inputs=last, run=before)


def _made_from(graph: Graph, name: str, others: Iterable[str]) -> bool:
    """Return whether one of the others is made from an asset."""
    return any(name in graph.select([other]) for other in others if other != name)


def _own_changes(
    graph: Graph,
    root: Path,
    name: str,
    launch: Mapping[str, Any],
    before: RunFolder,
    behind: tuple[str, ...],
) -> tuple[Change, ...]:
    """Return what differs besides those inputs that are not up to date themselves.

    Equal fingerprints with other bits are a difference too: an input has been made again.
    """
    found = changes(launch, graph.fingerprints[name].record())
    if not found:
        read = before.read_result()["inputs"]
        for entry in graph.nodes[name].inputs:
            run = graph.finished(root, entry)
            now = run.read_result()["digest"] if run is not None else None
            if now is not None and now != read[entry]["digest"]:
                found.append(Change(area="inputs", what=entry, old=read[entry]["digest"], new=now))
    return tuple(each for each in found if each.area != "inputs" or each.what not in behind)


def sweep_states(graph: Graph, root: Path) -> list[AssetState]:
    """Return the state of each evaluation of the checkpoints that the recipe's runs have now."""
    found = checkpoints(graph, root)
    states: list[AssetState] = []
    for name in sweep_names(graph):
        for key, why in found.damaged.items():
            states.append(AssetState(asset=name, partition=key, state="blocked", says=(why,)))
        for key in found.whole:
            try:
                work = sweep_work(graph, name, key, root, found)
            except Refused as error:
                says = (str(error),)
                states.append(AssetState(asset=name, partition=key, state="blocked", says=says))
                continue
            states.append(_partition_state(work, root, key))
    return states


def _partition_state(work: AssetBuild, root: Path, key: str) -> AssetState:
    state = functools.partial(AssetState, asset=work.node.name, partition=key)
    if (run := work.finished()) is not None:
        origin = reused_from(run, root, work.node.recipe)
        return state(state="up to date", run=run, reused_from=origin)
    run = RunFolder(work.parent / work.fingerprint.version)
    if run.is_running():
        return state(state="running", run=run)
    before = _latest([run.parent for run in work.parent.glob("*/result.json")])
    launch = before.read(before.launch) if before is not None else None
    if launch is None:
        return state(state="missing")
    found = changes(launch, work.fingerprint.record())
    return state(state="stale", changes=tuple(found), run=before)


def latest_finished(graph: Graph, root: Path, name: str) -> RunFolder | None:
    """Return the finished run of an asset that ended last, whatever its version.

    Of those in a shared root only where there is none in the own one.
    """
    for place in (root, *shared_roots(root)):
        found = _latest([run.parent for run in graph.folder(place, name).glob("*/result.json")])
        if found is not None:
            return found
    return None


def _latest(folders: Iterable[Path]) -> RunFolder | None:
    runs = map(RunFolder, folders)
    return max(runs, key=lambda run: run.read_result()["finished"], default=None)
