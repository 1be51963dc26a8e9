"""A production with a real PostgreSQL and the units' own commands: killed, cancelled, restarted."""

import os
import random
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets.paths import CHECKOUT
from tests.conftest import TOY_JOB
from tests.pipelines.postgres import Postgres, running_postgres
from tests.pipelines.production import (
    DEFINITIONS,
    GRAPHS,
    Production,
    in_production,
    toy,
    wait_for,
)

pytestmark = pytest.mark.postgres

ALL = ("olmo-code", "olmo-daemon", "olmo-webserver")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What every process of the production inherits; the folder that it works in."""
    folder = tmp_path_factory.mktemp("production")
    modules = folder / "modules"
    modules.mkdir()
    (modules / "toy_job.py").write_text(textwrap.dedent(TOY_JOB))
    (modules / "toy_definitions.py").write_text(DEFINITIONS.format(graphs=GRAPHS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(modules), str(CHECKOUT)]))
        patch.setenv("OLMO_ROOT", str(folder / "root"))
        patch.setenv("OLMO_SITE", os.devnull)
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        patch.setenv("TOY_GATES", str(folder / "gate"))
        yield folder


@pytest.fixture(scope="module")
def postgres(environment: Path) -> Iterator[Postgres]:
    with running_postgres() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def production(environment: Path, postgres: Postgres) -> Iterator[Production]:
    with in_production(environment, postgres) as made:
        made.start(*ALL)
        yield made


def members(production: Production, number: int) -> list[psutil.Process]:
    """The processes of the job of `first`: its own, and the one that it has spawned."""
    folder = production.job(number)
    launch = folder.read(folder.launch)
    assert launch is not None
    return [psutil.Process(launch["pid"]), psutil.Process(int((folder.path / "child").read_text()))]


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_a_killed_worker_is_replaced_and_its_job_found_again(production: Production) -> None:
    kill_and_finish(production, 0, seconds=None)


@pytest.mark.drill
@pytest.mark.parametrize("number", range(1, 11))
def test_a_worker_killed_at_a_random_moment(production: Production, number: int) -> None:
    seconds = random.Random(number).uniform(0, 12)
    print(f"killed after {seconds:.2f} s")
    kill_and_finish(production, number, seconds=seconds)


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


def test_what_is_observed_and_made_is_stored_in_postgresql(production: Production) -> None:
    key = dg.AssetKey(["toy0", "second"])
    event = production.instance.get_latest_materialization_event(key)
    assert event is not None
    count = production.postgres.query(
        "select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
    )
    assert int(count) >= 2
    assert not list(production.folder.rglob("*.db"))
