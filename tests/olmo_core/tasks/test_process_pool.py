"""Processes of a pool: none outlives the caller, whatever ends the caller."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from assets.paths import CHECKOUT
from olmo_core.tasks.map import process_pool

BUSY = """
import os, sys, time
from pathlib import Path
from olmo_core.tasks.map import process_pool

def work(folder):
    while True:
        (folder / str(os.getpid())).touch()
        time.sleep(0.001)

if __name__ == "__main__":
    with process_pool(2, start=sys.argv[2]) as pool:
        for future in [pool.submit(work, Path(sys.argv[1])) for _ in range(3)]:
            future.result()
"""


def busy(folder: Path) -> None:
    (folder / str(psutil.Process().pid)).touch()
    while True:
        time.sleep(0.001)


def lives(process: psutil.Process) -> bool:
    """Not ended; one that has ended stays a zombie where no init takes its exit code."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def both(folder: Path) -> list[psutil.Process]:
    """The two processes that have begun."""
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    processes = [psutil.Process(int(path.name)) for path in folder.iterdir()]
    assert len(processes) == 2
    return processes


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_busy_processes_end_with_a_killed_parent(tmp_path: Path, start: str) -> None:
    script, folder = tmp_path / "busy.py", tmp_path / "out"
    script.write_text(BUSY)
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder), start],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    try:
        processes = both(folder)
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(processes, timeout=5)
    alive = [process for process in alive if lives(process)]
    for process in alive:
        process.kill()
    assert not alive


def test_an_error_ends_busy_processes_at_once(tmp_path: Path) -> None:
    processes: list[psutil.Process] = []
    with contextlib.suppress(KeyError), process_pool(2) as pool:
        for _ in range(3):
            pool.submit(busy, tmp_path)
        processes += both(tmp_path)
        raise KeyError
    assert not [process for process in processes if lives(process)]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_process_whose_parent_has_ended_already_ends_too() -> None:
    code = "from olmo_core.run import process; process.die_with_parent(1 << 30); print('on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
