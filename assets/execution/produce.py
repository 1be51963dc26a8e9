"""Make assets: find finished runs, submit what is missing, follow what is at work."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.execution.follow import JobFailed, Meanwhile, follow, nothing, submit_patiently
from assets.execution.hold import results_held
from assets.execution.reused import record_reuse
from assets.execution.whole import Progress, require_whole, shown_by
from assets.fingerprint import Fingerprint, sha256_json
from assets.graph import Graph
from assets.launcher import Launch, Launcher, Observer, Refused
from assets.node import Node
from assets.paths import open_version
from assets.reuse import location, reused_from, root_of
from olmo_core import environment
from olmo_core.files import read_json, write_json
from olmo_core.run.code import code_hashes
from olmo_core.run.folder import RunFolder, locked

ASSIGNED = ".assigned"  # a folder below the root; no recipe's name begins with a dot


@dataclass(frozen=True, kw_only=True)
class Produced:
    """A finished run folder and how this call came by it."""

    folder: RunFolder
    result: Mapping[str, Any]
    how: str  # launched, following, finished before
    reused_from: str | None  # another recipe or a shared root, whose work it is


# Each piece of work as it ends, by name; an error says why there is no result.
Made = Iterator[tuple[str, Produced | Refused | JobFailed]]


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
    """Return what making an asset of the main line means now."""
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


@dataclass(kw_only=True)
class Maker:
    """Makes assets below a root with a launcher; the observer is told how it goes.

    `submitted` holds the folders whose jobs this run has submitted before, of any step: they are
    followed, and not submitted again if they have failed. What is submitted here is added.
    """

    root: Path
    launcher: Launcher
    observer: Observer
    force: bool = False  # make new versions although there are finished ones
    submitted: dict[str, RunFolder] = field(default_factory=dict[str, RunFolder])
    meanwhile: Meanwhile = nothing  # called while waiting; what it raises ends the wait, not jobs

    def make(
        self, works: Mapping[str, AssetBuild], further: Mapping[str, AssetBuild] | None = None
    ) -> Made:
        """Make work, by name; yield each as it ends, with what was made or why there is nothing.

        What its engine has a queue for is submitted together, and `further` with it, which is not
        followed here; the rest is made one after another. Of two calls at once, by whomever, one
        starts a job and the other follows it.

        Raises:
            EngineError: the engine refuses the jobs, or has not answered for ten minutes.
        """
        everything = {**works, **(further or {})}
        queued = [name for name, work in everything.items() if queues(work.node, self.launcher)]
        alone = [[name] for name in works if name not in queued]
        for names in (queued, *alone):
            yield from self._together({name: everything[name] for name in names}, wanted=works)

    def _together(self, works: Mapping[str, AssetBuild], wanted: Collection[str]) -> Made:
        """Submit work at once; yield each of the wanted names as it ends."""
        ended: dict[str, Produced | Refused] = {}
        launches: dict[str, Launch] = {}
        progress = shown_by(self.observer, self.meanwhile)
        with results_held(self.root):  # from the choice of inputs until launch.json names them
            for name, work in works.items():
                if name in self.submitted:
                    continue
                try:
                    if not self.force and (finished := work.finished()) is not None:
                        ended[name] = self._again(name, work, finished, progress)
                    else:
                        launches[name] = launch_of(
                            work, self.root, own_folder=self.force, progress=progress
                        )
                except Refused as error:
                    ended[name] = error
            launched = submit_patiently(self.launcher, launches, self.observer, self.meanwhile)
        folders = {**self.submitted, **{name: launches[name].folder for name in launches}}
        self.submitted.update({name: folders[name] for name in launched})
        yield from ((name, end) for name, end in ended.items() if name in wanted)
        folders = {name: folders[name] for name in works if name in wanted and name not in ended}
        hows = {name: "launched" if name in launched else "following" for name in folders}
        for name, folder in folders.items():
            self.observer.started(name, folder, hows[name])
        for name, end in follow(folders, self.launcher, self.observer, self.meanwhile):
            if isinstance(end, JobFailed):
                yield name, end
            else:
                yield name, self._produced(works[name], folders[name], end, hows[name])

    def _again(
        self, name: str, work: AssetBuild, finished: RunFolder, progress: Progress
    ) -> Produced:
        """Report a finished run once more; one of a shared root only if it is whole."""
        if root_of(finished.path, self.root) != self.root:
            require_whole(work.node.recipe, work.node.name, finished, self.root, progress)
        elif finished.path.parent != work.parent:
            record_reuse(work.parent, finished, self.root)
        self.observer.started(name, finished, "finished before")
        return self._produced(work, finished, finished.read_result(), "finished before")

    def _produced(
        self, work: AssetBuild, folder: RunFolder, result: Mapping[str, Any], how: str
    ) -> Produced:
        origin = reused_from(folder, self.root, work.node.recipe)
        return Produced(folder=folder, result=result, how=how, reused_from=origin)


def only(made: Made) -> Produced:
    """Return the one thing made.

    Raises:
        Refused: nothing was started, as `launch_of` says.
        JobFailed: the job ended without a result.
    """
    [(_, ended)] = made
    if isinstance(ended, RuntimeError):
        raise ended
    return ended


def queues(node: Node, launcher: Launcher) -> bool:
    """Return whether the site sends a node's job to an engine with a queue; reads no input."""
    identity = {"recipe": node.recipe, "asset": node.name}
    folder = RunFolder(Path())
    return launcher.queues(
        Launch(folder=folder, module=node.module, stage=node.stage, config={}, identity=identity)
    )


def launch_of(
    work: AssetBuild, root: Path, *, own_folder: bool = False, progress: Progress = nothing
) -> Launch:
    """Return the job that makes a piece of work, in the folder that it would work in.

    That is the folder assigned to all who want it; with `own_folder` a version of the recipe's own,
    and nothing is written.

    Raises:
        Refused: as `ready_inputs`.
    """
    node, inputs = work.node, ready_inputs(work, progress)
    if own_folder:
        folder = open_version(work.parent, work.fingerprint.version)
    else:
        folder = _assigned_folder(work, inputs, root)
    return Launch(
        folder=folder,
        module=node.module,
        stage=node.stage,
        config=node.config_file({name: entry.path for name, entry in inputs.items()}, folder.path),
        distributed=node.distributed,
        shares_tasks=node.shares_tasks,
        in_turn=node.in_turn,
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


def ready_inputs(work: AssetBuild, progress: Progress = nothing) -> Mapping[str, Input]:
    """Return what a piece of work reads, if its job can be started now; starts and writes nothing.

    Raises:
        Refused: an input is missing, damaged or fails a check, this machine lacks what the job
            reads, or the code has been edited since the fingerprint was taken.
    """
    node, inputs = work.node, work.inputs(progress)
    if lacking := node.lacks():
        raise Refused("; ".join(f"{node.name}: {line}" for line in lacking))
    for name, entry in inputs.items():  # a checkpoint, chosen a while ago
        if not entry.path.exists():
            raise Refused(f"{node.name}: its input {name} is gone: {entry.path}; run again")
    if code_hashes(node.module, now=True) != work.fingerprint.code:
        raise Refused(
            f"{node.name}: the code that makes it has changed since this run began; run again"
        )
    return inputs


def _assigned_folder(work: AssetBuild, inputs: Mapping[str, Input], root: Path) -> RunFolder:
    """Return the one run folder of all that ask for the same job, so that it is started once.

    The first to ask gets a folder of its own recipe; other recipes submit to the same folder, where
    the engine finds the job at work. If that job has failed, the next to ask resumes it.
    """
    wanted = {
        "asset": work.node.name,
        "partition": work.partition,
        "fingerprint": work.fingerprint.value,
        "inputs": {name: entry.digest for name, entry in inputs.items()},
    }
    record = root / ASSIGNED / f"{sha256_json(wanted)}.json"
    with locked(root / ASSIGNED / "lock"):
        if record.exists():
            folder = RunFolder(root / read_json(record)["path"])
            if folder.path.is_dir() and not folder.finished:
                return folder
            # Finished by another process between the caller's look and this one.
            if (found := work.finished()) is not None and found.path == folder.path:
                return found
        folder = open_version(work.parent, work.fingerprint.version)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(record, {**wanted, "path": str(folder.path.relative_to(root))})
        return folder


def input_of(graph: Graph, name: str, root: Path, reader: str, progress: Progress) -> Input:
    """Return the finished run of the asset `name` as an input of `reader`.

    Raises:
        Refused: it is missing or damaged, or a blocking check of it fails.
    """
    recipe = graph.recipe.name
    run = graph.finished(root, name)
    if run is None:
        raise Refused(
            f"{reader}: its input {name} has not been made as recipe {recipe} stands now "
            f"(version {graph.fingerprints[name].version}); materialise {name} first "
            f"(olmo run {recipe} --select {name})"
        )
    require_whole(recipe, name, run, root, progress)
    # Dagster stops what follows a failed check in the same run only.
    if failed := graph.failed_check(root, name):
        raise Refused(f"{name}: {failed}")
    result = run.read_result()
    return Input(path=run.path, fingerprint=result["fingerprint"], digest=result["digest"])
