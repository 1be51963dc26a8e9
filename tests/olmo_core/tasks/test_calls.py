"""A job's calls shared with workers: real processes, held at known points and killed there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from olmo_core.run.code import code_hashes
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor.members import state_of
from tests.olmo_core.tasks.sharing import CALLS

MODULE = "tests.olmo_core.tasks.sharing"
SQUARES = [number**2 for number in range(CALLS)]
# A worker that nobody leads waits three minutes; here it must not.
IMPATIENT = """
import sys
from olmo_core.tasks import worker
worker.LEADERLESS_SECONDS = 0.5
worker.main(sys.argv[1:])
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
        return self._start(folder, "-m", MODULE, str(folder.config), OLMO_WORKERS=workers)

    def worker(self, folder: RunFolder, *code: str) -> psutil.Popen:
        program = code or ("-m", "olmo_core.tasks.worker")
        which = {"OLMO_WORKER": 1, "OLMO_WORKERS": 1}
        return self._start(folder, *program, str(folder.path), MODULE, **which)

    def both(self, folder: RunFolder) -> tuple[psutil.Popen, psutil.Popen]:
        """A leader, which is held at its first call, and then a worker."""
        leader = self.leader(folder, workers=1)
        until(lambda: self.begun(folder, "leader"), self)
        return leader, self.worker(folder)

    def hold(self, folder: RunFolder, who: str, number: int) -> Path:
        path = folder.path.parent / f"hold.{who}.{number}"
        path.touch()
        return path

    def spin(self, folder: RunFolder, who: str, number: int) -> Path:
        path = folder.path.parent / f"spin.{who}.{number}"
        path.touch()
        return path

    def begun(self, folder: RunFolder, who: str) -> dict[int, list[int]]:
        """The pids of those who began a call, by its number."""
        found: dict[int, list[int]] = {}
        for path in folder.path.parent.glob(f"began.{who}.*"):
            number, pid = path.name.split(".")[2:]
            found.setdefault(int(number), []).append(int(pid))
        return found

    def said(self, process: psutil.Popen) -> str:
        return (self.root / f"{process.pid}.log").read_text()

    def _start(self, folder: RunFolder, *command: str, **variables: int) -> psutil.Popen:
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


def until(condition: Callable[[], Any], runs: Runs, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail("in vain; " + "\n".join(runs.said(one) for one in runs.started))
        time.sleep(0.01)
    return found


def result(runs: Runs, folder: RunFolder, leader: psutil.Popen) -> Mapping[str, Any]:
    """Of a run that must end well."""
    assert leader.wait(30) == 0, runs.said(leader)
    found = folder.read_result()
    assert found["report"]["data"]["squares"] == SQUARES
    assert not list(folder.path.rglob("*.partial"))
    assert not (folder.path / "work").exists()
    return found


def test_the_result_is_the_same_with_and_without_workers(runs: Runs) -> None:
    alone, shared, nobody = runs.folder("alone"), runs.folder("shared"), runs.folder("nobody")
    digest = result(runs, alone, runs.leader(alone, workers=0))["digest"]
    assert not alone.calls_lock.exists()

    gate = runs.hold(shared, "leader", 0)
    leader, worker = runs.both(shared)
    until(lambda: len(runs.begun(shared, "worker")) == CALLS - 1, runs)
    gate.unlink()
    assert result(runs, shared, leader)["digest"] == digest
    assert worker.wait(10) == 0
    assert "the run is finished" in runs.said(worker)
    assert list(runs.begun(shared, "leader")) == [0]
    assert f"12 calls: 1 by leader, {CALLS - 1} by worker 1" in runs.said(leader)

    assert result(runs, nobody, runs.leader(nobody, workers=3))["digest"] == digest


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_call_of_a_worker_that_was_killed_is_done_again(
    runs: Runs, number: signal.Signals
) -> None:
    folder = runs.folder()
    runs.hold(folder, "worker", CALLS // 2)  # its first: half of the calls are before it
    gate = runs.hold(folder, "leader", 0)
    leader, worker = runs.both(folder)
    (pid,) = until(lambda: runs.begun(folder, "worker").get(CALLS // 2), runs)
    worker.send_signal(number)
    until(lambda: state_of(pid) in ("", "Z"), runs)  # its process ends with it
    assert worker.wait(10) == (-number if number == signal.SIGKILL else 0)
    gate.unlink()
    result(runs, folder, leader)
    assert CALLS // 2 in runs.begun(folder, "leader")


def test_a_worker_ends_a_call_whose_leader_has_ended_and_does_those_of_the_next(
    runs: Runs,
) -> None:
    folder = runs.folder()
    stale_gate, gate = runs.hold(folder, "worker", CALLS // 2), runs.hold(folder, "leader", 0)
    first, worker = runs.both(folder)
    (pid,) = until(lambda: runs.begun(folder, "worker").get(CALLS // 2), runs)
    first.send_signal(signal.SIGKILL)
    first.wait()
    until(lambda: state_of(pid) in ("", "Z"), runs)
    stale_gate.unlink()
    second = runs.leader(folder, workers=1)
    until(lambda: len(runs.begun(folder, "worker")) >= CALLS - 1, runs)
    gate.unlink()
    result(runs, folder, second)
    assert worker.wait(10) == 0


def test_an_error_of_a_workers_call_ends_the_leader_as_its_own_would(runs: Runs) -> None:
    folder = runs.folder(bad=CALLS // 2)
    runs.hold(folder, "leader", 0)
    leader, worker = runs.both(folder)
    assert leader.wait(30) == 3
    assert f"input: share {CALLS // 2}: bad, says the worker" in runs.said(leader)
    assert not (folder.path / "work" / "calls").exists() or not list(
        (folder.path / "work" / "calls").iterdir()
    )
    assert worker.is_running()  # another attempt may follow
    folder.failure.write_text("{}")
    assert worker.wait(10) == 0
    assert "given up" in runs.said(worker)


def test_a_leader_that_waits_for_a_worker_that_computes_does_not_hang(runs: Runs) -> None:
    folder = runs.folder()
    spin = runs.spin(folder, "worker", CALLS // 2)
    gate = runs.hold(folder, "leader", 0)
    leader, worker = runs.both(folder)
    until(lambda: runs.begun(folder, "worker"), runs)
    gate.unlink()
    until(lambda: (folder.read_status() or {}).get("done") == CALLS - 1, runs)
    waits = time.time() + 1.5  # its own calls are done for longer than between two heartbeats
    until(lambda: ((folder.read_status() or {}).get("busy") or 0) > waits, runs)
    spin.unlink()
    result(runs, folder, leader)
    assert worker.wait(10) == 0


def test_a_worker_without_a_number_says_what_it_wants(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "olmo_core.tasks.worker", str(tmp_path), MODULE]
    done = subprocess.run(
        command, env={**os.environ, "OLMO_WORKER": "2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "OLMO_WORKER=2 OLMO_WORKERS=: expected 1 and 1" in done.stderr


def test_a_worker_without_a_leader_ends(runs: Runs) -> None:
    folder = runs.folder()
    worker = runs.worker(folder, "-c", IMPATIENT)
    assert worker.wait(20) == 0
    assert "nobody has led it" in runs.said(worker)
    assert not folder.calls_lock.exists()


def test_a_worker_of_other_code_does_no_call(runs: Runs) -> None:
    folder = runs.folder()
    gate = runs.hold(folder, "leader", 0)
    leader = runs.leader(folder, workers=1)
    until(lambda: runs.begun(folder, "leader"), runs)
    (batch,) = (folder.path / "work" / "calls").iterdir()
    (batch / "code").write_text("of another checkout")
    worker = runs.worker(folder)
    until(lambda: "its code, or what it imports, is not that of the job" in runs.said(worker), runs)
    gate.unlink()
    result(runs, folder, leader)
    assert not runs.begun(folder, "worker")
    assert worker.wait(10) == 0


def test_a_job_whose_code_was_edited_while_it_waited_is_refused(runs: Runs) -> None:
    folder = runs.folder()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    parts = {"module": MODULE, "code": code_hashes(MODULE), "packages": {"python": python}}
    folder.launch.write_text(json.dumps({"schema_version": 1, "parts": parts}))
    result(runs, folder, runs.leader(folder, workers=0))
    folder.result.unlink()
    parts["code"] = {MODULE: "before"}
    folder.launch.write_text(json.dumps({"schema_version": 1, "parts": parts}))
    leader = runs.leader(folder, workers=0)
    assert leader.wait(30) == 2
    assert f"configuration: {MODULE}: edited since this job was submitted" in runs.said(leader)
    parts["packages"] = {"python": "3.0"}  # whose hashes are others
    folder.launch.write_text(json.dumps({"schema_version": 1, "parts": parts}))
    result(runs, folder, runs.leader(folder, workers=0))


def test_a_disk_too_full_for_a_result_ends_the_leader_as_its_own_would(runs: Runs) -> None:
    folder = runs.folder()
    gate = runs.hold(folder, "leader", 0)
    leader = runs.leader(folder, workers=1)
    until(lambda: runs.begun(folder, "leader"), runs)
    (batch,) = (folder.path / "work" / "calls").iterdir()
    (batch / "1").symlink_to("/dev/full")  # the next that it takes
    gate.unlink()
    assert leader.wait(30) == 3, runs.said(leader)
    assert f"input: {batch}: No space left on device" in runs.said(leader)
    assert "Traceback" not in runs.said(leader)
