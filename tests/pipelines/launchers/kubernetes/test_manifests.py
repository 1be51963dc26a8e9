"""Manifests for Kubernetes against the published schemas, and what must stand in them."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api.models import (
    JobsetV1alpha2JobSet,
    TrainerV1alpha1TrainingRuntime,
    TrainerV1alpha1TrainJob,
)
from kubernetes_validate import ValidationError, validate

from assets.paths import CHECKOUT
from olmo_core.config.load import build
from olmo_core.errors import ExitCode
from pipelines.launchers.kubernetes.manifests import PodJob, as_yaml, manifests
from pipelines.names import kubernetes_name
from pipelines.site.file import KubernetesSite, ResourceSpec, Site
from tests.pipelines.launchers.kubernetes.controllers import (
    JobFailure,
    PodEnd,
    job_failure,
    set_action,
)

# podReplacementPolicy and podFailurePolicy are on by default from 1.29 on.
VERSIONS = ["1.29", "1.31", "1.33", "1.35", "1.37"]
HOSTILE = "$(touch canary) `touch canary` '\"; touch canary #\n../x $(HOME)"


def pod_job(kind: str = "jobset", **changes: Any) -> PodJob:
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
        work=work,
        site=site,
    )
    if "nodes" in changes:
        changes["work"] = replace(work, nodes=changes.pop("nodes"))
    return replace(job, **changes)


def one(job: PodJob, kind: str) -> dict[str, Any]:
    (found,) = (each for each in manifests(job) if each["kind"] == kind)
    return found


SHAPES = {
    "four nodes": pod_job(),
    "one process": pod_job(work=ResourceSpec(engine="kubernetes")),
    "least site": pod_job(site=KubernetesSite(image="olmo", claim="results")),
}


def job_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The Job that a manifest is, or that its set holds."""
    spec = manifest["spec"]
    if manifest["kind"] == "Job":
        return manifest
    if manifest["kind"] == "TrainingRuntime":
        spec = spec["template"]["spec"]
    (replicated,) = spec["replicatedJobs"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        **replicated["template"],
        "metadata": {"name": "x"},
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["jobset", "trainjob"])
def test_jobs_fit_the_schemas_of_every_version(kind: str, shape: str, version: str) -> None:
    job = replace(SHAPES[shape], site=replace(SHAPES[shape].site, kind=kind))
    assert validate(job_of(manifests(job)[0]), version, strict=True) == version


def test_one_pod_is_a_job_and_several_are_what_the_site_has() -> None:
    def kinds(**changes: Any) -> list[str]:
        return [each["kind"] for each in manifests(pod_job(**changes))]

    assert kinds() == ["JobSet"]
    assert kinds(kind="trainjob") == ["TrainingRuntime", "TrainJob"]
    assert kinds(nodes=1) == kinds(kind="trainjob", nodes=1) == ["Job"]


def test_the_schemas_refuse_what_is_wrong() -> None:
    job = one(pod_job(nodes=1), "Job")
    job["spec"]["template"]["spec"]["containers"][0]["securitycontext"] = {}
    with pytest.raises(ValidationError, match="securitycontext"):
        validate(job, VERSIONS[-1], strict=True)


def test_a_job_set_fits_its_published_model() -> None:
    said = one(pod_job(), "JobSet")
    # The model drops what it does not know: all that we say must come back.
    understood = JobsetV1alpha2JobSet.from_dict(said)
    assert understood is not None
    assert understood.to_dict() == said
    # What the model does not hold, but JobSet's admission does.
    rules = said["spec"]["failurePolicy"]["rules"]
    assert {rule["action"] for rule in rules} <= {
        "FailJobSet",
        "RestartJobSet",
        "RestartJobSetAndIgnoreMaxRestarts",
    }
    assert len({rule["name"] for rule in rules}) == len(rules)
    for rule in rules:
        assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
        assert set(rule.get("onJobFailureReasons", [])) <= {
            "BackoffLimitExceeded",
            "DeadlineExceeded",
            "FailedIndexes",
            "MaxFailedIndexesExceeded",
            "PodFailurePolicy",
        }
    # The longest name of a pod: 9,999 pods, and five random letters.
    name = kubernetes_name("r" * 60, "a" * 60, "0" * 32, 1)
    assert len(f"{name}-node-0-9998-abcde") <= 63


@pytest.mark.parametrize("shape", SHAPES)
def test_a_train_job_and_its_runtime_fit_kubeflows_models(shape: str) -> None:
    job = SHAPES[shape]
    job = replace(job, work=replace(job.work, nodes=4), site=replace(job.site, kind="trainjob"))
    runtime, train_job = manifests(job)
    # The models drop what they do not know: all that we say must come back.
    models = (TrainerV1alpha1TrainingRuntime, runtime), (TrainerV1alpha1TrainJob, train_job)
    for model, said in models:
        understood = model.from_dict(said)
        assert understood is not None
        assert understood.to_dict() == said
    assert train_job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert train_job["spec"]["trainer"]["numNodes"] == 4


def test_train_jobs_of_one_shape_share_a_runtime_and_others_do_not() -> None:
    def runtime(job: PodJob) -> str:
        return manifests(job)[0]["metadata"]["name"]

    job = pod_job("trainjob")
    other = replace(pod_job("trainjob", nodes=2), name="other", command=["x"])
    assert runtime(job) == runtime(other)
    assert runtime(job) != runtime(replace(job, site=replace(job.site, claim="other")))


def test_pods_may_do_little() -> None:
    for job in (pod_job(), pod_job(nodes=1), pod_job("trainjob")):
        pod = job_of(manifests(job)[0])["spec"]["template"]["spec"]
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

    def security() -> dict[str, Any]:
        return job_of(one(pod_job(), "JobSet"))["spec"]["template"]["spec"]["securityContext"]

    assert (security()["runAsUser"], security()["runAsGroup"]) == (1234, 99)
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert "runAsUser" not in security()


def test_secrets_are_named_and_never_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "5ecre7")
    for kind in ("jobset", "trainjob"):
        text = yaml.safe_dump_all(manifests(pod_job(kind)))
        assert "5ecre7" not in text
        assert "secretRef" in text


def test_the_pods_meet_at_the_name_that_job_set_gives_the_first() -> None:
    for job in (pod_job(), pod_job("trainjob")):
        made = manifests(job)[-1]
        name, spec = made["metadata"]["name"], manifests(job)[0]["spec"]
        (container,) = job_of(manifests(job)[0])["spec"]["template"]["spec"]["containers"]
        listed = container["env"] if job == pod_job() else made["spec"]["trainer"]["env"]
        env = {each["name"]: each for each in listed}
        # <set>-<its job>-<which>-<pod>.<set>
        assert env["MASTER_ADDR"]["value"] == f"{name}-node-0-0.{name}"
        assert env["OLMO_RESTART"]["valueFrom"]["fieldRef"]["fieldPath"] == (
            "metadata.labels['jobset.sigs.k8s.io/restart-attempt']"
        )
        network = (spec if job == pod_job() else spec["template"]["spec"])["network"]
        assert network == {"enableDNSHostnames": True, "publishNotReadyAddresses": True}


FINAL = [1, 2, 3, 4, 5, 6]
NO_VERDICT = [74, 127, 128, 137, 143, 255]


@pytest.mark.parametrize("kind", ["jobset", "trainjob"])
def test_exit_codes_and_evictions_have_the_set_fail_or_start_again(kind: str) -> None:
    made = manifests(pod_job(kind))[0]
    job = job_of(made)["spec"]
    job_set = made["spec"] if kind == "jobset" else made["spec"]["template"]["spec"]
    want = {PodEnd(exit_code=code): "FailJobSet" for code in FINAL}
    want |= {PodEnd(exit_code=code): "RestartJobSet" for code in NO_VERDICT}
    want |= {PodEnd(exit_code=75): "RestartJobSetAndIgnoreMaxRestarts"}
    want |= {
        PodEnd(exit_code=code, disrupted=True): "RestartJobSetAndIgnoreMaxRestarts"
        for code in (*FINAL, *NO_VERDICT, 75)
    }
    for end, action in want.items():
        failure, _ = job_failure(job, end, counted=0)
        assert failure is not None, end  # no pod ever comes back alone
        assert set_action(job_set, failure) == action, end
    late = JobFailure(reason="DeadlineExceeded", message="Job was active longer than specified")
    assert set_action(job_set, late) == "FailJobSet"
    assert set(FINAL) | {0, 75} == set(ExitCode)


def test_a_pod_alone_comes_back_unless_its_exit_code_is_final() -> None:
    job = one(pod_job(nodes=1), "Job")["spec"]
    for code in FINAL:
        failure, _ = job_failure(job, PodEnd(exit_code=code), counted=0)
        assert failure is not None
        assert failure.reason == "PodFailurePolicy"
    for code in (75, *NO_VERDICT):
        assert job_failure(job, PodEnd(exit_code=code), counted=0) == (None, 1)
    for code in (3, 137):
        assert job_failure(job, PodEnd(exit_code=code, disrupted=True), counted=0) == (None, 0)
    failure, _ = job_failure(job, PodEnd(exit_code=137), counted=100)
    assert failure is not None
    assert failure.reason == "BackoffLimitExceeded"
    assert (job["completions"], job["parallelism"]) == (1, 1)
    assert job["activeDeadlineSeconds"] == 600 * 60


def test_the_queue_is_kueues_and_the_job_waits_for_it() -> None:
    for kind in ("JobSet", "TrainJob"):
        job = pod_job(kind.lower(), work=replace(pod_job().work, partition="night"))
        made = one(job, kind)
        assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
        assert made["spec"]["suspend"] is True


def test_no_value_is_expanded_by_the_kubelet_or_a_shell() -> None:
    job = pod_job(environment={"X": HOSTILE}, command=["python", HOSTILE])
    container = job_of(one(job, "JobSet"))["spec"]["template"]["spec"]["containers"][0]
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
