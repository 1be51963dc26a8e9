"""The local engine's distributed jobs: under a supervisor that outlives whoever submitted."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from assets.execution.follow import JobFailed, follow
from assets.graph import Graph
from assets.launcher import Launch
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder, locked
from olmo_core.run.process import members
from pipelines.launchers.local import LocalLauncher
from tests.conftest import SilentObserver, toy_graph


def launch_of(root: Path, **config: object) -> Launch:
    graph: Graph = toy_graph(first=config)
    node = replace(graph.nodes["first"], distributed=True)
    folder = RunFolder(root / "toy" / "first" / "0123456789ab")
    return Launch(
        folder=folder,
        module=node.module,
        stage="train",
        config=node.config_file({}, folder.path),
        identity={"recipe": "toy", "asset": "first", "fingerprint": "0123456789ab"},
        distributed=True,
        environment={"OLMO_ROOT": str(root)},
    )


@pytest.fixture
def launcher() -> LocalLauncher:
    return LocalLauncher()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The job goes on when it exists."""
    return tmp_path / "gate"


@pytest.fixture
def launch(toy_root: Path, launcher: LocalLauncher, gate: Path) -> Iterator[Launch]:
    launch = launch_of(toy_root, wait=str(gate), child=True)
    assert launcher.submit([launch])
    wait_until(lambda: (launch.folder.read_status() or {}).get("progressed") is not None)
    yield launch
    launcher.cancel([launch.folder])
    assert not members(launch.folder.path)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def followed(launch: Launch, launcher: LocalLauncher) -> Mapping[str, Any]:
    """The job's result, once it is there."""
    [(_, ended)] = follow({"first": launch.folder}, launcher, SilentObserver())
    if isinstance(ended, JobFailed):
        raise ended
    return ended


def causes(folder: RunFolder) -> list[str]:
    return [row["cause"] for row in attempts.read(folder) if row["event"] == "ended"]


def test_a_job_that_was_killed_is_resumed_without_whoever_submitted_it(
    launch: Launch, gate: Path
) -> None:
    status = launch.folder.read_status()
    assert status is not None
    os.kill(status["pid"], signal.SIGKILL)
    gate.touch()
    result = followed(launch, LocalLauncher())  # another one
    assert result["attempt"] == 2
    assert causes(launch.folder)[0] == "killed"


def test_cancel_ends_every_process_and_the_supervisor_begins_no_other(
    launch: Launch, launcher: LocalLauncher
) -> None:
    child = int((launch.folder.path / "child").read_text())
    before = time.monotonic()
    launcher.cancel([launch.folder])
    assert time.monotonic() - before < 10
    assert not launcher.state(launch.folder).alive
    assert not psutil.pid_exists(child)
    assert attempts.latest(launch.folder) == 1
    assert causes(launch.folder) in ([], ["stopped"])  # the supervisor is ended too
    with pytest.raises(JobFailed, match="first: "):
        followed(launch, launcher)


def test_a_job_outlives_its_supervisor_and_is_ended_by_a_cancel(
    launch: Launch, launcher: LocalLauncher
) -> None:
    record = launch.folder.read(launch.folder.launch)
    assert record is not None
    os.kill(record["pid"], signal.SIGKILL)
    os.waitpid(record["pid"], 0)
    state = LocalLauncher().state(launch.folder)
    assert state.alive
    assert state.description == "without its supervisor"
    assert not LocalLauncher().submit([launch])
    LocalLauncher().cancel([launch.folder])
    assert not members(launch.folder.path)


def test_a_job_of_which_no_process_is_seen_is_asked_by_the_cancel_file(tmp_path: Path) -> None:
    folder, over = RunFolder(tmp_path / "at_work"), RunFolder(tmp_path / "over")
    for each in (folder, over):
        each.path.mkdir()
    with locked(folder.path / "job.lock"):  # as a job on another node holds it
        LocalLauncher().cancel([folder, over])
    assert folder.cancel.exists()
    assert not over.cancel.exists()


def test_a_second_submission_counts_on_from_the_attempts_that_were(
    launch: Launch, launcher: LocalLauncher, gate: Path
) -> None:
    launcher.cancel([launch.folder])
    gate.touch()
    assert launcher.submit([launch])
    assert not launch.folder.cancel.exists()
    followed(launch, launcher)
    began = [row for row in attempts.read(launch.folder) if row["event"] == "began"]
    assert [row["attempt"] for row in began] == [1, 2]
    assert [row["submission"] for row in began] == [1, 2]
