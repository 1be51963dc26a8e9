"""Dagster's run worker is killed while it follows a job of the cluster: found again, run once."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.pipelines.conftest import production_environment
from tests.pipelines.kills import kill_and_finish
from tests.pipelines.postgres import running_postgres
from tests.pipelines.production import ALL, Production, in_production
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import set_up
from tests.slurm.table import TABLE

pytestmark = pytest.mark.slurm

MOST_SECONDS = 15.0  # after the worker's start: before the submission, in it, in the queue, at work
MOMENTS = 10


@pytest.fixture(scope="module")
def production(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Dagster's services, whose site sends the toy graphs to the cluster."""
    folder = tmp_path_factory.mktemp("production")
    site = {
        "slurm": {
            "poll_seconds": 1.0,
            "signal_seconds": 30,
            "pass_environment": ["PYTHONPATH", "TOY_GATES"],
        },
        "work": {"corpus": {"engine": "slurm", "cpus_per_node": 1}},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    with production_environment(folder) as patch, running_postgres() as server:
        set_up(patch, cluster)
        for name, value in {**server.environment, "OLMO_SITE": str(folder / "site.yaml")}.items():
            patch.setenv(name, value)
        with in_production(folder, server) as made:
            made.start(*ALL)
            yield made


@pytest.mark.parametrize(
    "moments", [1, pytest.param(MOMENTS, marks=pytest.mark.drill)], ids=["one", "all"]
)
def test_a_worker_killed_at_random_moments_is_replaced_and_its_job_run_once(
    production: Production, cluster: Cluster, moments: int
) -> None:
    times: list[str] = []
    for moment in range(moments):
        number = moment if moments == MOMENTS else MOMENTS
        seconds = random.Random(number).uniform(0, MOST_SECONDS)
        kill_and_finish(production, number, seconds=seconds)
        names = Path(cluster.folder, "log/jobcomp.log").read_text().count(f"olmo.toy{number}.first")
        assert names == 1
        times.append(f"{seconds:.0f}")
    TABLE.add(
        f"run worker SIGKILLed at {moments} random moments",
        "job untouched, found again, submitted once, result equal",
        f"{moments} of {moments}, after {', '.join(times)} s",
    )
