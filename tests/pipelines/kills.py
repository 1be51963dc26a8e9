"""A production's processes, ended and looked at."""

import time

import psutil

from tests.pipelines.production import Production, toy, wait_for

CANCEL_SECONDS = 10  # after which no process of a cancelled job is left


def members(production: Production, number: int) -> list[psutil.Process]:
    """The processes of the job of `first`: its own, and the one that it has spawned."""
    folder = production.job(number)
    status = folder.read_status()
    assert status is not None
    return [psutil.Process(status["pid"]), psutil.Process(int((folder.path / "child").read_text()))]


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def kill_and_finish(production: Production, number: int, *, seconds: float | None) -> None:
    """SIGKILL the worker once its job is at work, or so long after the worker's start."""
    before = {process.pid for process in production.workers()}
    run = production.launch(number)
    [worker] = wait_for(
        lambda: [w for w in production.workers() if w.pid not in before], "the run worker"
    )
    if seconds is None:
        job = members(production, number)
    else:
        time.sleep(seconds)
        job = []
    worker.kill()
    production.wait_status(run, "FAILURE")
    wait_for(lambda: production.last_of(run) != run, "a retry")
    retry = production.last_of(run)
    if not job:
        job = members(production, number)
    assert not are_gone(job)
    production.wait_status(retry, "STARTED")
    production.open_gate(number)
    production.wait_status(retry, "SUCCESS")
    assert production.starts(number) == {"first": "x", "second": "x"}
    result = toy(number).finished(production.root, "second")
    assert result is not None
    assert result.read_result()["report"]["numbers"]["value"] == 2
    assert result.read_result()["attempt"] == 1
