"""Make one asset: find its finished run, or submit its job, or follow the one that is at work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.execution.assign import assigned_folder
from assets.execution.follow import Meanwhile, follow, nothing, submit_patiently
from assets.execution.whole import Progress, ResultDamaged, require_whole, shown_by, unseen
from assets.fingerprint import Fingerprint
from assets.graph import Graph
from assets.launcher import Launch, Launcher, Observer
from assets.node import Node
from assets.paths import open_version
from assets.reuse import location, reused_from, root_of
from olmo_core import environment
from olmo_core.run.code import code_hashes_now
from olmo_core.run.folder import RunFolder


class CodeChanged(RuntimeError):
    """The code on the disk is no longer that of the fingerprint."""


class CheckFailed(RuntimeError):
    """A blocking check of an input fails."""


class InputMissing(RuntimeError):
    """An input of the asset has not been made as the recipe stands now."""


REFUSED = (CheckFailed, CodeChanged, InputMissing, ResultDamaged)  # nothing was started


@dataclass(frozen=True, kw_only=True)
class Produced:
    """A finished run folder and how this call came by it."""

    folder: RunFolder
    result: Mapping[str, Any]
    how: str  # launched, following, finished before
    reused_from: str | None  # another recipe or a shared root, whose work it is


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
    inputs: Callable[[Progress], Mapping[str, Input]]
    finished: Callable[[], RunFolder | None]
    partition: str | None = None


def main_line_work(graph: Graph, name: str, root: Path) -> AssetBuild:
    """What making an asset of the main line means now."""
    node = graph.nodes[name]
    return AssetBuild(
        node=node,
        fingerprint=graph.fingerprints[name],
        parent=graph.folder(root, name),
        inputs=lambda progress: {
            entry: input_of(graph, entry, root, node.name, progress) for entry in node.inputs
        },
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
        InputMissing: an input has no finished run; nothing was started.
        ResultDamaged: an input, or the finished run that would be reused, is damaged.
        CodeChanged: the code has been edited since the fingerprint was taken.
        JobFailed: the job ended without a result.
    """
    name, progress = work.node.name, shown_by(observer, meanwhile)
    if not force and (finished := work.finished()) is not None:
        return again(work, finished, root, observer, progress)
    folder, how = submitted, "following"
    if folder is None:
        launch = launch_of(work, root, own_folder=force, progress=progress)
        folder = launch.folder
        if submit_patiently(launcher, {name: launch}, observer, meanwhile):
            how = "launched"
    observer.started(name, folder, how)
    result = follow(name, folder, launcher, observer, meanwhile)
    return produced(work, folder, root, result, how)


def launch_of(
    work: AssetBuild, root: Path, *, own_folder: bool = False, progress: Progress = unseen
) -> Launch:
    """The job that makes a piece of work, in the folder that it would work in.

    That is the folder assigned to all who want it; with `own_folder` a version of the recipe's own,
    and nothing is written.

    Raises:
        CheckFailed, InputMissing, CodeChanged, ResultDamaged: as `make`.
    """
    inputs = work.inputs(progress)
    if code_hashes_now(work.node.module) != work.fingerprint.code:
        raise CodeChanged(
            f"{work.node.name}: the code that makes it has changed since this run began; run again"
        )
    if own_folder:
        folder = open_version(work.parent, work.fingerprint.version)
    else:
        folder = assigned_folder(
            {
                "asset": work.node.name,
                "partition": work.partition,
                "fingerprint": work.fingerprint.value,
                "inputs": {name: entry.digest for name, entry in inputs.items()},
            },
            work.parent,
            work.fingerprint.version,
            root=root,
            finished=work.finished,
        )
    return _launch(work, inputs, folder, root)


def again(
    work: AssetBuild,
    finished: RunFolder,
    root: Path,
    observer: Observer,
    progress: Progress = unseen,
) -> Produced:
    """A finished run, reported once more.

    Raises:
        ResultDamaged: it lies in a shared root, and is damaged.
    """
    if root_of(finished.path, root) != root:
        require_whole(work.node.recipe, work.node.name, finished, root, progress)
    observer.started(work.node.name, finished, "finished before")
    return produced(work, finished, root, finished.read_result(), "finished before")


def produced(
    work: AssetBuild, folder: RunFolder, root: Path, result: Mapping[str, Any], how: str
) -> Produced:
    """A finished run, and whose work it is."""
    origin = reused_from(folder, root, work.node.recipe)
    return Produced(folder=folder, result=result, how=how, reused_from=origin)


def input_of(graph: Graph, name: str, root: Path, reader: str, progress: Progress) -> Input:
    """The finished run of the asset `name` as an input of `reader`, whole and past its checks.

    Raises:
        CheckFailed, InputMissing, ResultDamaged: as `make`.
    """
    recipe = graph.recipe.name
    run = graph.finished(root, name)
    if run is None:
        raise InputMissing(
            f"{reader}: its input {name} has not been made as recipe {recipe} stands now "
            f"(version {graph.fingerprints[name].version}); materialise {name} first "
            f"(olmo run {recipe} --select {name})"
        )
    require_whole(recipe, name, run, root, progress)
    # Dagster stops what follows a failed check in the same run only.
    if failed := graph.failed_check(root, name):
        raise CheckFailed(f"{name}: {failed}")
    result = run.read_result()
    return Input(path=run.path, fingerprint=result["fingerprint"], digest=result["digest"])


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
                    **location(entry.path, root),
                }
                for name, entry in inputs.items()
            },
        },
    )
