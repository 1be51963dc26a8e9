"""What does not listen is ended too, within ten seconds: stopped ranks on two nodes, a deaf job."""

import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from assets.launcher import Launch
from pipelines.launchers.slurm.launcher import SlurmLauncher
from pipelines.site.file import ResourceSpec, Site, SlurmSite
from tests.pipelines.kills import CANCEL_SECONDS
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import POLL_SECONDS, Toys, alive, set_up, until
from tests.slurm.table import TABLE
from tests.slurm.training_graph import prepare, training_graph

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

BAR = "no process left after 10 s"

# Never reaches a safe point, in a process and in a child of it.
DEAF = '''
import signal, subprocess, time
from dataclasses import dataclass
from olmo_core.run.command import run_job

@dataclass(frozen=True, kw_only=True)
class Config:
    pass

def make(config, inputs, job):
    """Toy."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    child = subprocess.Popen(["python3", "-c", code], start_new_session=True)
    (job.folder / "child").write_text(str(child.pid))
    while True:
        time.sleep(1)

if __name__ == "__main__":  # tasks import this module
    run_job(Config, make)
'''


@pytest.fixture
def toys(cluster: Cluster, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    set_up(monkeypatch, cluster)
    (toy_root.parent / "modules" / "deaf_job.py").write_text(DEAF)
    return Toys(cluster=cluster, root=toy_root)


@pytest.fixture
def launcher(toys: Toys) -> SlurmLauncher:
    slurm = SlurmSite(poll_seconds=POLL_SECONDS, pass_environment=("PYTHONPATH",))
    corpus = ResourceSpec(engine="slurm", cpus_per_node=1)
    train = ResourceSpec(engine="slurm", nodes=2, cpus_per_node=1)
    return SlurmLauncher(site=Site(slurm=slurm, work={"corpus": corpus, "train": train}))


def training(toys: Toys) -> Launch:
    """A training over two nodes whose steps take a second."""
    launch = toys.launch("training")
    beside = launch.folder.path.parent
    [node] = training_graph().nodes.values()
    config = {**node.config_file({}, launch.folder.path), "wandb": None}
    prepare(beside, pace_seconds=1.0)
    return replace(launch, module=node.module, stage="train", config=config, distributed=True)


def test_what_does_not_listen_is_gone_on_all_nodes_after_ten_seconds(
    toys: Toys, launcher: SlurmLauncher
) -> None:
    other = toys.launch("other", wait="/nonexistent")
    stopped, deaf = training(toys), replace(toys.launch("deaf"), module="deaf_job")
    launches = [other, stopped, deaf]
    for launch in launches:
        assert launcher.submit([launch])
    pid = until(lambda: (other.folder.read_status() or {}).get("pid"), "the bystander")
    until((deaf.folder.path / "child").exists, "the deaf job")
    until(lambda: (stopped.folder.read_status() or {}).get("step"), "the training")
    jobs = {toys.read(launch)["job_id"]: launch for launch in (stopped, deaf)}
    ranks = [one for one in toys.cluster.processes() if "RANK" in one.environ()]
    assert len({one.environ()["SLURMD_NODENAME"] for one in ranks}) == 2
    for rank in ranks:
        rank.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    threads = [
        threading.Thread(target=launcher.cancel, args=([launch.folder],))
        for launch in jobs.values()
    ]
    for thread in threads:
        thread.start()
    took = {job: gone(toys.cluster, job, began) for job in jobs}
    for thread in threads:
        thread.join()
    assert alive(pid)
    assert launcher.state(other.folder).alive
    assert not any(launcher.state(launch.folder).alive for launch in jobs.values())
    launcher.cancel([other.folder])
    seen = f"none after {max(took.values()):.1f} s; the bystander lived"
    TABLE.add("cancel of stopped ranks on 2 nodes, and of a deaf job", BAR, seen)


def gone(cluster: Cluster, job: str, began: float) -> float:
    """When the last process of a job was gone."""
    left = CANCEL_SECONDS - (time.monotonic() - began)
    until(lambda: not cluster.processes(job), f"the end of job {job}", left)
    return time.monotonic() - began
