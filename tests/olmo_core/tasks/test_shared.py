"""A job's tasks shared with workers: real processes and TLS, held at known points, killed there."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from olmo_core.run import code
from olmo_core.run.folder import RunFolder
from olmo_core.run.process import state_of
from tests.olmo_core.tasks.sharing import TASKS

MODULE = "tests.olmo_core.tasks.sharing"
SQUARES = [number**2 for number in range(TASKS)]
# A worker that nobody leads waits three minutes; here it must not.
IMPATIENT = """
import sys
from olmo_core.tasks import worker
worker.LEADERLESS_SECONDS = 0.5
worker.main(sys.argv[1:])
"""
STRANGER = """
import sys
from distributed import Client, Security
security = Security.temporary() if sys.argv[2] == "other" else Security()
address = sys.argv[1] if sys.argv[2] == "other" else sys.argv[1].replace("tls", "tcp")
Client(address, security=security, timeout=3).submit(print, 1).result()
"""


class Runs:
    """Leaders and workers of run folders below one folder; what they leave is ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[psutil.Popen] = []

    def folder(self, name: str = "run", **config: Any) -> RunFolder:
        folder = RunFolder(self.root / name / "0")
        folder.path.mkdir(parents=True)
        folder.config.write_text(yaml.safe_dump({"config": config, "inputs": {}}))
        return folder

    def leader(self, folder: RunFolder, *, workers: int) -> psutil.Popen:
        return self._start("-m", MODULE, str(folder.config), OLMO_WORKERS=workers)

    def worker(self, folder: RunFolder, *code: str) -> psutil.Popen:
        program = code or ("-m", "olmo_core.tasks.worker")
        return self._start(*program, str(folder.path), OLMO_WORKER=1)

    def both(self, folder: RunFolder) -> tuple[psutil.Popen, psutil.Popen]:
        """A leader, which is held at the first task that it takes, and then a worker."""
        leader = self.leader(folder, workers=1)
        until(lambda: self.begun(folder, "leader"), self)
        return leader, self.worker(folder)

    def hold(self, folder: RunFolder, who: str, kind: str = "hold") -> list[Path]:
        paths = [folder.path.parent / f"{kind}.{who}.{number}" for number in range(TASKS)]
        for path in paths:
            path.touch()
        return paths

    def begun(self, folder: RunFolder, who: str) -> dict[int, list[int]]:
        """The pids of those who began a task, by its number."""
        found: dict[int, list[int]] = {}
        for path in folder.path.parent.glob(f"began.{who}.*"):
            number, pid = path.name.split(".")[2:4]
            found.setdefault(int(number), []).append(int(pid))
        return found

    def said(self, process: psutil.Popen) -> str:
        return (self.root / f"{process.pid}.log").read_text()

    def _start(self, *command: str, **variables: int) -> psutil.Popen:
        log = self.root / "log"
        with log.open("w") as out:
            process = psutil.Popen(
                [sys.executable, *command],
                env={
                    **os.environ,
                    "OLMO_PROCESSES": "1",
                    **{key: str(value) for key, value in variables.items()},
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        log.rename(self.root / f"{process.pid}.log")
        self.started.append(process)
        return process


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path)
    yield runs
    for process in runs.started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [*process.children(recursive=True), process]:
                one.kill()
        process.wait()


def until(condition: Callable[[], Any], runs: Runs, seconds: float = 400.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail("in vain; " + "\n".join(runs.said(one) for one in runs.started))
        time.sleep(0.01)
    return found


def release(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def gone(pid: int) -> bool:
    return state_of(pid) in ("", "Z")


def result(runs: Runs, folder: RunFolder, leader: psutil.Popen) -> Mapping[str, Any]:
    """Of a run that must end well."""
    assert leader.wait(400) == 0, runs.said(leader)
    found = folder.read_result()
    assert found["report"]["data"]["squares"] == SQUARES
    assert set(found["files"]) == {f"squares/{number}" for number in range(TASKS)}
    assert not (folder.path / "work").exists()
    return found


def test_the_result_is_the_same_alone_with_a_worker_and_with_one_that_never_comes(
    runs: Runs,
) -> None:
    alone, shared, nobody = runs.folder("alone"), runs.folder("shared"), runs.folder("nobody")
    digest = result(runs, alone, runs.leader(alone, workers=0))["digest"]
    assert "distributed" not in runs.said(runs.started[0])

    gates = runs.hold(shared, "leader")
    leader, worker = runs.both(shared)
    until(lambda: len(runs.begun(shared, "worker")) == TASKS - 1, runs)
    meeting = shared.path / "work" / "dask"
    assert stat.S_IMODE(meeting.stat().st_mode) == 0o700
    assert stat.S_IMODE((meeting / "key.pem").stat().st_mode) == 0o600
    key = (meeting / "key.pem").read_text().splitlines()[1]
    release(gates)
    assert result(runs, shared, leader)["digest"] == digest
    assert worker.wait(60) == 0
    assert "ends: the run is finished" in runs.said(worker)
    assert len(runs.begun(shared, "leader")) == 1
    everything = [path for path in runs.root.rglob("*") if path.is_file()]
    assert not [path for path in everything if key in path.read_text(errors="replace")]

    assert result(runs, nobody, runs.leader(nobody, workers=3))["digest"] == digest


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_task_of_a_worker_that_was_killed_is_done_again(
    runs: Runs, number: signal.Signals
) -> None:
    folder = runs.folder()
    runs.hold(folder, "worker")
    gates = runs.hold(folder, "leader")
    leader, worker = runs.both(folder)
    ((task, (pid,)),) = until(lambda: runs.begun(folder, "worker"), runs).items()
    worker.send_signal(number)
    until(lambda: gone(pid), runs)  # its process ends with it
    assert worker.wait(60) == (-number if number == signal.SIGKILL else 0)
    release(gates)
    result(runs, folder, leader)
    begun = runs.begun(folder, "leader")
    assert task in begun
    assert all(len(pids) == 1 for pids in begun.values())


@pytest.mark.slow
def test_a_worker_follows_a_leader_that_begins_again_and_finished_tasks_are_not_repeated(
    runs: Runs,
) -> None:
    folder = runs.folder()
    gates = runs.hold(folder, "leader")
    first, worker = runs.both(folder)
    until(lambda: len(list(folder.path.glob("work/tasks/*/*.json"))) == TASKS - 1, runs)
    (held,) = runs.begun(folder, "leader")
    children = first.children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait()
    until(lambda: all(gone(child.pid) for child in children), runs)
    worker_gates = runs.hold(folder, "worker")
    second = runs.leader(folder, workers=1)
    until(lambda: len(begun_by_both(runs, folder)[held]) == 2, runs)  # whoever is there first
    assert len(runs.begun(folder, "job")[0]) == 2
    release(gates)
    release(worker_gates)
    result(runs, folder, second)
    assert worker.wait(60) == 0
    begun = begun_by_both(runs, folder)
    assert sorted(begun) == list(range(TASKS))
    assert [number for number, pids in begun.items() if len(pids) > 1] == [held]


def begun_by_both(runs: Runs, folder: RunFolder) -> dict[int, list[int]]:
    leader, worker = runs.begun(folder, "leader"), runs.begun(folder, "worker")
    numbers = {*leader, *worker}
    return {number: leader.get(number, []) + worker.get(number, []) for number in numbers}


@pytest.mark.slow
def test_an_error_of_a_workers_task_ends_the_leader_as_its_own_would(runs: Runs) -> None:
    folder = runs.folder(bad=TASKS // 2)
    gates = runs.hold(folder, "leader")
    (folder.path.parent / f"hold.leader.{TASKS // 2}").rename(folder.path.parent / "bad")
    leader, worker = runs.both(folder)
    assert leader.wait(400) == 3
    assert f"input: share {TASKS // 2}: bad, says the worker" in runs.said(leader)
    assert not (folder.path / "work" / "dask").exists()
    assert worker.is_running()  # another attempt may follow
    folder.failure.write_text("{}")
    assert worker.wait(60) == 0
    assert "given up" in runs.said(worker)
    assert gates


@pytest.mark.slow
def test_a_leader_that_waits_for_a_worker_that_computes_does_not_hang(runs: Runs) -> None:
    folder = runs.folder()
    spins = runs.hold(folder, "worker", "spin")
    gates = runs.hold(folder, "leader")
    leader, worker = runs.both(folder)
    until(lambda: runs.begun(folder, "worker"), runs)
    release(gates)
    until(lambda: (folder.read_status() or {}).get("done") == TASKS - 1, runs)
    waits = time.time() + 1.5  # its own tasks are done for longer than between two heartbeats
    until(lambda: ((folder.read_status() or {}).get("busy") or 0) > waits, runs)
    release(spins)
    result(runs, folder, leader)
    assert worker.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["other", "none"])
def test_a_client_without_the_runs_certificate_is_refused(runs: Runs, whose: str) -> None:
    folder = runs.folder()
    gates = runs.hold(folder, "leader")
    leader = runs.leader(folder, workers=1)
    until(lambda: runs.begun(folder, "leader"), runs)
    address = json.loads((folder.path / "work" / "dask" / "scheduler.json").read_text())["address"]
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, address, whose],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "OSError: Timed out trying to connect" in done.stderr or "CommClosedError" in done.stderr
    release(gates)
    result(runs, folder, leader)


@pytest.mark.slow
def test_a_worker_without_a_leader_ends(runs: Runs) -> None:
    folder = runs.folder()
    worker = runs.worker(folder, "-c", IMPATIENT)
    assert worker.wait(60) == 0
    assert "nobody has led it" in runs.said(worker)


def test_a_worker_of_other_code_does_no_task(runs: Runs) -> None:
    folder = runs.folder()
    gates = runs.hold(folder, "leader")
    leader = runs.leader(folder, workers=1)
    until(lambda: runs.begun(folder, "leader"), runs)
    said = folder.path / "work" / "dask" / "scheduler.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"code": "of another checkout"}))
    worker = runs.worker(folder)
    until(lambda: "its code, or what it imports, is not that of the job" in runs.said(worker), runs)
    release(gates)
    result(runs, folder, leader)
    assert not runs.begun(folder, "worker")
    assert worker.wait(60) == 0


def test_a_job_whose_code_was_edited_while_it_waited_is_refused(runs: Runs) -> None:
    folder = runs.folder()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    parts = {"module": MODULE, "code": code.code_hashes(MODULE), "packages": {"python": python}}
    folder.launch.write_text(json.dumps({"schema_version": 1, "parts": parts}))
    result(runs, folder, runs.leader(folder, workers=0))
    folder.result.unlink()
    parts["code"] = {MODULE: "before"}
    folder.launch.write_text(json.dumps({"schema_version": 1, "parts": parts}))
    leader = runs.leader(folder, workers=0)
    assert leader.wait(60) == 2
    assert f"configuration: {MODULE}: edited since this job was submitted" in runs.said(leader)
    parts["packages"] = {"python": "3.0"}  # whose hashes are others
    folder.launch.write_text(json.dumps({"schema_version": 1, "parts": parts}))
    result(runs, folder, runs.leader(folder, workers=0))
