"""A requeued Slurm job is followed under the fingerprint that it was accepted as."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from assets.execution.produce import Produced, launch_of, main_line_work
from olmo_core.run.accepted import read_acceptances, write_acceptance
from pipelines.cli.accept import acceptances_of
from tests.conftest import SilentObserver, make_work, toy_graph
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys, set_up, until

pytestmark = pytest.mark.slurm


def test_a_requeued_job_whose_difference_is_accepted_is_followed(
    cluster: Cluster, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, cluster)
    site = tmp_path / "site.yaml"
    site.write_text("slurm: {poll_seconds: 0.3}\n")
    monkeypatch.setenv("OLMO_SITE", str(site))
    launcher = Toys(cluster=cluster, root=toy_root).launcher()
    gate = tmp_path / "gate"
    before = toy_graph(first={"wait": str(gate)})
    launch = launch_of(main_line_work(before, "first", toy_root), toy_root)
    assert launcher.submit([launch])
    begun = launch.folder.path.parent / "starts"
    until(begun.exists, "the first start")
    record = launch.folder.read(launch.folder.launch)
    assert record is not None
    cluster.run("scontrol", "requeue", record["job_id"])
    until(lambda: launcher.state(launch.folder).queued, "in the queue again")
    first = replace(before.nodes["first"], packages=("numpy",))
    changed = replace(before, nodes={**before.nodes, "first": first})
    assert changed.fingerprints["first"].value != before.fingerprints["first"].value
    for acceptance in acceptances_of(changed, ["first"], because="same", config=()):
        write_acceptance(toy_root, acceptance)
    accepted = replace(changed, acceptances=read_acceptances(toy_root))
    made: list[Produced] = []

    def follow() -> None:
        work = main_line_work(accepted, "first", toy_root)
        observer = SilentObserver()
        made.append(make_work(work, root=toy_root, launcher=launcher, observer=observer))

    thread = threading.Thread(target=follow)
    thread.start()
    until(lambda: begun.read_text() == "xx", "the second start")
    gate.touch()
    thread.join(timeout=90)
    assert [produced.how for produced in made] == ["following"]
    assert made[0].folder.path == launch.folder.path
    after = launch.folder.read(launch.folder.launch)
    assert after is not None
    assert after["job_id"] == record["job_id"]
    assert made[0].result["fingerprint"] == before.fingerprints["first"].value
