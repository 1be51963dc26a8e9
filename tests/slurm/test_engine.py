"""The Slurm engine on a real Slurm, with toy jobs: queued once, found again, ended when told."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from assets.launcher import EngineError, Launch
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.launchers.slurm.launcher import SlurmLauncher
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys, alive, ended, set_up, until
from tests.slurm.table import TABLE

pytestmark = pytest.mark.slurm

# Submits one launch; to be killed in the middle.
SUBMITTER = """
import os, sys
from pathlib import Path
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys
conf = Path(os.environ["SLURM_CONF"])
toys = Toys(cluster=Cluster(folder=conf.parent, configuration=conf), root=Path(sys.argv[1]))
toys.launcher().submit([toys.launch("killed", wait=sys.argv[2])])
"""
# An sbatch that takes its time, before or after the job has come into the queue.
SLOW_SBATCH = {
    "before": 'touch "$0.called"; sleep 1; exec {sbatch} "$@"',
    "after": '{sbatch} "$@"; touch "$0.called"; sleep 1',
}


@pytest.fixture
def toys(cluster: Cluster, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    set_up(monkeypatch, cluster)
    return Toys(cluster=cluster, root=toy_root)


def test_a_job_is_queued_once_followed_and_finished(toys: Toys, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    launch = toys.launch("once", value=5, wait=str(gate))
    launcher = toys.launcher()
    assert launcher.submit([launch])
    assert not toys.launcher().submit([launch])
    until(lambda: "running on n" in launcher.state(launch.folder).description, "running")
    assert not toys.launcher().submit([launch])
    record = toys.read(launch)
    assert record["job_name"].startswith("olmo.toy.first.")
    assert (
        toys.cluster.run("squeue", "-h", "-o", "%j", "-j", record["job_id"]).strip()
        == (record["job_name"])
    )
    gate.touch()
    assert ended(launcher, launch).ended == "COMPLETED"
    assert launch.folder.finished
    assert (launch.folder.path.parent / "starts").read_text() == "x"
    assert launch.folder.read_result()["report"]["numbers"]["value"] == 5


def test_a_failed_job_says_how_it_ended(toys: Toys) -> None:
    launch = toys.launch("fails", fail=True)
    launcher = toys.launcher()
    launcher.submit([launch])
    state = ended(launcher, launch)
    assert (state.ended, state.exit_code) == ("FAILED", 3)
    log = (launch.folder.path / toys.read(launch)["log"]).read_text()
    assert "toy.jsonl:7: text missing" in log


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_submitter_killed_around_sbatch_has_its_job_adopted(
    toys: Toys, tmp_path: Path, moment: str
) -> None:
    slow = tmp_path / "bin" / "sbatch"
    slow.parent.mkdir()
    real = shutil.which("sbatch", path=toys.cluster.environment["PATH"])
    slow.write_text("#!/bin/bash\n" + SLOW_SBATCH[moment].format(sbatch=real))
    slow.chmod(0o755)
    environment = toys.cluster.environment
    environment["PATH"] = os.pathsep.join([str(slow.parent), environment["PATH"]])
    gate = tmp_path / "gate"
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, toys.root, gate], env=environment
    )
    until(slow.with_name("sbatch.called").exists, "a call of sbatch")
    submitter.kill()
    assert submitter.wait() == -signal.SIGKILL
    launch = toys.launch("killed", wait=str(gate))
    assert toys.read(launch)["job_id"] is None
    launcher = toys.launcher()
    assert launcher.state(launch.folder).alive
    assert not launcher.submit([launch])
    assert toys.read(launch)["job_id"]
    gate.touch()
    ended(launcher, launch)
    assert launch.folder.finished
    assert (launch.folder.path.parent / "starts").read_text() == "x"


def test_a_submission_that_never_reached_the_queue_is_made_again(toys: Toys) -> None:
    launch = toys.launch("lost", value=1)
    launcher = toys.launcher()
    launcher.submit([launch])
    record = dict(toys.read(launch))
    ended(launcher, launch)
    launch.folder.result.unlink()
    write_json(launch.folder.launch, {**record, "job_id": None, "job_name": "olmo.never"})
    assert "never came" in launcher.state(launch.folder).description
    assert launcher.submit([launch])
    assert toys.read(launch)["submission"] == 2
    ended(launcher, launch)
    assert launch.folder.finished


@pytest.mark.parametrize("moment", ["pending", "running"])
def test_cancel_leaves_no_process_and_touches_nothing_else(
    toys: Toys, moment: str, request: pytest.FixtureRequest
) -> None:
    launcher = toys.launcher()
    other = toys.launch("other", wait="/nonexistent")
    launcher.submit([other])
    other_pid = until(lambda: (other.folder.read_status() or {}).get("pid"), "the other's start")
    launch = toys.launch("cancelled", wait="/nonexistent", child=True)
    mine = toys.launcher(partition="hi" if moment == "running" else "main")
    if moment == "pending":
        toys.cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
        request.addfinalizer(
            lambda: toys.cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
        )
    mine.submit([launch])
    pids: list[int] = []
    if moment == "pending":
        until(lambda: "pending: " in mine.state(launch.folder).description, "pending")
    else:
        child = until(lambda: _number(launch.folder.path / "child"), "the job's child")
        pids = [child, (launch.folder.read_status() or {})["pid"]]
        assert all(alive(pid) for pid in pids)
    began = time.monotonic()
    mine.cancel([launch.folder])
    took = time.monotonic() - began
    assert took < 10
    assert not any(alive(pid) for pid in pids)
    job = toys.read(launch)["job_id"]
    assert toys.cluster.processes(job) == []
    assert not mine.state(launch.folder).alive
    assert alive(other_pid)
    assert launcher.state(other.folder).alive
    launcher.cancel([other.folder])
    assert not alive(other_pid)
    assert mine.submit([launch])  # the old request is no word to the new job
    if moment == "running":
        until(lambda: alive(_number(launch.folder.path / "child") or 0), "the new job's child")
    mine.cancel([launch.folder])
    if moment == "running":
        TABLE.add("cancel", "no process left after 10 s", f"none after {took:.1f} s")


def test_a_controller_that_is_down_is_no_news_of_a_job(toys: Toys, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    launch = toys.launch("patient", wait=str(gate))
    launcher = toys.launcher()
    launcher.submit([launch])
    until(lambda: "running on" in launcher.state(launch.folder).description, "running")
    toys.cluster.stop_controller()
    try:
        said = until(lambda: _matching(launcher, launch, "Slurm has not answered"), "the error")
        with pytest.raises(EngineError, match="not submitted, since an earlier job"):
            toys.launcher().submit([launch])
        assert launcher.state(launch.folder).alive
    finally:
        toys.cluster.start_controller()
    until(lambda: _matching(launcher, launch, "running on"), "the controller's return")
    gate.touch()
    assert ended(launcher, launch).ended == "COMPLETED"
    assert launch.folder.finished
    TABLE.add("slurmctld restarted in the middle", "never taken for an end", said)


def test_a_job_that_the_queue_has_forgotten_has_ended_as_the_log_of_jobs_says(toys: Toys) -> None:
    launch = toys.launch("forgotten", fail=True)
    launcher = toys.launcher()
    launcher.submit([launch])
    job_id = toys.read(launch)["job_id"]
    ended(launcher, launch)
    log = toys.cluster.folder / "log" / "jobcomp.log"
    text = log.read_text()
    line = next(line for line in text.splitlines() if line.startswith(f"JobId={job_id} "))
    log.write_text(text + line.replace(f"JobId={job_id} ", "JobId=999999 ") + "\n")
    write_json(launch.folder.launch, {**toys.read(launch), "job_id": "999999"})
    state = toys.launcher().state(launch.folder)
    assert (state.alive, state.ended, state.exit_code) == (False, "FAILED", 3)
    write_json(launch.folder.launch, {**toys.read(launch), "job_id": "999998"})
    assert "no longer known" in toys.launcher().state(launch.folder).description


@pytest.mark.parametrize("end", ["", "\\x\\"])
def test_odd_paths_are_taken_as_they_are(toys: Toys, tmp_path: Path, end: str) -> None:
    canary = tmp_path / "canary"
    odd = tmp_path / f"a b%j%%\n'\"$(touch {canary.name})`touch {canary.name}`;&{end}"
    launch = toys.launch("odd", value=3)
    launch = replace(launch, folder=RunFolder(odd / "toy" / "odd" / "0"))
    launcher = toys.launcher()
    launcher.submit([launch])
    ended(launcher, launch)
    log = launch.folder.path / toys.read(launch)["log"]
    assert launch.folder.finished, log.read_text() if log.exists() else "no log"
    assert log.stat().st_size > 0
    assert not list(tmp_path.rglob(canary.name))


def _matching(launcher: SlurmLauncher, launch: Launch, words: str) -> str:
    said = launcher.state(launch.folder).description
    return said if words in said else ""


def _number(path: Path) -> int | None:
    return int(path.read_text()) if path.exists() else None
