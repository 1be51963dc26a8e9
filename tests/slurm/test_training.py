"""Training over two nodes of a real Slurm: whatever befalls it, it ends with the same weights."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from assets.launcher import Launch, Launcher
from assets.reporting.diagnosis import diagnosis
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from pipelines.launchers.local import LocalLauncher
from pipelines.launchers.slurm.launcher import SlurmLauncher
from pipelines.site.file import ResourceSpec, Site, SlurmSite
from tests.olmo_core.train.conftest import CONFIG
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import set_up, until
from tests.slurm.table import TABLE

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

STEPS = 140
SAVE_INTERVAL = 5
PACE_SECONDS = 1.0
WEIGHTS = "model/model.safetensors"
SAME = "resumed to the same weights"
HANG_SECONDS = 90.0  # longer than ranks take to start while other tests keep all cores busy
END_SECONDS = 240.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """Runs of one small model, each in a folder of its own below a root."""

    cluster: Cluster
    root: Path
    tokens: Path

    def launch(self, name: str) -> Launch:
        folder = RunFolder(self.root / "toy" / name / "0")
        config = yaml.safe_load(CONFIG)
        config |= {
            "save_folder": str(folder.path),
            "max_duration": STEPS,
            "stop_at": STEPS,
            "save_interval": SAVE_INTERVAL,
            "global_train_batch_size": 16,
        }
        config["data"]["paths"] = [str(self.tokens)]
        return Launch(
            folder=folder,
            module="tests.slurm.paced_training",
            stage="train",
            config=config,
            identity={"recipe": "toy", "asset": "stage1", "fingerprint": name},
            distributed=True,
            environment={"OLMO_ROOT": str(self.root)},
        )

    def start(self, name: str, launcher: SlurmLauncher) -> Launch:
        """Submit a run that takes its time."""
        launch = self.launch(name)
        pace = launch.folder.path.parent / "pace"
        pace.parent.mkdir(parents=True)
        pace.write_text(str(PACE_SECONDS))
        assert launcher.submit([launch])
        return launch

    def launcher(self, **work: Any) -> SlurmLauncher:
        shape = {"nodes": 2, "cpus_per_node": 1, "stall_timeout_minutes": HANG_SECONDS / 60, **work}
        slurm = SlurmSite(poll_seconds=0.5, signal_seconds=120)
        return SlurmLauncher(
            site=Site(slurm=slurm, work={"train": ResourceSpec(engine="slurm", **shape)})
        )

    def local(self) -> LocalLauncher:
        return LocalLauncher(
            site=Site(work={"train": ResourceSpec(processes_per_node=2, cpus_per_node=2)})
        )


@pytest.fixture(scope="module")
def training(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("training")
    tokens = root / "tokens.npy"
    rng = np.random.default_rng(0)
    successors = rng.integers(2, 100, (100, 4))
    text = [2]
    for choice in rng.integers(0, 4, 20_000):
        text.append(int(successors[text[-1], choice]))
    np.array(text, dtype="<u2").tofile(tokens)
    return Training(cluster=cluster, root=root, tokens=tokens)


@pytest.fixture(autouse=True)
def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, cluster)


@pytest.fixture(scope="module")
def undisturbed(training: Training) -> bytes:
    """The weights of a run by the local engine, of two ranks with one thread each."""
    launch, launcher = training.launch("undisturbed"), training.local()
    launcher.submit([launch])
    await_end(launcher, launch)
    return (launch.folder.path / WEIGHTS).read_bytes()


def await_end(launcher: Launcher, launch: Launch) -> None:
    state = until(
        lambda: None if (now := launcher.state(launch.folder)).alive else now,
        f"the end of {launch.folder.path}",
        END_SECONDS,
    )
    log = launch.folder.path / str((launch.folder.read(launch.folder.launch) or {})["log"])
    assert launch.folder.finished, f"{state}\n{log.read_text()[-6000:]}"


def unpace(launch: Launch) -> None:
    """Let it take no more time than it needs."""
    (launch.folder.path.parent / "pace").unlink()


def job_id(launch: Launch) -> str:
    return str((launch.folder.read(launch.folder.launch) or {})["job_id"])


def step(launch: Launch) -> int:
    """How far the run is; the supervisor may not have given it up."""
    assert not launch.folder.failure.exists(), launch.folder.failure.read_text()
    return int((launch.folder.read_status() or {}).get("step") or 0)


def await_step(launch: Launch, least: int) -> None:
    until(lambda: step(launch) >= least, f"step {least}; now {step(launch)}")


def rank_process(training: Training, job: str, rank: int) -> psutil.Process:
    """The process of one rank."""
    module = "tests.slurm.paced_training"
    for process in training.cluster.processes(job):
        environment = process.environ()
        if environment.get("RANK") == str(rank) and module in process.cmdline():
            return process
    pytest.fail(f"no process of rank {rank}")


def ends(launch: Launch) -> list[Mapping[str, Any]]:
    return [row for row in attempts.read(launch.folder) if row["event"] == "ended"]


def await_ends(launch: Launch, number: int) -> Mapping[str, Any]:
    """The end of the attempt that is the `number`-th to end."""
    until(lambda: len(ends(launch)) >= number, f"the end of attempt {number}", END_SECONDS)
    return ends(launch)[number - 1]


def test_a_run_that_meets_everything_ends_with_the_same_weights(
    training: Training, undisturbed: bytes
) -> None:
    """One after the other; a second run hangs meanwhile, since that takes its time."""
    launcher = training.launcher()
    launch, hanging = training.start("disturbed", launcher), training.start("hanging", launcher)
    job = job_id(launch)
    await_step(hanging, SAVE_INTERVAL + 3)
    rank_process(training, job_id(hanging), 1).send_signal(signal.SIGSTOP)

    await_step(launch, SAVE_INTERVAL + 3)
    rank_process(training, job, 1).kill()
    end = await_ends(launch, 1)
    assert (end["cause"], end["signal"], end["rank"], end["next"]) == ("killed", 9, 1, "resume")
    seen = f"at step {end['step']}: {end['cause']}, rank 1 on {end['node']}; resumed in place"
    TABLE.add("one rank SIGKILLed", SAME, seen)
    await_step(launch, end["step"] + 3)

    # What is due before the time limit is due at once, if the limit is set that near; Slurm looks
    # every half minute.
    minutes = int(time.time() - started(training, job) + 40) // 60 + 1
    training.cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    end = await_ends(launch, 2)
    assert (end["cause"], end["next"]) == ("time_limit", "requeue")
    require_checkpoint(end)
    TABLE.add("time limit", SAME, f"checkpoint of step {end['checkpoint_step']}; requeued")
    training.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=UNLIMITED")

    hung = await_ends(hanging, 1)
    assert (hung["cause"], hung["next"]) == ("hung", "resume")
    unpace(hanging)
    await_end(launcher, hanging)
    assert (hanging.folder.path / WEIGHTS).read_bytes() == undisturbed
    seen = f"at step {hung['step']}: hung for {HANG_SECONDS:.0f} s; resumed in place"
    TABLE.add("one rank stopped (SIGSTOP)", SAME, seen)
    await_step(launch, end["step"] + 3)

    training.cluster.run(
        *("sbatch", "--partition=hi", "--nodes=3", "--exclusive"),
        *("--output=/dev/null", "--wrap=sleep 2"),
    )
    end = await_ends(launch, 3)
    assert (end["cause"], end["next"]) == ("preempted", "requeue")
    require_checkpoint(end)
    TABLE.add(
        "preempted by a higher partition",
        SAME,
        f"checkpoint of step {end['checkpoint_step']}; requeued",
    )
    await_step(launch, end["step"] + 3)

    node = training.cluster.run("squeue", "-h", "-j", job, "-o", "%B").strip()
    training.cluster.kill_node(node)
    end = await_ends(launch, 4)
    training.cluster.start_node(node)
    assert end["cause"] == "node_lost", end
    TABLE.add("node's slurmd killed", SAME, f"{node}, which had rank 0: node_lost; requeued")
    await_step(launch, (end["checkpoint_step"] or 0) + 3)

    training.cluster.run("scancel", job)
    state = until(lambda: None if (now := launcher.state(launch.folder)).alive else now, "the end")
    assert state.ended == "CANCELLED"
    said = diagnosis("stage1", launch.folder, state)
    assert "CANCELLED" in said
    TABLE.add("scancel", "a diagnosis that names the cause", said.splitlines()[0])

    unpace(launch)
    assert launcher.submit([launch])
    await_end(launcher, launch)
    assert (launch.folder.path / WEIGHTS).read_bytes() == undisturbed
    assert len(list(launch.folder.log.glob("*.sbatch"))) == 2, "submitted once, and once again"


def require_checkpoint(end: Mapping[str, Any]) -> None:
    """The ranks wrote one when they were asked to stop; OLMo's run goes ten steps on after it."""
    assert end["checkpoint_step"] % SAVE_INTERVAL or end["checkpoint_step"] == end["step"]
    assert end["step"] - end["checkpoint_step"] <= 10


def started(training: Training, job: str) -> float:
    """When the job began its present turn."""
    text = training.cluster.run("squeue", "-h", "-j", job, "-O", "StartTime:|").strip(" |\n")
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
