"""A job is followed through its engine's silence, a requeue and a late file; and cheaply."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from assets.execution import follow as follow_module
from assets.execution.follow import Following, JobFailed
from assets.execution.produce import main_line_work
from assets.launcher import EngineUnavailable, JobState, Launch
from olmo_core.files import read_json, write_json
from olmo_core.run.folder import RunFolder
from pipelines.launchers.local import LocalLauncher
from tests.conftest import SilentObserver, make_work, toy_graph


@dataclass(kw_only=True)
class Distant(LocalLauncher):
    """The local engine as a cluster's looks: it may be silent, and lose sight of a job."""

    silent_looks: int = 0
    silent_submissions: int = 0
    gone_looks: int = 0
    states: list[JobState] = field(default_factory=list[JobState])
    started: bool = False

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        if self.silent_submissions:
            self.silent_submissions -= 1
            raise EngineUnavailable("slurmctld does not answer")
        started = super().submit(launches)
        self.started = bool(started)
        for launch in launches:
            record = read_json(launch.folder.launch)
            write_json(launch.folder.launch, {**record, "engine": "distant"})
        return started

    def state(self, folder: RunFolder) -> JobState:
        return self.seen(folder) if self.started else super().state(folder)

    def seen(self, folder: RunFolder) -> JobState:
        """What is said of a job that has been submitted."""
        if self.silent_looks:
            self.silent_looks -= 1
            raise EngineUnavailable("slurmctld does not answer")
        if self.gone_looks:
            self.gone_looks -= 1
            return JobState(alive=False)
        return self.states.pop(0) if self.states else LocalLauncher.state(self, folder)


@dataclass(kw_only=True)
class Watcher(SilentObserver):
    """Remembers what the engine said."""

    gate: Path
    how: dict[str, str] = field(default_factory=dict[str, str])
    said: list[str] = field(default_factory=list[str])

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        super().started(asset, folder, how)
        self.gate.touch()

    def state(self, asset: str, state: JobState) -> None:
        self.said.append(state.description)

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        self.gate.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "GONE_PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(follow_module, "SUBMIT_WAIT_SECONDS", 0.05)


def run(root: Path, launcher: Distant, watcher: Watcher, **config: Any) -> Mapping[str, Any]:
    graph = toy_graph(first={"wait": str(watcher.gate), **config})
    work = main_line_work(graph, "first", root)
    return make_work(work, root=root, launcher=launcher, observer=watcher).result


def test_an_engine_that_does_not_answer_for_a_while_is_asked_again(
    toy_root: Path, gate: Path
) -> None:
    watcher = Watcher(gate=gate)
    result = run(toy_root, Distant(silent_looks=3, silent_submissions=2), watcher)
    assert result["attempt"] == 1
    assert watcher.said[0] == "not submitted yet: slurmctld does not answer"
    assert "not known now: slurmctld does not answer" in watcher.said


def test_an_engine_that_never_answers_is_given_up_before_anything_started(
    toy_root: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "SUBMIT_PATIENCE_SECONDS", 0.2)
    with pytest.raises(EngineUnavailable, match="does not answer"):
        run(toy_root, Distant(silent_submissions=1000), Watcher(gate=gate))
    assert not gate.exists()


def test_a_job_that_seems_gone_for_a_moment_is_not_given_up(toy_root: Path, gate: Path) -> None:
    assert run(toy_root, Distant(gone_looks=5), Watcher(gate=gate))["attempt"] == 1


def test_a_job_that_stays_gone_is_diagnosed_after_the_patience(toy_root: Path, gate: Path) -> None:
    began = time.monotonic()
    with pytest.raises(JobFailed, match="text missing"):
        run(toy_root, Distant(), Watcher(gate=gate), fail=True)
    assert time.monotonic() - began >= 2.0


def test_a_result_that_appears_after_the_job_has_gone_is_found(toy_root: Path, gate: Path) -> None:
    class Late(Distant):
        """A file system on which the result is seen a second after the job's end."""

        def seen(self, folder: RunFolder) -> JobState:
            hidden = folder.path / "result.hidden"
            if folder.result.exists() and not hidden.exists():
                os.rename(folder.result, hidden)
                self.back = time.monotonic() + 1.0
            elif hidden.exists() and time.monotonic() > self.back:
                os.rename(hidden, folder.result)
            return JobState(alive=not hidden.exists() and not folder.result.exists())

    assert run(toy_root, Late(), Watcher(gate=gate))["attempt"] == 1


def test_the_observer_hears_of_each_state_once(toy_root: Path, gate: Path) -> None:
    class Opener(Watcher):
        """Lets the job go on once it is said to run."""

        def started(self, asset: str, folder: RunFolder, how: str) -> None:
            pass

        def state(self, asset: str, state: JobState) -> None:
            super().state(asset, state)
            if not state.queued:
                self.gate.touch()

        def progress(self, asset: str, status: Mapping[str, Any]) -> None:
            pass

    pending = JobState(alive=True, queued=True, description="pending: Resources")
    placed = JobState(alive=True, description="running on n1, n2")
    watcher = Opener(gate=gate)
    run(toy_root, Distant(states=[pending, pending, pending, placed, placed]), watcher)
    assert watcher.said[:2] == ["pending: Resources", "running on n1, n2"]
    assert all(said.startswith("process") for said in watcher.said[2:])


FOLLOW = """
import sys, time
from pathlib import Path
from tests.assets.execution.test_produce import make
from tests.conftest import toy_graph
make(toy_graph(first={"wait": sys.argv[1]}), "first", Path(sys.argv[2]))
"""


@pytest.mark.drill
def test_following_costs_less_than_a_hundredth_of_a_core(toy_root: Path, gate: Path) -> None:
    follower = subprocess.Popen([sys.executable, "-c", FOLLOW, str(gate), str(toy_root)])
    graph = toy_graph(first={"wait": str(gate)})
    try:
        deadline = time.monotonic() + 60
        while not (graph.folder(toy_root, "first") / "starts").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process = psutil.Process(follower.pid)

        def spent() -> float:
            times = process.cpu_times()
            return times.user + times.system

        before, began = spent(), time.monotonic()
        time.sleep(30)  # the first half minute is the dearest: the looks come apart with its age
        share = (spent() - before) / (time.monotonic() - began)
    finally:
        gate.touch()
        assert follower.wait(60) == 0
    print(f"following took {share:.2%} of a core")
    assert share < 0.01


def test_what_an_earlier_job_has_left_is_no_progress_of_this_one(tmp_path: Path) -> None:
    class Counter(SilentObserver):
        seen: int = 0

        def progress(self, asset: str, status: Mapping[str, Any]) -> None:
            self.seen += 1

    folder, observer = RunFolder(tmp_path), Counter()
    write_json(folder.launch, {"schema_version": 1, "submission": 3})
    alive = JobState(alive=True)
    launcher = Distant(states=[alive, alive], started=True)
    job = Following(name="stage1", folder=folder, launcher=launcher, observer=observer)
    for attempt, seen in ((2, 0), (3, 1)):
        write_json(folder.status, {"schema_version": 1, "attempt": attempt})
        assert job.look() is None
        assert observer.seen == seen
