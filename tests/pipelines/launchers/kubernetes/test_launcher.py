"""Submitting to Kubernetes, against a stand-in API server: no live cluster has seen it yet."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assets.launcher import EngineError, EngineUnavailable
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder, locked
from pipelines.launchers.router import site_launcher
from tests.pipelines.launchers.kubernetes.kubernetes_bench import Bench, recorded


def test_a_submission_is_recorded_and_found_again_by_another_process(bench: Bench) -> None:
    launch = bench.launch()
    assert bench.launcher().submit([launch])
    name = bench.job()
    record = recorded(launch)
    assert record["job_id"] == f"lm/{name}"
    assert record["run"]["nodes"] == record["run"]["processes_per_node"] == 2
    assert record["run"]["threads"] == 2
    job = bench.cluster.objects["jobsets", name]
    key = (launch.folder.read(launch.folder.claim) or {})["key"]
    assert job["metadata"]["labels"]["olmo/key"] == key
    assert key[:12] in name
    other = bench.launcher()
    assert other.state(launch.folder).alive
    assert not other.submit([launch])
    assert bench.cluster.named("jobsets") == [name]


def test_the_router_sends_work_there_and_stays_with_it(bench: Bench) -> None:
    launch = bench.launch()
    router = site_launcher(bench.site)
    assert router.submit([launch])
    assert not router.submit([launch])
    assert router.state(launch.folder).queued


@pytest.mark.parametrize("done", [True, False])
def test_a_connection_closed_in_the_act_starts_one_job(bench: Bench, done: bool) -> None:
    bench.cluster.failing("POST", "jobsets", 0, done=done)
    launch = bench.launch()
    assert bench.launcher().submit([launch]) is not done  # what is there already, is not started
    assert recorded(launch)["job_id"] == f"lm/{bench.job()}"
    assert bench.cluster.count("POST", "jobsets") == 2


def test_a_submitter_that_died_before_its_record_is_adopted(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit([launch])
    name = bench.job()
    # As it is between the creation of the JobSet and its record.
    record = {**recorded(launch), "job_id": None}
    launch.folder.launch.write_text(json.dumps(record))
    assert not bench.launcher().submit([launch])
    assert bench.cluster.named("jobsets") == [name]
    assert recorded(launch)["job_id"] == f"lm/{name}"


def test_nothing_is_submitted_while_the_server_cannot_say_what_there_is(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit([launch])
    for _ in range(8):
        bench.cluster.failing("GET", "jobsets", 500)
    with pytest.raises(EngineUnavailable, match=r"namespace lm: GET JobSet .*500"):
        bench.launcher().submit([launch])
    assert bench.cluster.count("POST", "jobsets") == 1


def test_a_job_that_has_failed_is_followed_by_another_of_a_new_name(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit([launch])
    first = bench.job()
    bench.cluster.end("jobsets", first, "Failed", "BackoffLimitExceeded")
    assert bench.launcher().submit([launch])
    second = recorded(launch)["job_name"]
    assert bench.cluster.named("jobsets") == sorted([first, second])
    assert (first[-2:], second[-2:]) == ("-1", "-2")


def test_a_name_that_another_has_taken_is_refused(bench: Bench) -> None:
    launch = bench.launch()
    (launch.folder.path).mkdir(parents=True)
    # A claim whose next job, as it happens, is somebody else's.
    claim = {"schema_version": 1, "key": "0" * 12, "submission": 0}
    launch.folder.claim.write_text(json.dumps(claim))
    dry = yaml.safe_load_all(bench.launcher().dry_run(launch))
    job = next(iter(dry))
    job["metadata"] = {"name": job["metadata"]["name"], "labels": {}, "uid": "1"}
    bench.cluster.objects["jobsets", job["metadata"]["name"]] = job
    with pytest.raises(EngineError, match="not of this run folder"):
        bench.launcher().submit([launch])


def test_what_is_forbidden_is_said_with_what_to_do(bench: Bench) -> None:
    bench.cluster.failing("POST", "jobsets", 403)
    with pytest.raises(EngineError, match=r"POST JobSet: 403 .*docs/kubernetes\.md"):
        bench.launcher().submit([bench.launch()])
    assert bench.cluster.count("POST", "jobsets") == 1


def test_a_namespace_that_is_not_there_is_told_from_a_job_that_is_not(bench: Bench) -> None:
    with pytest.raises(EngineError, match="is the namespace right"):
        bench.launcher(namespace="elsewhere").submit([bench.launch()])


def test_what_another_process_is_just_submitting_is_not_taken_for_gone(bench: Bench) -> None:
    launch, launcher = bench.launch(), bench.launcher()
    launcher.submit([launch])
    name = bench.job()
    job = bench.cluster.objects.pop(("jobsets", name))
    launch.folder.launch.write_text(json.dumps({**recorded(launch), "job_id": None}))
    other = bench.launcher()
    with locked(launch.folder.path / "submit.lock"):
        assert other.state(launch.folder).description == "being submitted to Kubernetes"
    assert not other.state(launch.folder).alive  # its submitter died before it was sent
    bench.cluster.objects["jobsets", name] = job
    assert other.state(launch.folder).alive


def test_the_pods_run_their_supervisor_and_the_record_says_how(bench: Bench) -> None:
    launch = bench.launch()
    bench.launcher().submit([launch])
    folder, record = str(launch.folder.path), recorded(launch)
    spec = bench.cluster.objects["jobsets", bench.job()]["spec"]["replicatedJobs"][0]["template"]
    (container,) = spec["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "olmo_core.supervisor.pod", folder]
    assert record["run"]["command"] == ["python", "-m", "olmo_core.supervisor.node", folder]
    assert (record["kind"], record["command"]) == ("JobSet", ["olmo", "launch", "demo", "stage1"])


def test_one_process_is_a_plain_job(bench: Bench) -> None:
    alone = bench.launch("tokens", distributed=False)
    launcher = bench.launcher()
    launcher.submit([alone])
    record = recorded(alone)
    assert bench.cluster.named("jobs") == [record["job_name"]]
    assert bench.cluster.named("jobsets") == []
    assert (record["kind"], record["run"]["nodes"]) == ("Job", 1)
    module = ["python", "-m", "olmo_core.train", str(alone.folder.config)]
    assert record["run"]["command"] == module
    supervise = ["python", "-m", "olmo_core.supervisor.supervise", str(alone.folder.path)]
    assert record["command"] == supervise
    assert launcher.state(alone.folder).alive
    launcher.cancel([alone.folder])
    assert launcher.state(alone.folder).ended == "deleted"


def test_a_closed_launcher_starts_nothing(bench: Bench) -> None:
    router = site_launcher(bench.site)
    router.close()
    with pytest.raises(EngineError, match="not started, since the run was cancelled"):
        router.submit([bench.launch()])
    assert bench.cluster.named("jobsets") == []


def test_folders_outside_the_volume_are_refused(bench: Bench, tmp_path: Path) -> None:
    launch = bench.launch(folder=RunFolder(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match=r"kubernetes: root: .*elsewhere"):
        bench.launcher().submit([launch])


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(bench: Bench) -> None:
    launch = bench.launch()
    text = bench.launcher().dry_run(launch)
    (job,) = yaml.safe_load_all(text)
    assert job["kind"] == "JobSet"
    assert bench.cluster.calls == []
    assert not launch.folder.path.exists()


def test_definitions_load_without_the_client() -> None:
    code = "import sys, pipelines.launchers.router; print('kubernetes' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "False"
