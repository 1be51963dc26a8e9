"""The processes of a job: started once for all its tasks, and ended with it, whatever ends it."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from assets.paths import CHECKOUT
from olmo_core.errors import ExitCode, InputError
from olmo_core.files import read_json
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, forked_processes, map_tasks
from tests.olmo_core.tasks.sharing import TASKS
from tests.olmo_core.tasks.test_process_pool import lives

SCRIPT = "from tests.olmo_core.tasks.test_processes import main; main()"


def pid(out: Path) -> int:
    """Write a file; return who did it."""
    out.touch()
    return os.getpid()


def spin(folder: Path, out: Path) -> None:
    """Work without end; a file in the folder says who does."""
    (folder / str(os.getpid())).touch()
    while True:
        time.sleep(0.001)


def fail_beside(folder: Path, out: Path) -> None:
    """Raise once the other process is at work."""
    while not any(folder.iterdir()):
        time.sleep(0.001)
    raise InputError("bad")


def step(job: Job, name: str, *calls: Callable[[Path], Any]) -> list[Any]:
    tasks = [
        Task(name=f"{name} {number}", reads="", output=job.scratch / f"{name}{number}", call=call)
        for number, call in enumerate(calls)
    ]
    return map_tasks(tasks, job, unit="tasks")


def three_steps(folder: Path) -> set[int]:
    """A job of three steps in two processes; their ids."""
    with Job.open(folder) as job:
        job.processes = 2
        pids = {each for name in "abc" for each in step(job, name, *[pid] * 4)}
        job.finish(Report())
    return pids


def test_all_steps_of_a_job_are_done_by_the_same_processes(tmp_path: Path) -> None:
    first = three_steps(tmp_path / "first")
    assert 1 <= len(first) <= 2
    assert os.getpid() not in first
    assert not multiprocessing.active_children()
    second = three_steps(tmp_path / "second")
    assert 1 <= len(second) <= 2
    assert not second & first


def two_steps(folder: Path, *second: Callable[[Path], Any]) -> None:
    """A job whose second step, or what comes in its place, fails while its processes are there."""
    with contextlib.suppress(InputError), Job.open(folder) as job:
        job.processes = 2
        step(job, "quick", pid, pid)
        assert multiprocessing.active_children()
        step(job, "second", *second)
        raise InputError("between two steps")
    error = "bad" if second else "between two steps"
    assert read_json(folder / "status.json")["error"] == f"InputError: {error}"


def test_an_error_of_a_task_ends_the_other_at_its_work(tmp_path: Path) -> None:
    at_work = tmp_path / "at work"
    at_work.mkdir()
    two_steps(tmp_path / "run", partial(spin, at_work), partial(fail_beside, at_work))
    assert not multiprocessing.active_children()
    assert len(list(at_work.iterdir())) == 1


def test_an_error_between_two_steps_ends_processes_that_wait(tmp_path: Path) -> None:
    two_steps(tmp_path / "run")
    assert not multiprocessing.active_children()


def main() -> None:
    """Do a step, and then another, or nothing, without end."""
    folder, busy = Path(sys.argv[1]), sys.argv[2] == "at work"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Job.open(folder / "run") as job:
        job.processes = 2
        step(job, "quick", pid, pid)
        if busy:
            step(job, "spin", *[partial(spin, folder / "out")] * 2)
        spin(folder / "out", folder)


@pytest.mark.parametrize("when", ["at work", "waiting"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_ends_a_job_ends_its_processes(
    tmp_path: Path, number: signal.Signals, when: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    job = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), when],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(list(out.iterdir())) < (2 if when == "at work" else 1):
        assert time.monotonic() < deadline
        assert job.poll() is None
        time.sleep(0.01)
    processes = [each for each in psutil.Process(job.pid).children() if _works(each)]
    assert processes
    if number == signal.SIGINT:  # as Ctrl-C, to all of them
        os.killpg(job.pid, number)
    else:
        job.send_signal(number)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == (1 if number == signal.SIGTERM else -number)
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not [process for process in alive if lives(process)]
    assert "SpawnProcess" not in errors  # one that only hears that others end says nothing


def _works(process: psutil.Process) -> bool:
    """Not multiprocessing's own tracker of resources."""
    return "spawn_main" in " ".join(process.cmdline())


@contextlib.contextmanager
def begun(folder: Path) -> Generator[tuple[psutil.Process, set[int]]]:
    """A job from the command line whose first tasks compute without end; who does them."""
    config = folder / "run" / "config.yaml"
    config.parent.mkdir()
    config.write_text("config: {}\ninputs: {}\n")
    for number in range(TASKS):
        (folder / f"spin.leader.{number}").touch()
    process = psutil.Popen(
        [sys.executable, "-m", "tests.olmo_core.tasks.sharing", str(config)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OLMO_PROCESSES": "2"},
        stderr=(folder / "errors").open("w"),
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    try:
        while len(seen := {int(path.name.split(".")[3]) for path in began(folder)}) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None, (folder / "errors").read_text()
            time.sleep(0.01)
        yield process, seen
    finally:
        if process.is_running():
            process.kill()
        process.wait()


def began(folder: Path) -> list[Path]:
    return [*folder.glob("began.leader.*")]


def test_a_job_of_the_command_line_has_forked_its_processes(tmp_path: Path) -> None:
    """Before it takes the folder's lock: one that is left for a moment holds no next job up."""
    with begun(tmp_path) as (job, pids):
        assert {each.pid for each in job.children()} == pids
        assert all(each.cmdline() == job.cmdline() for each in job.children())
        lock = str(tmp_path / "run" / "job.lock")
        held = {each.pid: [file.path for file in each.open_files()] for each in job.children()}
        assert lock in {os.readlink(each) for each in Path(f"/proc/{job.pid}/fd").iterdir()}
        assert not [pid for pid, paths in held.items() if lock in paths]
        for path in tmp_path.glob("spin.*"):
            path.unlink()
        assert job.wait(60) == 0
    assert {int(path.name.split(".")[3]) for path in began(tmp_path)} == pids
    assert read_json(tmp_path / "run" / "result.json")["report"]["numbers"] == {"sum": 506}


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGTERM, ExitCode.STOPPED),
        (signal.SIGINT, ExitCode.STOPPED),
    ],
)
def test_what_ends_a_job_ends_the_processes_that_it_forked(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with begun(tmp_path) as (job, pids):
        processes = [psutil.Process(pid) for pid in pids]
        if number == signal.SIGINT:  # as Ctrl-C, to all of them
            os.killpg(job.pid, number)
        else:
            job.send_signal(number)
        assert job.wait(60) == code
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert not [process for process in alive if lives(process)]
    assert "ForkProcess" not in (tmp_path / "errors").read_text()


def test_processes_are_not_forked_beside_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMO_PROCESSES", "2")
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="threads before the fork"):
            forked_processes()
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize(
    "alone", [{"OLMO_PROCESSES": "1"}, {"OLMO_WORKERS": "3"}, {"OLMO_DASK_ADDRESS": "tls://h:1"}]
)
def test_no_process_is_forked_for_one_or_for_many_nodes(
    alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OLMO_PROCESSES": "2", **alone}.items():
        monkeypatch.setenv(name, value)
    with forked_processes() as pool:
        assert pool is None
