"""Corpus jobs with workers on other nodes of a real Slurm: one job, one result, nothing left."""

import contextlib
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from pipelines.launchers.slurm.launcher import SlurmLauncher
from tests.olmo_core.tasks.sharing import TASKS
from tests.olmo_core.tasks.test_shared import STRANGER
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys, ended, set_up, until
from tests.slurm.table import TABLE
from tests.slurm.test_graph import place

pytestmark = pytest.mark.slurm

SQUARES = [number**2 for number in range(TASKS)]
PROCESSES = 2  # of each node
KILLS = 10
TASK_LINE = re.compile(r"INFO (?:tag|encode|join) .*: [0-9.]+ s$", re.MULTILINE)
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


def shared(toys: Toys, name: str, **config: float) -> Launch:
    """The job of twelve tasks."""
    return Launch(
        folder=RunFolder(toys.root / "toy" / name / "0"),
        module="tests.olmo_core.tasks.sharing",
        stage="corpus",
        config={"config": config, "inputs": {}},
        identity={"recipe": "toy", "asset": name, "fingerprint": name},
        environment={"OLMO_ROOT": str(toys.root)},
        shares_tasks=True,
    )


def hold(launch: Launch, who: str) -> list[Path]:
    """Have each process of the leader, or of the workers, wait at its first task."""
    paths = [launch.folder.path.parent / f"hold.{who}.{number}" for number in range(TASKS)]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        path.touch()
    return paths


def release(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def begun(launch: Launch, who: str = "[lw]*", *, attempt: int = 1) -> list[int]:
    """The tasks that have begun since this attempt of the leader did."""
    first = attempts.began(launch.folder).get(attempt)
    if first is None:
        return []
    names = [path.name for path in launch.folder.path.parent.glob(f"began.{who}.*.*.*")]
    later = [name.split(".") for name in names if int(name.split(".")[4]) > 1e9 * first["time"]]
    return sorted(int(parts[2]) for parts in later)


def tasks(toys: Toys, launch: Launch) -> dict[str, str]:
    """The state of each task of the job's array."""
    array = toys.read(launch)["job_id"].partition("_")[0]
    lines = toys.cluster.run("squeue", "-h", "-r", "-t", "all", "-j", array, "-o", "%K %T")
    return dict(line.split() for line in lines.splitlines())


@contextlib.contextmanager
def drained(toys: Toys, *nodes: str) -> Iterator[None]:
    """Nodes that take no job."""
    names = ",".join(nodes)
    toys.cluster.run("scontrol", "update", f"nodename={names}", "state=drain", "reason=test")
    try:
        yield
    finally:
        toys.cluster.run("scontrol", "update", f"nodename={names}", "state=resume")


def node_of(toys: Toys, launch: Launch) -> str:
    return toys.cluster.run("squeue", "-h", "-j", toys.read(launch)["job_id"], "-o", "%N").strip()


def ends_well(toys: Toys, launcher: SlurmLauncher, launch: Launch) -> None:
    """The result is what one machine makes, and no process is left."""
    assert ended(launcher, launch).ended == "COMPLETED"
    result = launch.folder.read_result()
    assert result["report"]["data"]["squares"] == SQUARES
    alone = local_digest(toys)
    assert result["digest"] == alone
    assert not (launch.folder.path / "work").exists()
    until(lambda: toys.cluster.processes() == [], "the processes' end", 60)
    assert {"COMPLETED", "CANCELLED", "FAILED"} >= set(tasks(toys, launch).values())  # a killed one


def local_digest(toys: Toys) -> str:
    """Of the same tasks on one machine, without Dask."""
    folder = RunFolder(toys.root / "toy" / "local" / "0")
    if not folder.finished:
        folder.path.mkdir(parents=True)
        folder.config.write_text("config: {}\ninputs: {}\n")
        command = [sys.executable, "-m", "tests.olmo_core.tasks.sharing", str(folder.config)]
        subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return folder.read_result()["digest"]


def test_workers_follow_a_leader_that_was_requeued_on_another_node(toys: Toys) -> None:
    launch = shared(toys, "shared")
    gates, workers_gates = hold(launch, "leader"), hold(launch, "worker")
    launcher = toys.launcher(cpus_per_node=PROCESSES, workers=1)
    assert launcher.submit([launch])
    assert not toys.launcher(cpus_per_node=PROCESSES, workers=1).submit([launch])
    record = toys.read(launch)
    assert record["job_id"].endswith("_0")
    write_json(launch.folder.launch, {**record, "job_id": None})  # the submitter died after sbatch
    assert not toys.launcher(cpus_per_node=PROCESSES, workers=1).submit([launch])
    assert toys.read(launch)["job_id"] == record["job_id"]
    until(lambda: len(begun(launch, "leader")) == PROCESSES, "the leader's tasks")
    in_flight = begun(launch, "leader")
    release(workers_gates)
    until(lambda: len(begun(launch, "worker")) == TASKS - PROCESSES, "the worker's tasks")
    said = until(lambda: matching(launcher, launch, "1 of 1 workers"), "what the queue says")
    assert said.startswith(f"job {record['job_id']} running on n")
    meeting = launch.folder.path / "work" / "dask" / "scheduler.json"
    address = json.loads(meeting.read_text())["address"]
    stranger = [sys.executable, "-c", STRANGER, address, "other"]
    refused = subprocess.run(stranger, capture_output=True, text=True, check=False)
    assert refused.returncode == 1

    first = node_of(toys, launch)
    with drained(toys, first):
        gates += hold(launch, "worker")
        toys.cluster.run("scontrol", "requeue", record["job_id"])
        until(lambda: begun(launch, attempt=2) == in_flight, "the leader's next turn")
        second = node_of(toys, launch)
        assert second != first
        release(gates)
        ends_well(toys, launcher, launch)
    assert attempts.latest(launch.folder) == 2
    # Dask may hand a task of the leader that ends to the worker before the scheduler ends too, so
    # those in flight are counted by turns.
    assert begun(launch, attempt=2) == in_flight
    every = Counter(begun(launch))
    assert sorted(every) == list(range(TASKS))
    assert all(times in ((2, 3) if n in in_flight else (1,)) for n, times in every.items())
    assert (
        "ends: the run is finished" in (launch.folder.log / "submission1.worker1.log").read_text()
    )
    TABLE.add(
        "the leader of a job with a worker requeued",
        "same bytes, only tasks in flight again; a client without the certificate refused",
        f"equal digests; from {first} to {second}, {PROCESSES} of {TASKS} tasks again; refused",
    )


def matching(launcher: SlurmLauncher, launch: Launch, words: str) -> str:
    said = launcher.state(launch.folder).description
    return said if words in said else ""


def test_the_node_of_a_leader_is_lost(toys: Toys) -> None:
    launch = shared(toys, "lost")
    gates, workers_gates = hold(launch, "leader"), hold(launch, "worker")
    launcher = toys.launcher(cpus_per_node=PROCESSES, workers=1)
    launcher.submit([launch])
    until(lambda: len(begun(launch, "leader")) == PROCESSES, "the leader's tasks")
    in_flight = begun(launch, "leader")
    release(workers_gates)
    until(lambda: len(begun(launch, "worker")) == TASKS - PROCESSES, "the worker's tasks")
    node = node_of(toys, launch)
    gates += hold(launch, "worker")
    toys.cluster.kill_node(node)
    try:
        until(lambda: begun(launch, attempt=2) == in_flight, "the leader's next turn")
        release(gates)
        ends_well(toys, launcher, launch)
    finally:
        toys.cluster.start_node(node)
        toys.cluster.await_idle()
    counts = Counter(begun(launch))
    assert sorted(counts.values()) == [1] * (TASKS - PROCESSES) + [2] * PROCESSES
    TABLE.add(
        "the node of a leader with a worker lost",
        "same bytes, only tasks in flight again",
        f"equal digests; {node} lost, {PROCESSES} of {TASKS} tasks again",
    )


def test_no_worker_ever_comes(toys: Toys) -> None:
    launch = shared(toys, "alone")
    launcher = toys.launcher(cpus_per_node=PROCESSES, workers=2)
    with drained(toys, "n2", "n3"):
        launcher.submit([launch])
        ends_well(toys, launcher, launch)
    assert begun(launch) == begun(launch, "leader") == list(range(TASKS))
    TABLE.add("a job whose 2 workers never get a node", "same bytes", "equal digests")


@pytest.mark.drill
def test_processes_are_killed_at_random_moments(toys: Toys) -> None:
    """Any process that does tasks: of the leader or of a worker, or what starts them there."""
    chance = random.Random(17)
    killed: list[str] = []
    run = 0
    while len(killed) < KILLS:
        run += 1
        launch = shared(toys, f"killed{run}", seconds=2.0)
        launcher = toys.launcher(cpus_per_node=PROCESSES, workers=2)
        launcher.submit([launch])
        until(lambda one=launch: begun(one, "worker"), "a worker's task")
        kills = 0
        while not launch.folder.finished and len(killed) < KILLS:
            time.sleep(chance.uniform(0.2, 2.0))
            doers = [process for process in toys.cluster.processes() if does_tasks(process)]
            if doers and not launch.folder.finished:
                chosen = chance.choice(doers)
                killed.append(f"{chosen.pid}")
                kills += 1
                with contextlib.suppress(psutil.NoSuchProcess):
                    chosen.kill()
        ends_well(toys, launcher, launch)
        # What is killed holds at most as many tasks as it has processes.
        assert len(begun(launch)) <= TASKS + kills * PROCESSES
    TABLE.add(
        f"SIGKILL of workers' processes at {KILLS} random moments",
        "same bytes, only tasks in flight again, no process left",
        f"equal digests in {run} runs",
    )


def does_tasks(process: psutil.Process) -> bool:
    """Whether a process is a worker's, or one that does tasks beside the leader."""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return "olmo_core.tasks.worker" in command or "multiprocessing.spawn" in command
    return False


def test_cancel_ends_workers_too(toys: Toys) -> None:
    launch = shared(toys, "cancelled")
    hold(launch, "leader")
    hold(launch, "worker")
    launcher = toys.launcher(cpus_per_node=PROCESSES, workers=3)
    launcher.submit([launch])
    until(lambda: len(begun(launch, "worker")) == 4, "the workers' tasks")
    assert toys.cluster.processes()
    began = time.monotonic()
    launcher.cancel([launch.folder])
    took = time.monotonic() - began
    assert took < 10
    assert toys.cluster.processes() == []
    assert not {"PENDING", "RUNNING"} & set(tasks(toys, launch).values())
    TABLE.add(
        "cancel of a job with workers", "no process left after 10 s", f"none after {took:.1f} s"
    )


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
    done = {
        asset: sum(len(TASK_LINE.findall(path.read_text())) for path in paths)
        for asset, paths in shares.items()
    }
    assert done["tagged"]  # for seconds each; those of tokens may all be done before one comes
    TABLE.add(
        "`tagged` and `tokens` of `tiny` with 2 workers on other nodes",
        "same bytes as by the local engine",
        "equal digests; tasks by workers: "
        + ", ".join(f"{asset} {count}" for asset, count in done.items()),
    )
