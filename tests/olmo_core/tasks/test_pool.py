"""Calls in processes of their own: in order, an error is the caller's, none outlives the caller."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from olmo_core.tasks.pool import run_calls

BUSY = """
import os, sys, time
from functools import partial
from pathlib import Path
from olmo_core.tasks.pool import run_calls

def work(folder):
    while True:
        (folder / str(os.getpid())).touch()
        time.sleep(0.001)

if __name__ == "__main__":
    calls = [partial(work, Path(sys.argv[1]))] * 3
    run_calls(calls, processes=2, on_done=lambda count, latest: None)
"""


def slow_square(number: int) -> tuple[int, int]:
    time.sleep(0.2 / (1 + number))  # the last ends first
    return number**2, os.getpid()


def lives(process: psutil.Process) -> bool:
    """Not ended; one that has ended stays a zombie where no init takes its exit code."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def divide(number: int) -> float:
    return 1 / number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_calls(processes: int) -> None:
    seen: list[int] = []
    latest_of: list[int] = []

    def on_done(count: int, latest: tuple[int, int]) -> None:
        seen.append(count)
        latest_of.append(latest[0])

    calls = [partial(slow_square, number) for number in range(4)]
    results = run_calls(calls, processes=processes, on_done=on_done)
    assert [square for square, _ in results] == [0, 1, 4, 9]
    assert seen == [1, 2, 3, 4]
    assert sorted(latest_of) == [0, 1, 4, 9]
    assert (os.getpid() in {pid for _, pid in results}) == (processes == 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_a_call_is_the_callers(processes: int) -> None:
    calls = [partial(divide, number) for number in (1, 0, 2)]
    with pytest.raises(ZeroDivisionError):
        run_calls(calls, processes=processes, on_done=lambda count, latest: None)


def test_busy_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script, folder = tmp_path / "busy.py", tmp_path / "out"
    script.write_text(BUSY)
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(folder)])
    try:
        deadline = time.monotonic() + 30
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        workers = [psutil.Process(int(path.name)) for path in folder.iterdir()]
        assert len(workers) == 2
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 1
    while (alive := [w for w in workers if lives(w)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in alive:
        worker.kill()
    assert not alive


def test_a_worker_whose_parent_has_ended_already_ends_too() -> None:
    code = "from olmo_core.tasks.pool import die_with_parent; die_with_parent(1 << 30); print('on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
