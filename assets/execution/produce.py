"""Make one asset: find its finished run, or submit its job, or follow the one that is at work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.execution.follow import Meanwhile, follow, nothing, submit_patiently
from assets.fingerprint import Fingerprint
from assets.graph import Graph
from assets.launcher import Launch, Launcher, Observer
from assets.node import Node
from assets.paths import open_version
from olmo_core import environment
from olmo_core.run.code import code_hashes_now
from olmo_core.run.folder import RunFolder
from olmo_core.run.result import damaged_files


class CodeChanged(RuntimeError):
    """The code on the disk is no longer that of the fingerprint."""


class CheckFailed(RuntimeError):
    """A blocking check of an input fails."""


class InputMissing(RuntimeError):
    """An input of the asset has not been made as the recipe stands now, or is damaged."""


@dataclass(frozen=True, kw_only=True)
class Produced:
    """A finished run folder and how this call came by it."""

    folder: RunFolder
    result: Mapping[str, Any]
    how: str  # launched, following, finished before


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a job reads: a folder, and the identity and content that it has now."""

    path: Path
    fingerprint: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class AssetBuild:
    """A run to be made: its identity, its versions' folder, its inputs, and whether it is made."""

    node: Node
    fingerprint: Fingerprint
    parent: Path
    inputs: Callable[[], Mapping[str, Input]]
    finished: Callable[[], RunFolder | None]
    partition: str | None = None


def main_line_work(graph: Graph, name: str, root: Path) -> AssetBuild:
    """What making an asset of the main line means now."""
    node = graph.nodes[name]
    return AssetBuild(
        node=node,
        fingerprint=graph.fingerprints[name],
        parent=graph.folder(root, name),
        inputs=lambda: _inputs(graph, node, root),
        finished=lambda: graph.finished(root, name),
    )


def make(
    work: AssetBuild,
    *,
    root: Path,
    launcher: Launcher,
    observer: Observer,
    force: bool = False,
    submitted: RunFolder | None = None,
    meanwhile: Meanwhile = nothing,
) -> Produced:
    """Return the finished run of a piece of work, making it if need be; safe to call twice at once.

    Args:
        work: What is to be made.
        root: Where the run folders lie.
        launcher: The engine that runs the job.
        observer: Is told how it goes.
        force: Make a new version although there is a finished one.
        submitted: The folder whose job this run has submitted before; it is followed, and not
            submitted again if it has failed.
        meanwhile: Called while waiting; what it raises ends the wait, not the job.

    Raises:
        CheckFailed: a blocking check of an input fails; nothing was started.
        InputMissing: an input has no finished run, or a damaged one; nothing was started.
        CodeChanged: the code has been edited since the fingerprint was taken.
        JobFailed: the job ended without a result.
    """
    name = work.node.name
    if not force and (finished := work.finished()) is not None:
        return again(name, finished, observer)
    folder, how = submitted, "following"
    if folder is None:
        launch = launch_of(work, root)
        # Another process may have finished it between the two looks: then there is nothing to open.
        if not force and (finished := work.finished()) is not None:
            return again(name, finished, observer)
        folder = launch.folder
        if submit_patiently(launcher, launch, observer, meanwhile):
            how = "launched"
    observer.started(name, folder, how)
    result = follow(name, folder, launcher, observer, meanwhile)
    return Produced(folder=folder, result=result, how=how)


def launch_of(work: AssetBuild, root: Path) -> Launch:
    """The job that makes a piece of work, in the folder that it would work in.

    Raises:
        CheckFailed, InputMissing, CodeChanged: as `make`.
    """
    inputs = work.inputs()
    if code_hashes_now(work.node.module) != work.fingerprint.code:
        raise CodeChanged(
            f"{work.node.name}: the code that makes it has changed since this run began; run again"
        )
    return _launch(work, inputs, open_version(work.parent, work.fingerprint.version), root)


def again(name: str, finished: RunFolder, observer: Observer) -> Produced:
    """A finished run, reported once more."""
    observer.started(name, finished, "finished before")
    return Produced(folder=finished, result=finished.read_result(), how="finished before")


def finished_input(run: RunFolder) -> Input:
    """A finished run as another job's input."""
    result = run.read_result()
    return Input(path=run.path, fingerprint=result["fingerprint"], digest=result["digest"])


def _inputs(graph: Graph, node: Node, root: Path) -> dict[str, Input]:
    inputs: dict[str, Input] = {}
    for name in node.inputs:
        run = graph.finished(root, name)
        if run is None:
            raise InputMissing(
                f"{node.name}: its input {name} has not been made as recipe {node.recipe} stands "
                f"now (version {graph.fingerprints[name].version}); materialise {name} first "
                f"(olmo run {node.recipe} --select {name})"
            )
        _require_whole(graph, name, run)
        # Dagster stops what follows a failed check in the same run only.
        if failed := graph.failed_check(root, name):
            raise CheckFailed(f"{name}: {failed}")
        inputs[name] = finished_input(run)
    return inputs


def _require_whole(graph: Graph, name: str, run: RunFolder) -> None:
    damage = damaged_files(run)
    if damage:
        raise InputMissing(
            f"{name}: {'; '.join(damage[:3])}{' …' if len(damage) > 3 else ''}; make it again: "
            f"olmo run {graph.recipe.name} --select {name} --force"
        )


def _launch(work: AssetBuild, inputs: Mapping[str, Input], folder: RunFolder, root: Path) -> Launch:
    node = work.node
    return Launch(
        folder=folder,
        module=node.module,
        stage=node.stage,
        config=node.config_file({name: entry.path for name, entry in inputs.items()}, folder.path),
        distributed=node.distributed,
        shares_tasks=node.shares_tasks,
        environment={environment.ROOT: str(root)},
        identity={
            "recipe": node.recipe,
            "asset": node.name,
            "partition": work.partition,
            **work.fingerprint.record(),
            "inputs": {
                name: {
                    "fingerprint": entry.fingerprint,
                    "digest": entry.digest,
                    "path": str(entry.path.relative_to(root)),
                }
                for name, entry in inputs.items()
            },
        },
    )
