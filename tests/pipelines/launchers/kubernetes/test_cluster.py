"""Following, diagnosing and ending jobs of Kubernetes, against a stand-in API server."""

import json
from pathlib import Path
from typing import Any

import pytest

from assets.launcher import EngineError, EngineUnavailable
from olmo_core.errors import ConfigError
from tests.pipelines.launchers.kubernetes.kubernetes_bench import (
    RUNNING,
    Bench,
    recorded,
    terminated,
)
from tests.pipelines.launchers.kubernetes.kubernetes_server import write_kubeconfig


def test_two_hundred_jobs_cost_two_lists_an_interval(bench: Bench) -> None:
    launcher = bench.launcher(poll_seconds=3600)
    launches = [bench.launch(f"asset{number}") for number in range(200)]
    launcher.submit([launches[0]])
    job, record = bench.cluster.objects.pop(("jobsets", bench.job())), recorded(launches[0])
    for number, launch in enumerate(launches):
        name = f"job{number}"
        bench.cluster.objects["jobsets", name] = {
            **job,
            "metadata": {**job["metadata"], "name": name},
        }
        bench.cluster.add_pod(name, 0, node=f"n{number}", **RUNNING)
        launch.folder.path.mkdir(parents=True, exist_ok=True)
        launch.folder.launch.write_text(json.dumps({**record, "job_name": name}))
    before = len(bench.cluster.calls)
    for _ in range(3):
        states = [launcher.state(launch.folder).description for launch in launches]
        assert states == [f"running on n{number}" for number in range(200)]
    assert bench.cluster.calls[before:] == [("GET", "jobsets"), ("GET", "pods")]


def test_long_lists_come_in_pages_and_begin_anew_when_they_expire(bench: Bench) -> None:
    bench.cluster.page, bench.cluster.expire = 2, True
    launcher = bench.launcher()
    launches = [bench.launch(f"asset{number}") for number in range(5)]
    assert all([launcher.submit([launch]) for launch in launches])
    before = bench.cluster.count("GET", "jobsets")
    assert all(launcher.state(launch.folder).alive for launch in launches[:1])
    assert bench.cluster.count("GET", "jobsets") - before == 5  # one, the expired one, all three


def unschedulable(reason: str, message: str) -> dict[str, Any]:
    said = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return {"phase": "Pending", "conditions": [said]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"state": state}]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (unschedulable("Unschedulable", "0/3 nodes\n  are available"), "0/3 nodes are available"),
        (waiting("ImagePullBackOff", 'pulling "olmo"'), 'pod 1: ImagePullBackOff: pulling "olmo"'),
        (waiting("CreateContainerConfigError", 'secret "wandb" not found'), "wandb"),
        (waiting("ContainerCreating"), "pod 1: ContainerCreating"),
    ],
)
def test_what_a_pod_waits_for_is_said(bench: Bench, status: dict[str, Any], reason: str) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    bench.cluster.add_pod(bench.job(), 1, **status)
    state = launcher.state(launch.folder)
    assert state.alive
    assert state.queued
    assert reason in state.description
    bench.cluster.add_pod(bench.job(), 0, node="n1", **RUNNING)
    state = launcher.state(launch.folder)
    assert not state.queued
    assert state.description.startswith("1 of 2 pods run; pending: pod 1: ")


def test_a_quota_that_lets_no_pod_be_made_is_said(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    for number, message in enumerate(["older", "exceeded quota: gpus"]):
        bench.cluster.objects["events", str(number)] = {
            "metadata": {"name": str(number)},
            "involvedObject": {"kind": "Job", "name": f"{bench.job()}-node-0"},
            "reason": "FailedCreate",
            "message": message,
            "lastTimestamp": f"2026-01-01T00:00:0{number}Z",
        }
    state = launcher.state(launch.folder)
    assert (state.alive, state.queued) == (True, True)
    assert state.description == "pending: FailedCreate: exceeded quota: gpus"


def test_a_queue_of_kueues_is_said(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher(queue="team")
    launcher.submit([launch])
    assert launcher.state(launch.folder).description == "pending: in Kueue's queue team"


def test_an_end_is_found_with_its_exit_code(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    bench.cluster.end("jobsets", bench.job(), "Completed")
    state = launcher.state(launch.folder)
    assert (state.alive, state.exit_code, state.ended) == (False, 0, "Complete")
    reason = "FailJobSetFailurePolicyAction"
    bench.cluster.end("jobsets", bench.job(), "Failed", reason, "first failed job")
    bench.cluster.add_pod(bench.job(), 0, node="n1", **terminated(75))
    bench.cluster.add_pod(bench.job(), 1, node="n2", **terminated(3))
    state = launcher.state(launch.folder)
    assert (state.alive, state.exit_code, state.ended) == (False, 3, reason)
    assert state.description == f"pod 1 on n2: Error, exit code 3; {reason}: first failed job"


def test_out_of_memory_is_told_apart(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    bench.cluster.end("jobsets", bench.job(), "Failed", "BackoffLimitExceeded")
    bench.cluster.add_pod(bench.job(), 0, node="n1", **terminated(1))
    bench.cluster.add_pod(bench.job(), 1, node="n2", **terminated(137, "OOMKilled"))
    state = launcher.state(launch.folder)
    assert (state.exit_code, state.ended) == (-9, "OOMKilled")
    assert state.description.startswith("pod 1 on n2: OOMKilled, exit code 137")


def test_cancel_deletes_the_job_first_and_hurries_its_pods(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    other = bench.launch("stage2")
    launcher.submit([other])
    name, kept = recorded(launch)["job_name"], recorded(other)["job_name"]
    for job in (name, kept):
        bench.cluster.add_pod(job, 0, **RUNNING)
    bench.cluster.failing("DELETE", "jobsets", 500)  # once: it is sent again
    launcher.cancel([launch.folder])
    assert launch.folder.cancel.exists()
    (_, first, how), (pods, _, grace) = bench.cluster.bodies
    assert (first, how["propagationPolicy"]) == (name, "Foreground")
    assert (pods, grace["gracePeriodSeconds"]) == ("pods", 8)
    assert bench.cluster.named("jobsets") == [kept]
    assert [pod.rpartition("-0-")[0] for pod in bench.cluster.named("pods")] == [kept]
    state = launcher.state(launch.folder)
    assert (state.alive, state.ended) == (False, "deleted")
    launcher.cancel([launch.folder])  # again: no error


def test_a_job_that_is_being_deleted_is_not_gone_yet(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    bench.cluster.objects["jobsets", bench.job()]["metadata"]["deletionTimestamp"] = "now"
    state = launcher.state(launch.folder)
    assert (state.alive, state.description) == (True, "being deleted")


@pytest.mark.parametrize("status", [0, 403, 429, 500])
def test_a_server_that_does_not_answer_says_nothing_of_the_job(bench: Bench, status: int) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    bench.cluster.failing("GET", "jobsets", status)
    with pytest.raises(EngineError, match="Kubernetes, namespace lm: GET JobSet: ") as raised:
        launcher.state(launch.folder)  # never asked before
    assert isinstance(raised.value, EngineUnavailable) == (status != 403)
    bench.cluster.add_pod(bench.job(), 0, node="n1", **RUNNING)
    assert launcher.state(launch.folder).description == "running on n1"
    bench.cluster.failing("GET", "jobsets", status)
    state = launcher.state(launch.folder)
    assert state.alive
    assert state.description.startswith("running on n1; 0 s ago, since then: Kubernetes, ")
    bench.cluster.failing("GET", "jobsets", status)
    with pytest.raises(EngineError, match="GET JobSet"):  # a job that it did not know of before
        launcher.state(bench.submitted("stage2"))
    launcher._jobs("JobSet").patience_seconds = 0
    bench.cluster.failing("GET", "jobsets", status)
    with pytest.raises(EngineError, match="GET JobSet"):
        launcher.state(launch.folder)
    assert launcher.state(launch.folder).description == "running on n1"


def test_no_server_at_all_is_said(bench: Bench, tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match=r"no answer: .*refused"):
        bench.launcher().submit([bench.launch()])
    (tmp_path / "kubeconfig").unlink()
    with pytest.raises(ConfigError, match="no way to the API server"):
        bench.launcher(context="toy").submit([bench.launch("stage2")])


def test_a_train_job_is_started_followed_and_cancelled(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher(kind="trainjob")
    assert launcher.submit([launch])
    name = bench.job()
    assert len(bench.cluster.named("trainingruntimes")) == 1
    assert not bench.launcher(kind="trainjob").submit([launch])
    other = bench.launch("stage2")
    assert launcher.submit([other])  # over the same runtime
    assert len(bench.cluster.named("trainingruntimes")) == 1
    bench.cluster.add_pod(name, 0, node="n1", **RUNNING)
    assert launcher.state(launch.folder).description == "running on n1"
    launcher.cancel([launch.folder])
    assert launcher.state(launch.folder).ended == "deleted"
    bench.cluster.end("trainjobs", recorded(other)["job_name"], "Failed", "TrainJobFailed")
    assert launcher.state(other.folder).ended == "TrainJobFailed"
