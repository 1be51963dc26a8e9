"""A production with a real PostgreSQL and the units' own commands: killed, cancelled, restarted."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from pipelines.instance import close_orphaned_runs
from tests.pipelines.kills import CANCEL_SECONDS, are_gone, kill_and_finish, members
from tests.pipelines.production import (
    ALL,
    DEQUEUE_SECONDS,
    UNITS,
    Production,
    toy,
    wait_for,
)

pytestmark = pytest.mark.postgres


def test_a_killed_worker_is_replaced_and_its_job_found_again(production: Production) -> None:
    kill_and_finish(production, 9, seconds=None)


@pytest.mark.drill
@pytest.mark.parametrize("number", range(10, 20))
def test_a_worker_killed_at_a_random_moment(production: Production, number: int) -> None:
    seconds = random.Random(number).uniform(0, 12)
    print(f"killed after {seconds:.2f} s")
    kill_and_finish(production, number, seconds=seconds)


def test_what_is_made_is_stored_in_postgresql(production: Production) -> None:
    key = dg.AssetKey(["toy9", "second"])
    event = production.instance.get_latest_materialization_event(key)
    assert event is not None
    count = production.postgres.query(
        "select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
    )
    assert int(count) >= 2
    assert not list(production.folder.rglob("*.db"))


def test_cancel_in_the_ui_ends_every_process_of_the_job_and_no_other(
    production: Production,
) -> None:
    run, other = production.launch(0), production.launch(1)
    job, bystanders = members(production, 0), members(production, 1)
    assert production.terminate(run)["__typename"] == "TerminateRunSuccess"
    wait_for(lambda: are_gone(job), "the job's end", CANCEL_SECONDS)
    production.wait_status(run, "CANCELED")
    assert not are_gone(bystanders)
    production.open_gate(1)
    production.wait_status(other, "SUCCESS")


def test_a_code_server_that_is_replaced_ends_nothing_and_cancel_still_works(
    production: Production,
) -> None:
    followed, cancelled = production.launch(2), production.launch(3)
    goes_on, ends = members(production, 2), members(production, 3)
    workers = production.workers()
    production.stop("olmo-code")
    assert not are_gone(workers)
    assert not are_gone([*goes_on, *ends])
    production.start("olmo-code")
    # The new server knows nothing of the worker, which sees the cancellation in the database.
    production.terminate(cancelled)
    wait_for(lambda: are_gone(ends), "the job's end", CANCEL_SECONDS)
    production.wait_status(cancelled, "CANCELED")
    assert not are_gone(goes_on)
    production.open_gate(2)
    production.wait_status(followed, "SUCCESS")
    assert production.starts(2) == {"first": "x", "second": "x"}


def test_a_database_that_restarts_ends_nothing(production: Production) -> None:
    run = production.launch(4)
    job = members(production, 4)
    production.postgres.stop()
    time.sleep(6)  # longer than a look at the run's status and dagster-postgres's own retries
    production.postgres.start()
    assert not are_gone(job)
    production.open_gate(4)
    production.wait_status(run, "SUCCESS")
    assert production.starts(4) == {"first": "x", "second": "x"}
    # Its pooled connections are broken, and each is noticed by the request that it fails.
    production.stop("olmo-webserver")
    production.start("olmo-webserver")


def test_a_run_waits_in_the_queue_until_its_pool_has_a_place(production: Production) -> None:
    production.instance.event_log_storage.set_concurrency_slots("cpu", 1)
    try:
        first = production.launch(5)
        members(production, 5)
        second = production.launch(6)
        time.sleep(5 * DEQUEUE_SECONDS)
        assert production.status(second) == "QUEUED"
        production.open_gate(5)
        production.open_gate(6)
        production.wait_status(first, "SUCCESS")
        production.wait_status(second, "SUCCESS")
    finally:
        production.instance.event_log_storage.delete_concurrency_limit("cpu")


def test_a_job_that_finishes_while_nothing_of_dagster_runs_is_reported_by_the_next_run(
    production: Production,
) -> None:
    run = production.launch(7)
    job = members(production, 7)
    workers = production.workers()
    production.stop(*ALL, how=signal.SIGKILL)
    for worker in workers:
        worker.kill()
    production.open_gate(7)
    wait_for(lambda: toy(7).finished(production.root, "first"), "the job's result")
    wait_for(lambda: not job[0].is_running() or are_gone(job[:1]), "the job's end")
    production.start(*ALL)
    assert production.status(run) == "STARTED"  # as its worker left it
    assert close_orphaned_runs(production.instance) == [run]
    # The failed run is retried by itself; nothing is submitted again.
    retry = wait_for(
        lambda: production.last_of(run) if production.last_of(run) != run else None, "a retry"
    )
    production.wait_status(retry, "SUCCESS")
    assert production.starts(7) == {"first": "x", "second": "x"}
    event = production.instance.get_latest_materialization_event(dg.AssetKey(["toy7", "first"]))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["how"].value == "finished before"


OLMO_RUN = """
import sys
from pipelines.cli.run import run_graph
from tests.pipelines.production import toy
sys.exit(run_graph(toy(int(sys.argv[1])), [], force=False))
"""


def test_two_olmo_runs_at_once_on_postgresql_make_everything_once(production: Production) -> None:
    both = [subprocess.Popen([sys.executable, "-c", OLMO_RUN, "8"]) for _ in range(2)]
    production.job(8)
    production.open_gate(8)
    assert [process.wait(120) for process in both] == [0, 0]
    assert production.starts(8) == {"first": "x", "second": "x"}


def test_the_instance_migrates(production: Production) -> None:
    command = [str(Path(sys.executable).with_name("dagster")), "instance", "migrate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Updating event storage" in done.stdout


@pytest.mark.parametrize("unit", ALL)
def test_systemd_takes_the_units(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    text = (UNITS / f"{unit}.service").read_text()
    command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert "--host 127.0.0.1" in command or unit == "olmo-daemon"
    assert "KillMode=process" in text
    program = command.removeprefix("ExecStart=").split()[0]
    copy = tmp_path / f"{unit}.service"
    copy.write_text(text.replace(program, sys.executable))  # it must be there to be taken
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    others = [line for line in done.stderr.splitlines() if unit in line]
    assert others == []
