"""Manifests for Kubernetes against the published schemas, and what must stand in them."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api.models import (
    TrainerV1alpha1TrainingRuntime,
    TrainerV1alpha1TrainJob,
)
from kubernetes_validate import ValidationError, validate

from assets.paths import CHECKOUT
from olmo_core.config.load import build
from pipelines.launchers.kubernetes.manifests import PodJob, as_yaml, manifests
from pipelines.site.file import KubernetesSite, ResourceSpec, Site

# podReplacementPolicy and podFailurePolicy are on by default from 1.29 on.
VERSIONS = ["1.29", "1.31", "1.33", "1.35", "1.37"]
HOSTILE = "$(touch canary) `touch canary` '\"; touch canary #\n../x $(HOME)"


def pod_job(kind: str = "job", **changes: Any) -> PodJob:
    site = KubernetesSite(
        image="registry.example.org/team/olmo:1.0",
        namespace="lm",
        claim="results",
        kind=kind,  # type: ignore[arg-type]
        queue="team",
        secrets=("wandb", "hub"),
        service_account="trainer",
        node_selector={"accelerator": "h100"},
        environment={"NCCL_DEBUG": "WARN"},
    )
    work = ResourceSpec(
        engine="kubernetes",
        nodes=4,
        processes_per_node=8,
        devices_per_node=8,
        cpus_per_node=96,
        memory_gib_per_node=1000,
        time_limit_minutes=600,
    )
    job = PodJob(
        name="olmo-demo-stage1-0123456789ab-1",
        command=["python", "-m", "module", "/olmo/demo/stage1/0"],
        labels={"olmo/recipe": "demo", "olmo/asset": "stage1", "olmo/key": "0123456789ab"},
        environment={"OLMO_ROOT": "/olmo"},
        nodes=4,
        work=work,
        site=site,
    )
    return replace(job, **changes)


def one(job: PodJob, kind: str) -> dict[str, Any]:
    (found,) = (each for each in manifests(job) if each["kind"] == kind)
    return found


SHAPES = {
    "four nodes": pod_job(),
    "one process": pod_job(nodes=1, work=ResourceSpec(engine="kubernetes")),
    "least site": pod_job(site=KubernetesSite(image="olmo", claim="results")),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_job_and_service_fit_the_schemas_of_every_version(shape: str, version: str) -> None:
    made = manifests(SHAPES[shape])
    assert [each["kind"] for each in made] == (["Job", "Service"] if len(made) > 1 else ["Job"])
    for manifest in made:
        assert validate(manifest, version, strict=True) == version


def test_the_schemas_refuse_what_is_wrong() -> None:
    job = one(pod_job(), "Job")
    job["spec"]["template"]["spec"]["containers"][0]["securitycontext"] = {}
    with pytest.raises(ValidationError, match="securitycontext"):
        validate(job, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_train_job_and_its_runtime_fit_kubeflows_models(shape: str) -> None:
    job = replace(SHAPES[shape], site=replace(SHAPES[shape].site, kind="trainjob"))
    runtime, train_job = manifests(job)
    # The models drop what they do not know: all that we say must come back.
    models = (TrainerV1alpha1TrainingRuntime, runtime), (TrainerV1alpha1TrainJob, train_job)
    for model, said in models:
        understood = model.from_dict(said)
        assert understood is not None
        assert understood.to_dict() == said
    assert train_job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert train_job["spec"]["trainer"]["numNodes"] == job.nodes
    # What lies within is a Job's specification, and fits the schema of one.
    inner = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    made = {"apiVersion": "batch/v1", "kind": "Job", **inner, "metadata": {"name": "x"}}
    validate(made, VERSIONS[-1], strict=True)


def test_train_jobs_of_one_shape_share_a_runtime_and_others_do_not() -> None:
    def runtime(job: PodJob) -> str:
        return manifests(job)[0]["metadata"]["name"]

    job = pod_job("trainjob")
    assert runtime(job) == runtime(replace(job, name="other", command=["x"], nodes=2))
    assert runtime(job) != runtime(replace(job, site=replace(job.site, claim="other")))


def test_pods_may_do_little() -> None:
    for kind in ("job", "trainjob"):
        made = manifests(pod_job(kind))[0]
        spec = made["spec"]
        if kind == "trainjob":
            spec = spec["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
        pod = spec["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        security = pod["containers"][0]["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        writable = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert writable == {"/olmo", "/tmp", "/dev/shm"}


def test_pods_run_as_who_submits_unless_that_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1234)
    monkeypatch.setattr("os.getgid", lambda: 99)
    security = one(pod_job(), "Job")["spec"]["template"]["spec"]["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (1234, 99)
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert "runAsUser" not in one(pod_job(), "Job")["spec"]["template"]["spec"]["securityContext"]


def test_secrets_are_named_and_never_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "5ecre7")
    for kind in ("job", "trainjob"):
        text = yaml.safe_dump_all(manifests(pod_job(kind)))
        assert "5ecre7" not in text
        assert "secretRef" in text


def test_the_pods_meet_at_the_first_ones_name() -> None:
    job, service = manifests(pod_job())
    pod = job["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    # A pod of an Indexed Job has the host name <job>-<index>.
    assert env["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{pod['subdomain']}"
    assert env["MASTER_PORT"] == str(service["spec"]["ports"][0]["port"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}


def test_a_lost_pod_comes_back_and_a_last_word_ends_the_job() -> None:
    spec = one(pod_job(), "Job")["spec"]
    ignore, fail = spec["podFailurePolicy"]["rules"]
    # The order counts: an evicted pod also has an exit code.
    assert ignore == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert fail["action"] == "FailJob"
    assert 137 not in fail["onExitCodes"]["values"]
    names = [each["name"] for each in spec["template"]["spec"]["containers"]]
    assert fail["onExitCodes"]["containerName"] in names
    assert spec["completions"] == spec["parallelism"] == 4
    assert spec["activeDeadlineSeconds"] == 600 * 60


def test_the_queue_is_kueues_and_the_job_waits_for_it() -> None:
    for kind in ("Job", "TrainJob"):
        job = pod_job(kind.lower(), work=replace(pod_job().work, partition="night"))
        made = one(job, kind)
        assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
        assert made["spec"]["suspend"] is True


def test_no_value_is_expanded_by_the_kubelet_or_a_shell() -> None:
    job = pod_job(environment={"X": HOSTILE}, command=["python", HOSTILE])
    container = one(job, "Job")["spec"]["template"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert env["X"].replace("$$(", "$(") == HOSTILE
    assert "$$(HOME)" in env["X"]
    assert container["command"][0] == "python"
    assert container["command"][1].replace("$$(", "$(") == HOSTILE
    assert "$$(HOME)" in container["command"][1]
    assert yaml.safe_load(as_yaml([container])) == container


def test_words_that_look_like_numbers_are_quoted() -> None:
    # To kubectl, unlike to PyYAML, 1e6 is a number; the value of a variable must be none.
    assert as_yaml([{"value": "1e6", "name": "x"}]) == "value: '1e6'\nname: x\n"


def test_the_manifests_of_the_walk_through_fit_the_schemas() -> None:
    text = (CHECKOUT / "docs" / "kubernetes.md").read_text()
    kinds: list[str] = []
    for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL):
        for content in yaml.safe_load_all(block):
            if "kind" in content:
                validate(content, VERSIONS[-1], strict=True)
                kinds.append(content["kind"])
            else:
                site = build(Site, content)
                assert site.kubernetes is not None
    assert kinds == ["Namespace", "PersistentVolumeClaim", "Role", "RoleBinding"]
