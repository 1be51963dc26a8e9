"""The Kubernetes engine against a stand-in API server: no live cluster has seen it yet."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.launcher import EngineUnavailable, Launch
from olmo_core.config.load import ConfigError
from olmo_core.run.folder import RunFolder, locked
from pipelines.launchers.kubernetes import KubernetesLauncher
from pipelines.launchers.kubernetes_api import KubernetesError, NotAnswering
from pipelines.launchers.router import site_launcher
from pipelines.launchers.submission import LauncherClosed
from pipelines.site import KubernetesSite, Site, Work
from tests.pipelines.kubernetes_server import Cluster, api_server, write_kubeconfig


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A launcher, the cluster that it talks to, and launches for it."""

    cluster: Cluster
    root: Path
    site: Site

    def launcher(self, *, poll_seconds: float = 0, **changes: Any) -> KubernetesLauncher:
        """A launcher of its own, as in a process of its own; it does not pause."""
        assert self.site.kubernetes is not None
        kubernetes = replace(self.site.kubernetes, **changes)
        made = KubernetesLauncher(site=replace(self.site, kubernetes=kubernetes))
        made._jobs.poll_seconds = poll_seconds
        made._jobs.api.pauses_seconds = (0, 0, 0)
        return made

    def launch(self, asset: str = "stage1", **changes: Any) -> Launch:
        made = Launch(
            folder=RunFolder(self.root / "demo" / asset / "0"),
            module="olmo_core.train",
            stage="train",
            config={"config": {"x": "$(touch canary)"}},
            identity={"recipe": "demo", "asset": asset, "fingerprint": "f"},
            distributed=True,
            environment={"OLMO_ROOT": str(self.root)},
        )
        return replace(made, **changes)

    def submitted(self, asset: str) -> RunFolder:
        """A folder whose job another process has submitted."""
        launch = self.launch(asset)
        self.launcher().submit(launch)
        return launch.folder

    def job(self) -> str:
        """The name of the one Job, or TrainJob, that there is."""
        (name,) = self.cluster.named("jobs") + self.cluster.named("trainjobs")
        return name


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    cluster = Cluster()
    root = tmp_path / "olmo"
    site = Site(
        kubernetes=KubernetesSite(
            image="registry.example.org/olmo:1", namespace="lm", claim="results", root=str(root)
        ),
        work={"train": Work(engine="kubernetes", nodes=2, processes_per_node=2, cpus_per_node=4)},
    )
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with api_server(cluster) as url:
        write_kubeconfig(tmp_path / "kubeconfig", url)
        yield Bench(cluster=cluster, root=root, site=site)


def recorded(launch: Launch) -> dict[str, Any]:
    return launch.folder.read(launch.folder.launch) or {}


def terminated(code: int, reason: str = "Error") -> dict[str, Any]:
    end = {"exitCode": code, "reason": reason}
    return {"phase": "Failed", "containerStatuses": [{"state": {"terminated": end}}]}


RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}


def test_a_submission_is_recorded_and_found_again_by_another_process(bench: Bench) -> None:
    launch = bench.launch()
    assert bench.launcher().submit(launch)
    name = bench.job()
    record = recorded(launch)
    assert record["job_id"] == f"lm/{name}"
    assert record["run"]["nodes"] == record["run"]["processes_per_node"] == 2
    assert record["run"]["threads"] == 2
    job = bench.cluster.objects["jobs", name]
    key = (launch.folder.read(launch.folder.claim) or {})["key"]
    assert job["metadata"]["labels"]["olmo/key"] == key
    assert key[:12] in name
    service = bench.cluster.objects["services", name]
    assert service["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    other = bench.launcher()
    assert other.state(launch.folder).alive
    assert not other.submit(launch)
    assert bench.cluster.named("jobs") == [name]


def test_the_router_sends_work_there_and_stays_with_it(bench: Bench) -> None:
    launch = bench.launch()
    router = site_launcher(bench.site)
    assert router.submit(launch)
    assert not router.submit(launch)
    assert router.state(launch.folder).queued


@pytest.mark.parametrize("done", [True, False])
def test_a_connection_closed_in_the_act_starts_one_job(bench: Bench, done: bool) -> None:
    bench.cluster.failing("POST", "jobs", 0, done=done)
    launch = bench.launch()
    assert bench.launcher().submit(launch) is not done  # what is there already, is not started
    assert recorded(launch)["job_id"] == f"lm/{bench.job()}"
    assert bench.cluster.count("POST", "jobs") == 2


def test_a_submitter_that_died_before_its_record_is_adopted(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit(launch)
    name = bench.job()
    # As it is between the creation of the Job and all that follows.
    record = {**recorded(launch), "job_id": None}
    launch.folder.launch.write_text(json.dumps(record))
    del bench.cluster.objects["services", name]
    assert not bench.launcher().submit(launch)
    assert bench.cluster.named("jobs") == bench.cluster.named("services") == [name]
    assert recorded(launch)["job_id"] == f"lm/{name}"


def test_nothing_is_submitted_while_the_server_cannot_say_what_there_is(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit(launch)
    for _ in range(8):
        bench.cluster.failing("GET", "jobs", 500)
    with pytest.raises(NotAnswering, match=r"namespace lm: GET Job .*500"):
        bench.launcher().submit(launch)
    assert bench.cluster.count("POST", "jobs") == 1


def test_a_job_that_has_failed_is_followed_by_another_of_a_new_name(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit(launch)
    first = bench.job()
    bench.cluster.end("jobs", first, "Failed", "BackoffLimitExceeded")
    assert bench.launcher().submit(launch)
    second = recorded(launch)["job_name"]
    assert bench.cluster.named("jobs") == sorted([first, second])
    assert (first[-2:], second[-2:]) == ("-1", "-2")


def test_a_name_that_another_has_taken_is_refused(bench: Bench) -> None:
    launch = bench.launch()
    (launch.folder.path).mkdir(parents=True)
    # A claim whose next job, as it happens, is somebody else's.
    claim = {"schema_version": 1, "key": "0" * 12, "attempt": 0}
    launch.folder.claim.write_text(json.dumps(claim))
    dry = yaml.safe_load_all(bench.launcher().dry_run(launch, bench.site.work_of(launch)))
    job = next(iter(dry))
    job["metadata"] = {"name": job["metadata"]["name"], "labels": {}, "uid": "1"}
    bench.cluster.objects["jobs", job["metadata"]["name"]] = job
    with pytest.raises(KubernetesError, match="not of this run folder"):
        bench.launcher().submit(launch)


def test_what_is_forbidden_is_said_with_what_to_do(bench: Bench) -> None:
    bench.cluster.failing("POST", "jobs", 403)
    with pytest.raises(KubernetesError, match=r"POST Job: 403 .*docs/kubernetes\.md"):
        bench.launcher().submit(bench.launch())
    assert bench.cluster.count("POST", "jobs") == 1


def test_a_namespace_that_is_not_there_is_told_from_a_job_that_is_not(bench: Bench) -> None:
    with pytest.raises(KubernetesError, match="is the namespace right"):
        bench.launcher(namespace="elsewhere").submit(bench.launch())


def test_what_another_process_is_just_submitting_is_not_taken_for_gone(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit(launch)
    name = bench.job()
    job = bench.cluster.objects.pop(("jobs", name))
    launch.folder.launch.write_text(json.dumps({**recorded(launch), "job_id": None}))
    other = bench.launcher()
    with locked(launch.folder.path / "submit.lock"):
        assert other.state(launch.folder).description == "being submitted to Kubernetes"
    assert not other.state(launch.folder).alive  # its submitter died before it was sent
    bench.cluster.objects["jobs", name] = job
    assert other.state(launch.folder).alive


def test_the_pods_run_a_gang_and_the_record_says_how(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit(launch)
    folder, run = str(launch.folder.path), recorded(launch)["run"]
    pod = bench.cluster.objects["jobs", bench.job()]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["python", "-m", "olmo_core.run.gang", folder]
    assert run["command"] == ["python", "-m", "olmo_core.run.gang", folder, "--attempt"]
    assert run["each_node"] == ["python", "-m", "olmo_core.parallel.node", folder]
    assert recorded(launch)["command"] == ["olmo", "launch", "demo", "stage1"]
    alone = bench.launch("tokens", distributed=False)
    bench.launcher().submit(alone)
    module = ["python", "-m", "olmo_core.train", str(alone.folder.config)]
    assert recorded(alone)["run"]["command"] == module
    assert recorded(alone)["run"]["nodes"] == 1
    assert len(bench.cluster.named("services")) == 1


def test_a_closed_launcher_starts_nothing(bench: Bench) -> None:
    launcher = bench.launcher()
    launcher.close()
    with pytest.raises(LauncherClosed):
        launcher.submit(bench.launch())
    assert bench.cluster.named("jobs") == []


def test_folders_outside_the_volume_are_refused(bench: Bench, tmp_path: Path) -> None:
    launch = bench.launch(folder=RunFolder(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match=r"kubernetes: root: .*elsewhere"):
        bench.launcher().submit(launch)


def test_two_hundred_jobs_cost_two_lists_an_interval(bench: Bench) -> None:
    launcher = bench.launcher(poll_seconds=3600)
    launches = [bench.launch(f"asset{number}") for number in range(200)]
    launcher.submit(launches[0])
    job, record = bench.cluster.objects.pop(("jobs", bench.job())), recorded(launches[0])
    for number, launch in enumerate(launches):
        name = f"job{number}"
        bench.cluster.objects["jobs", name] = {**job, "metadata": {**job["metadata"], "name": name}}
        bench.cluster.add_pod(name, 0, node=f"n{number}", **RUNNING)
        launch.folder.path.mkdir(parents=True, exist_ok=True)
        launch.folder.launch.write_text(json.dumps({**record, "job_name": name}))
    before = len(bench.cluster.calls)
    for _ in range(3):
        states = [launcher.state(launch.folder).description for launch in launches]
        assert states == [f"running on n{number}" for number in range(200)]
    assert bench.cluster.calls[before:] == [("GET", "jobs"), ("GET", "pods")]


def test_long_lists_come_in_pages_and_begin_anew_when_they_expire(bench: Bench) -> None:
    bench.cluster.page, bench.cluster.expire = 2, True
    launcher = bench.launcher()
    launches = [bench.launch(f"asset{number}") for number in range(5)]
    assert all([launcher.submit(launch) for launch in launches])
    before = bench.cluster.count("GET", "jobs")
    assert all(launcher.state(launch.folder).alive for launch in launches[:1])
    assert bench.cluster.count("GET", "jobs") - before == 5  # one, the expired one, all three


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
    launcher.submit(launch)
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
    launcher.submit(launch)
    for number, message in enumerate(["older", "exceeded quota: gpus"]):
        bench.cluster.objects["events", str(number)] = {
            "metadata": {"name": str(number)},
            "involvedObject": {"kind": "Job", "name": bench.job()},
            "reason": "FailedCreate",
            "message": message,
            "lastTimestamp": f"2026-01-01T00:00:0{number}Z",
        }
    state = launcher.state(launch.folder)
    assert (state.alive, state.queued) == (True, True)
    assert state.description == "pending: FailedCreate: exceeded quota: gpus"


def test_a_queue_of_kueues_is_said(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher(queue="team")
    launcher.submit(launch)
    assert launcher.state(launch.folder).description == "pending: in Kueue's queue team"


def test_an_end_is_found_with_its_exit_code(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit(launch)
    bench.cluster.end("jobs", bench.job(), "Complete")
    state = launcher.state(launch.folder)
    assert (state.alive, state.exit_code, state.ended) == (False, 0, "Complete")
    bench.cluster.end("jobs", bench.job(), "Failed", "PodFailurePolicy", "exit code 3")
    bench.cluster.add_pod(bench.job(), 1, node="n2", **terminated(143))
    bench.cluster.add_pod(bench.job(), 0, node="n1", **terminated(3))
    state = launcher.state(launch.folder)
    assert (state.alive, state.exit_code, state.ended) == (False, 3, "PodFailurePolicy")
    assert state.description == "pod 0 on n1: Error, exit code 3; PodFailurePolicy: exit code 3"


def test_out_of_memory_is_told_apart(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit(launch)
    bench.cluster.end("jobs", bench.job(), "Failed", "BackoffLimitExceeded")
    bench.cluster.add_pod(bench.job(), 0, node="n1", **terminated(1))
    bench.cluster.add_pod(bench.job(), 1, node="n2", **terminated(137, "OOMKilled"))
    state = launcher.state(launch.folder)
    assert (state.exit_code, state.ended) == (-9, "OOMKilled")
    assert state.description.startswith("pod 1 on n2: OOMKilled, exit code 137")


def test_cancel_deletes_the_job_first_and_hurries_its_pods(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit(launch)
    other = bench.launch("stage2")
    launcher.submit(other)
    name, kept = recorded(launch)["job_name"], recorded(other)["job_name"]
    for job in (name, kept):
        bench.cluster.add_pod(job, 0, **RUNNING)
    bench.cluster.failing("DELETE", "jobs", 500)  # once: it is sent again
    launcher.cancel(launch.folder)
    assert launch.folder.cancel.exists()
    (_, first, how), (pods, _, grace) = bench.cluster.bodies
    assert (first, how["propagationPolicy"]) == (name, "Foreground")
    assert (pods, grace["gracePeriodSeconds"]) == ("pods", 8)
    assert bench.cluster.named("jobs") == [kept]
    assert [pod.rpartition("-0-")[0] for pod in bench.cluster.named("pods")] == [kept]
    state = launcher.state(launch.folder)
    assert (state.alive, state.ended) == (False, "deleted")
    launcher.cancel(launch.folder)  # again: no error


def test_a_job_that_is_being_deleted_is_not_gone_yet(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit(launch)
    bench.cluster.objects["jobs", bench.job()]["metadata"]["deletionTimestamp"] = "now"
    state = launcher.state(launch.folder)
    assert (state.alive, state.description) == (True, "being deleted")


@pytest.mark.parametrize("status", [0, 403, 429, 500])
def test_a_server_that_does_not_answer_says_nothing_of_the_job(bench: Bench, status: int) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit(launch)
    bench.cluster.failing("GET", "jobs", status)
    with pytest.raises(KubernetesError, match="Kubernetes, namespace lm: GET Job: ") as raised:
        launcher.state(launch.folder)  # never asked before
    assert isinstance(raised.value, EngineUnavailable) == (status != 403)
    bench.cluster.add_pod(bench.job(), 0, node="n1", **RUNNING)
    assert launcher.state(launch.folder).description == "running on n1"
    bench.cluster.failing("GET", "jobs", status)
    state = launcher.state(launch.folder)
    assert state.alive
    assert state.description.startswith("running on n1; 0 s ago, since then: Kubernetes, ")
    bench.cluster.failing("GET", "jobs", status)
    with pytest.raises(KubernetesError):  # of a job that it did not know of before
        launcher.state(bench.submitted("stage2"))
    launcher._jobs.patience_seconds = 0
    bench.cluster.failing("GET", "jobs", status)
    with pytest.raises(KubernetesError):
        launcher.state(launch.folder)
    assert launcher.state(launch.folder).description == "running on n1"


def test_no_server_at_all_is_said(bench: Bench, tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    with pytest.raises(NotAnswering, match=r"no answer: .*refused"):
        bench.launcher().submit(bench.launch())
    (tmp_path / "kubeconfig").unlink()
    with pytest.raises(ConfigError, match="no way to the API server"):
        bench.launcher(context="toy").submit(bench.launch("stage2"))


def test_a_train_job_is_started_followed_and_cancelled(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher(kind="trainjob")
    assert launcher.submit(launch)
    name = bench.job()
    assert len(bench.cluster.named("trainingruntimes")) == 1
    assert not bench.launcher(kind="trainjob").submit(launch)
    assert launcher.submit(bench.launch("stage2"))  # over the same runtime
    assert len(bench.cluster.named("trainingruntimes")) == 1
    bench.cluster.add_pod(name, 0, node="n1", **RUNNING)
    assert launcher.state(launch.folder).description == "running on n1"
    bench.cluster.end("trainjobs", name, "Failed", "TrainJobFailed")
    assert launcher.state(launch.folder).ended == "TrainJobFailed"
    launcher.cancel(launch.folder)
    assert launcher.state(launch.folder).ended == "deleted"


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(bench: Bench) -> None:
    launch = bench.launch()
    text = bench.launcher().dry_run(launch, bench.site.work_of(launch))
    job, service = yaml.safe_load_all(text)
    assert (job["kind"], service["kind"]) == ("Job", "Service")
    assert bench.cluster.calls == []
    assert not launch.folder.path.exists()


def test_definitions_load_without_the_client() -> None:
    code = "import sys, pipelines.launchers.router; print('kubernetes' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "False"
