"""Make one asset: find its finished run, or submit its job, or follow the one that is at work."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.fingerprint import Fingerprint
from assets.graph import Graph
from assets.launcher import JobState, Launch, Launcher, Observer
from assets.node import Node
from assets.paths import finished_version, open_version
from olmo_core.run.folder import RunFolder

FIRST_POLL_SECONDS = 0.05
POLL_SECONDS = 0.5
LOG_LINES = 15


class JobFailed(RuntimeError):
    """A job ended without a result; the message says what, where and how to go on."""


class InputMissing(RuntimeError):
    """An input of the asset has not been made as the recipe stands now."""


@dataclass(frozen=True, kw_only=True)
class Produced:
    """A finished run folder and how this call came by it."""

    folder: RunFolder
    result: Mapping[str, Any]
    how: str  # launched, following, finished before


def produce(
    graph: Graph,
    name: str,
    *,
    root: Path,
    launcher: Launcher,
    observer: Observer,
    force: bool = False,
) -> Produced:
    """Return the finished run of an asset, making it if need be; safe to call twice at once.

    Args:
        graph: The recipe's graph.
        name: The asset.
        root: Where the run folders lie.
        launcher: The engine that runs the job.
        observer: Is told how it goes.
        force: Make a new version although there is a finished one.

    Raises:
        InputMissing: an input has no finished run; nothing was started.
        JobFailed: the job ended without a result.
    """
    node, fingerprint = graph.nodes[name], graph.fingerprints[name]
    parent = graph.folder(root, name)
    finished = finished_version(parent, fingerprint.version)
    if finished is not None and not force:
        observer.started(name, finished, "finished before")
        return Produced(folder=finished, result=finished.read_result(), how="finished before")
    inputs = _inputs(graph, node, root)
    folder = open_version(parent, fingerprint.version, force=force)
    launched = launcher.submit(_launch(node, fingerprint, inputs, folder, root))
    how = "launched" if launched else "following"
    observer.started(name, folder, how)
    result = follow(name, folder, launcher, observer)
    return Produced(folder=folder, result=result, how=how)


def follow(
    name: str, folder: RunFolder, launcher: Launcher, observer: Observer
) -> Mapping[str, Any]:
    """Watch a run folder until its result is there; return the result.

    Raises:
        JobFailed: the job is gone and has left no result.
    """
    wait = FIRST_POLL_SECONDS
    while True:
        state = launcher.state(folder)  # before the look at the result: a job may end in between
        if folder.finished:
            result = folder.read_result()
            observer.finished(name, result)
            return result
        if not state.alive:
            raise JobFailed(diagnosis(name, folder, state))
        status = folder.read(folder.status)
        if status is not None:
            observer.progress(name, status)
        time.sleep(wait)
        wait = min(POLL_SECONDS, wait * 1.5)


def diagnosis(name: str, folder: RunFolder, state: JobState) -> str:
    """What a failed job leaves to read: cause, exit code, the end of its log, what to do."""
    status = folder.read(folder.status) or {}
    launch = folder.read(folder.launch) or {}
    lines = [f"{name}: the job ended without a result"]
    if status.get("error"):
        lines = [f"{name}: {status['error']}"]
    if state.exit_code is not None and state.exit_code < 0:
        hint = "; the kernel may have run out of memory" if state.exit_code == -9 else ""
        lines.append(f"ended by signal {-state.exit_code}{hint}")
    elif state.exit_code is not None:
        lines.append(f"exit code {state.exit_code}")
    checkpoints = sorted(
        (path.parent for path in folder.path.glob("checkpoints/step*/manifest.json")),
        key=lambda path: int(path.name.removeprefix("step")),
    )
    if checkpoints:
        lines.append(f"last whole checkpoint: {checkpoints[-1]}")
    log = folder.path / str(launch.get("log", "log/job.log"))
    if log.is_file():
        end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        lines += [f"last lines of {log}:", *(f"  {line}" for line in end)]
    if launch.get("command_line"):
        lines.append(f"by hand: {launch['command_line']}")
    return "\n".join(lines)


def _inputs(graph: Graph, node: Node, root: Path) -> dict[str, RunFolder]:
    inputs: dict[str, RunFolder] = {}
    for name in node.inputs:
        run = graph.finished(root, name)
        if run is None:
            raise InputMissing(
                f"{node.name}: its input {name} has not been made as recipe {node.recipe} stands "
                f"now (version {graph.fingerprints[name].version}); materialise {name} first"
            )
        inputs[name] = run
    return inputs


def _launch(
    node: Node,
    fingerprint: Fingerprint,
    inputs: Mapping[str, RunFolder],
    folder: RunFolder,
    root: Path,
) -> Launch:
    results = {name: run.read_result() for name, run in inputs.items()}
    return Launch(
        folder=folder,
        module=node.module,
        config=node.config_file({name: run.path for name, run in inputs.items()}, folder.path),
        distributed=node.distributed,
        environment={"OLMO_ROOT": str(root), **node.environment},
        identity={
            "recipe": node.recipe,
            "asset": node.name,
            "fingerprint": fingerprint.value,
            "parts": fingerprint.parts,
            "inputs": {
                name: {
                    "fingerprint": results[name]["fingerprint"],
                    "digest": results[name]["digest"],
                    "path": str(run.path.relative_to(root)),
                }
                for name, run in inputs.items()
            },
        },
    )
