"""Corpus jobs with workers on other nodes of a real Slurm: one job, one result, nothing left."""

import shutil
import time
from pathlib import Path

import pytest

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from pipelines.launchers.slurm.launcher import SlurmLauncher
from tests.olmo_core.tasks.sharing import CALLS
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys, ended, set_up, until
from tests.slurm.table import TABLE
from tests.slurm.test_graph import place

pytestmark = pytest.mark.slurm

SQUARES = [number**2 for number in range(CALLS)]
LEADERS = 2  # processes, as each node has
WORKERS = 3  # of which two have a node beside the leader, and one waits
SITE = """\
slurm: {poll_seconds: 0.5}
work:
  tagged: {engine: slurm, cpus_per_node: 1, workers: 2}
  tokens: {engine: slurm, cpus_per_node: 1, workers: 2}
"""


@pytest.fixture
def toys(cluster: Cluster, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    set_up(monkeypatch, cluster)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    return Toys(cluster=cluster, root=toy_root)


def shared(toys: Toys, name: str) -> Launch:
    """The job of twelve calls."""
    return Launch(
        folder=RunFolder(toys.root / "toy" / name / "0"),
        module="tests.olmo_core.tasks.sharing",
        stage="corpus",
        config={"config": {}, "inputs": {}},
        identity={"recipe": "toy", "asset": name, "fingerprint": name},
        environment={"OLMO_ROOT": str(toys.root)},
        shares_tasks=True,
    )


def hold(launch: Launch, who: str) -> list[Path]:
    """Have each process of the leader, or of the workers, wait at its first call."""
    paths = [launch.folder.path.parent / f"hold.{who}.{number}" for number in range(CALLS)]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        path.touch()
    return paths


def release(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def begun(launch: Launch, who: str) -> list[int]:
    found = launch.folder.path.parent.glob(f"began.{who}.*")
    return sorted(int(path.name.split(".")[2]) for path in found)


def tasks(toys: Toys, launch: Launch) -> dict[str, str]:
    """The state of each task of the job's array."""
    array = toys.read(launch)["job_id"].partition("_")[0]
    lines = toys.cluster.run("squeue", "-h", "-r", "-t", "all", "-j", array, "-o", "%K %T")
    return dict(line.split() for line in lines.splitlines())


def test_workers_do_calls_also_of_a_leader_that_was_requeued(toys: Toys) -> None:
    launch = shared(toys, "shared")
    gates, workers_gates = hold(launch, "leader"), hold(launch, "worker")
    launcher = toys.launcher(cpus_per_node=2, workers=WORKERS)
    assert launcher.submit(launch)
    assert not toys.launcher(cpus_per_node=2, workers=WORKERS).submit(launch)
    record = toys.read(launch)
    assert record["job_id"].endswith("_0")
    write_json(launch.folder.launch, {**record, "job_id": None})  # the submitter died after sbatch
    assert not toys.launcher(cpus_per_node=2, workers=WORKERS).submit(launch)
    assert toys.read(launch)["job_id"] == record["job_id"]
    until(lambda: len(begun(launch, "leader")) == LEADERS, "the leader's calls")
    release(workers_gates)
    until(lambda: len(begun(launch, "worker")) == CALLS - LEADERS, "the workers' calls")
    said = until(lambda: matching(launcher, launch, "2 of 3 workers"), "what the queue says")
    assert said.startswith(f"job {record['job_id']} running on n")
    assert sorted(tasks(toys, launch).values()) == ["PENDING", "RUNNING", "RUNNING", "RUNNING"]

    hold(launch, "worker")
    toys.cluster.run("scontrol", "requeue", record["job_id"])
    until(lambda: len(begun(launch, "leader")) == 2 * LEADERS, "the leader's next turn")
    assert attempts.latest(launch.folder) == 2
    release(workers_gates)
    until(lambda: len(begun(launch, "worker")) == 2 * (CALLS - LEADERS), "the workers' calls again")
    assert launcher.state(launch.folder).alive
    release(gates)
    assert ended(launcher, launch).ended == "COMPLETED"
    assert launch.folder.read_result()["report"]["data"]["squares"] == SQUARES
    assert len(begun(launch, "leader")) == 2 * LEADERS
    until(
        lambda: set(tasks(toys, launch).values()) == {"COMPLETED", "CANCELLED"}, "the workers", 10
    )
    log = launch.folder.log
    assert f"{CALLS} calls: {LEADERS} by leader" in (log / "submission1.log").read_text()
    logs = [path.read_text() for path in log.glob("submission1.worker[1-3].log")]
    assert len(logs) == 2
    assert all("ends: the run is finished" in text for text in logs)


def matching(launcher: SlurmLauncher, launch: Launch, words: str) -> str:
    said = launcher.state(launch.folder).description
    return said if words in said else ""


def test_cancel_ends_workers_too(toys: Toys) -> None:
    launch = shared(toys, "cancelled")
    hold(launch, "leader")
    hold(launch, "worker")
    launcher = toys.launcher(cpus_per_node=2, workers=WORKERS)
    launcher.submit(launch)
    until(lambda: len(begun(launch, "worker")) == 4, "the workers' calls")
    assert toys.cluster.processes()
    began = time.monotonic()
    launcher.cancel(launch.folder)
    took = time.monotonic() - began
    assert took < 10
    assert toys.cluster.processes() == []
    assert not {"PENDING", "RUNNING"} & set(tasks(toys, launch).values())
    TABLE.add(
        "cancel of a job with workers", "no process left after 10 s", f"none after {took:.1f} s"
    )


def test_a_worker_that_holds_a_call_and_does_not_move_is_ended(toys: Toys) -> None:
    launch = shared(toys, "stuck")
    gates = hold(launch, "leader") + hold(launch, "worker")
    launcher = toys.launcher(cpus_per_node=2, workers=1, stall_timeout_minutes=0.5)
    launcher.submit(launch)
    until(lambda: len(begun(launch, "worker")) == 2, "the worker's calls")
    for process in toys.cluster.processes():
        if "OLMO_WORKER" in process.environ():
            process.suspend()
    release(gates)
    assert ended(launcher, launch).ended == "COMPLETED"
    causes = [row["cause"] for row in attempts.read(launch.folder) if row["event"] == "ended"]
    assert causes == ["hung", "finished"]
    assert launch.folder.read_result()["report"]["data"]["squares"] == SQUARES
    assert len(begun(launch, "worker")) == 2


@pytest.mark.slow
def test_tags_and_tokens_are_the_same_with_workers(cluster: Cluster, tmp_path: Path) -> None:
    conf = {"SLURM_CONF": str(cluster.configuration), "PATH": cluster.environment["PATH"]}
    local = place(tmp_path / "local", "{}")
    local.run("tiny", "--select", "tokens")
    digests = {asset: local.result(asset)["digest"] for asset in ("tagged", "tokens")}
    slurm = place(tmp_path / "slurm", SITE, **conf)
    shutil.copytree(local.root, slurm.root, dirs_exist_ok=True)
    for asset in digests:
        shutil.rmtree(slurm.root / "tiny" / asset)
    slurm.run("tiny", "--select", "tokens")
    assert {asset: slurm.result(asset)["digest"] for asset in digests} == digests
    shares = {asset: (slurm.path(asset) / "log").glob("*.worker[12].log") for asset in digests}
    calls = {
        asset: sum(path.read_text().count(" call ") for path in paths)
        for asset, paths in shares.items()
    }
    assert calls["tagged"]  # for seconds each; those of tokens may all be done before one comes
    TABLE.add(
        "`tagged` and `tokens` of `tiny` with 2 workers on other nodes",
        "same bytes as by the local engine",
        "equal digests; calls by workers: "
        + ", ".join(f"{asset} {count}" for asset, count in calls.items()),
    )
