"""One task of an array is ended, at work or still waiting, and the others know nothing of it."""

from pathlib import Path

import pytest

from assets.launcher import Launch
from olmo_core.run.folder import RunFolder
from pipelines.launchers.router import Router, site_launcher
from pipelines.site.file import ResourceSpec, Site, SlurmSite
from tests.pipelines.cli.test_launch import wait_for
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


@pytest.fixture
def launcher(cluster: Cluster, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Router:
    for key, value in cluster.environment.items():
        monkeypatch.setenv(key, value)
    slurm = SlurmSite(poll_seconds=0.2, pass_environment=("PYTHONPATH",))
    # Two cores a node, three nodes: three tasks at work, the fourth waits.
    corpus = ResourceSpec(engine="slurm", cpus_per_node=2)
    return site_launcher(Site(slurm=slurm, work={"corpus": corpus}))


def test_one_task_is_ended_and_no_other(launcher: Router, toy_root: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    launches = [
        Launch(
            folder=RunFolder(toy_root / "toy" / "first" / str(number)),
            module="toy_job",
            stage="corpus",
            config={"config": {"wait": str(gate)}, "inputs": {}},
            identity={"recipe": "toy", "asset": "first", "fingerprint": str(number)},
            environment={"OLMO_ROOT": str(toy_root)},
        )
        for number in range(5)
    ]
    assert len(launcher.submit(launches)) == 5
    try:
        wait_for(lambda: sum(queued(launcher, launches)) == 2)
        wait_for(lambda: sum(launch.folder.is_running() for launch in launches) == 3)
        waiting = [one for one in launches if launcher.state(one.folder).queued]
        launcher.cancel([waiting[0].folder])
        assert alive(launcher, launches) == [one is not waiting[0] for one in launches]
        at_work = next(one for one in launches if one.folder.is_running())
        launcher.cancel([at_work.folder])
        assert not at_work.folder.is_running()
        ended = (waiting[0], at_work)
        assert alive(launcher, launches) == [one not in ended for one in launches]
        gate.touch()
        wait_for(lambda: sum(launch.folder.finished for launch in launches) == 3)
    finally:
        launcher.cancel([launch.folder for launch in launches])
        assert not any(alive(launcher, launches))


def queued(launcher: Router, launches: list[Launch]) -> list[bool]:
    return [launcher.state(launch.folder).queued for launch in launches]


def alive(launcher: Router, launches: list[Launch]) -> list[bool]:
    return [launcher.state(launch.folder).alive for launch in launches]
