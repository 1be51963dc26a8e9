"""The orchestrator killed at any moment, and jobs on a real Slurm that never notice."""

import random
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from assets.graph import Graph
from olmo_core.run.folder import RunFolder
from tests.conftest import toy_graph
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import until
from tests.slurm.table import TABLE

pytestmark = pytest.mark.slurm

# A Dagster run over the toy graph, in a process of its own.
WORKER = """
import sys
from pipelines.cli.run import run_graph
from tests.slurm.test_orchestrator import graph
sys.exit(run_graph(graph(int(sys.argv[1]), sys.argv[2]), [], force=False))
"""
SITE = """\
slurm: {poll_seconds: 0.5, pass_environment: [PYTHONPATH]}
work:
  corpus: {engine: slurm, cpus_per_node: 1}
"""
KILLS = 10
LONGEST_SECONDS = 12.0  # a worker has submitted its first job by then, also on a busy machine
SEEDS = [pytest.param(seed, marks=pytest.mark.drill) for seed in range(KILLS)]
survived: list[float] = []  # moments of the kills


def graph(value: int, gate: str) -> Graph:
    """`first`, which waits for the gate, and `second`, which adds to it."""
    return toy_graph(first={"value": value, "wait": gate})


@pytest.fixture
def environment(
    cluster: Cluster, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Of a worker."""
    (tmp_path / "site.yaml").write_text(SITE)
    monkeypatch.setenv("OLMO_SITE", str(tmp_path / "site.yaml"))
    return cluster.environment


def worker(environment: dict[str, str], value: int, gate: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WORKER, str(value), str(gate)]
    return subprocess.Popen(command, env=environment)


def require_once(made: Graph, root: Path) -> RunFolder:
    """Each job was submitted and started once; returns the last one's folder."""
    for name in made.nodes:
        run = made.finished(root, name)
        assert run is not None, name
        assert (run.path.parent / "starts").read_text() == "x"
        assert len(list(run.log.glob("*.sbatch"))) == 1
    assert run is not None
    return run


@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_a_killed_worker_is_replaced_and_its_job_found_again(
    environment: dict[str, str], toy_root: Path, tmp_path: Path, seed: int | None
) -> None:
    gate, value = tmp_path / "gate", 10 + (seed or 0)
    made = graph(value, str(gate))
    starts = made.folder(toy_root, "first") / "starts"
    first = worker(environment, value, gate)
    if seed is None:
        until(starts.exists, "the job's start")
    else:
        survived.append(random.Random(seed).uniform(0, LONGEST_SECONDS))
        time.sleep(survived[-1])
    first.kill()
    first.wait()
    second = worker(environment, value, gate)
    until(starts.exists, "the job's start")
    time.sleep(1)  # for a second submission, were there one, to start its job too
    gate.touch()
    assert second.wait(120) == 0
    last = require_once(made, toy_root)
    assert last.read_result()["report"]["numbers"]["value"] == value + 1
    if len(survived) == KILLS:
        moments = ", ".join(f"{moment:.1f}" for moment in sorted(survived))
        TABLE.add(
            f"SIGKILL of the Dagster run's process at {KILLS} random moments",
            "re-attached, never submitted twice, result equal",
            f"so each time; killed after {moments} s",
        )


def test_a_job_that_finishes_while_nothing_of_dagster_runs_is_reported_by_the_next_run(
    environment: dict[str, str], toy_root: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    made = graph(5, str(gate))
    first = worker(environment, 5, gate)
    until((made.folder(toy_root, "first") / "starts").exists, "the job's start")
    first.kill()
    first.wait()
    gate.touch()
    run = until(lambda: made.finished(toy_root, "first"), "the job's result")
    stamp = run.result.stat().st_mtime_ns
    assert worker(environment, 5, gate).wait(120) == 0
    require_once(made, toy_root)
    assert run.result.stat().st_mtime_ns == stamp
    with dg.DagsterInstance.from_config(str(toy_root / "dagster")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["toy", "first"]))
    assert event is not None
    assert event.asset_materialization is not None
    how = event.asset_materialization.metadata["how"].value
    assert how == "finished before"
    TABLE.add("job finishes while nothing of Dagster runs", "reported by the next run", str(how))
