"""What Kubernetes is told of a job: a Job of one pod, or a JobSet or TrainJob of several.

Pure: a job's shape and the site go in, manifests come out.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from olmo_core.environment import RESTART
from olmo_core.errors import ExitCode
from pipelines.launchers.kubernetes.pod import (
    CONTAINER,
    Manifest,
    container,
    environment_list,
    fixed_environment,
    literal,
    pod_spec,
    resources,
)
from pipelines.site.file import KubernetesSite, ResourceSpec

MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = "olmo-pipelines"
QUEUE = "kueue.x-k8s.io/queue-name"
TRAINER = "trainer.kubeflow.org"
TRAINER_VERSION = "v1alpha1"
RENDEZVOUS_PORT = 29400

# How often what no supervisor has judged (a pod killed for its memory) is started again. What one
# has judged, it counts itself: failures without a new checkpoint.
MAX_RESTARTS = 100
TTL_SECONDS = 7 * 24 * 3600  # for how long kubectl shows what has ended
# The supervisor's last words: begun again, it would end the same.
FINAL_EXIT_CODES = tuple(sorted(set(ExitCode) - {ExitCode.FINISHED, ExitCode.REQUEUE}))
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}  # evicted, preempted, drained
NODE_NAME = "NODE_NAME"


@dataclass(frozen=True, kw_only=True)
class PodJob:
    """One job, as far as its manifests need to know it."""

    name: str  # a DNS label with the run folder's key and the attempt in it
    command: Sequence[str]  # of every pod; which node it is, a pod reads from its index
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    nodes: int
    work: ResourceSpec
    site: KubernetesSite

    @property
    def first_node(self) -> str:
        """The name that JobSet gives the first pod, known before there is one."""
        return f"{self.name}-{CONTAINER}-0-0.{self.name}"


def manifests(job: PodJob) -> list[Manifest]:
    """Return all that is created for a job, in the order in which it is created."""
    if job.nodes == 1:
        return [batch_job(job)]
    if job.site.kind == "trainjob":
        return [training_runtime(job), train_job(job)]
    return [job_set(job)]


def batch_job(job: PodJob) -> Manifest:
    """Return a Job of one pod, which comes back when it is lost."""
    rules = [
        {"action": "Ignore", "onPodConditions": [DISRUPTED]},  # comes back, uncounted
        {"action": "FailJob", "onExitCodes": _exit_codes(*FINAL_EXIT_CODES)},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(job, **_queued(job)),
        "spec": {
            **_job_spec(MAX_RESTARTS, rules),
            **_pods(job),
            **_suspended(job),
            "ttlSecondsAfterFinished": TTL_SECONDS,
        },
    }


def job_set(job: PodJob) -> Manifest:
    """Return a JobSet of one Indexed Job: pod K is node K, and all of them are started together."""
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": _metadata(job, **_queued(job)),
        "spec": {
            **_set_spec({"spec": {**_job_of_set(), **_pods(job)}}),
            **_suspended(job),
            "ttlSecondsAfterFinished": TTL_SECONDS,
        },
    }


def train_job(job: PodJob) -> Manifest:
    """Return a TrainJob of Kubeflow Trainer v2 over the runtime of `training_runtime`."""
    trainer: Manifest = {
        "image": job.site.image,
        "command": _command(job),
        "numNodes": job.nodes,
        "env": _variables(job),
    }
    if resources(job.work):
        trainer["resourcesPerNode"] = resources(job.work)
    reference = {
        "apiGroup": TRAINER,
        "kind": "TrainingRuntime",
        "name": training_runtime(job)["metadata"]["name"],
    }
    return {
        "apiVersion": f"{TRAINER}/{TRAINER_VERSION}",
        "kind": "TrainJob",
        "metadata": _metadata(job, **_queued(job)),
        "spec": {
            "runtimeRef": reference,
            "trainer": trainer,
            **_deadline(job),
            **_suspended(job),
        },
    }


def training_runtime(job: PodJob) -> Manifest:
    """Return the runtime of a TrainJob: what the latter cannot say of its JobSet and its pods.

    Its name is a digest of its content: jobs of one kind share it, and none ever changes it.
    """
    pod = pod_spec(job.site, job.work, container(job.site))
    template = {"metadata": {"labels": {MANAGED_BY: OURS}}, "spec": pod}
    node = {
        "metadata": {"labels": {f"{TRAINER}/trainjob-ancestor-step": "trainer"}},
        "spec": {**_job_of_set(), "template": template},
    }
    spec: Manifest = {
        "mlPolicy": {"numNodes": 1},  # the TrainJob says how many
        "template": {"spec": _set_spec(node)},
    }
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    return {
        "apiVersion": f"{TRAINER}/{TRAINER_VERSION}",
        "kind": "TrainingRuntime",
        "metadata": {
            "name": f"olmo-{digest}",
            "namespace": job.site.namespace,
            "labels": {MANAGED_BY: OURS},
        },
        "spec": spec,
    }


def _job_spec(backoff_limit: int, rules: Sequence[Manifest]) -> Manifest:
    return {
        "completionMode": "Indexed",
        "backoffLimit": backoff_limit,
        # Never two pods of one index: the next one begins when the last has surely ended.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules},
    }


def _job_of_set() -> Manifest:
    """Return how the one Job of a set fails: with any of its pods, saying by which rule."""
    rules = [
        {"action": "FailJob", "onPodConditions": [DISRUPTED]},
        {"action": "FailJob", "onExitCodes": _exit_codes(ExitCode.REQUEUE)},
        {"action": "FailJob", "onExitCodes": _exit_codes(*FINAL_EXIT_CODES)},
    ]
    return _job_spec(0, rules)


def _set_spec(job_template: Manifest) -> Manifest:
    """Return a set of one Job; when that fails, all pods are started anew, or it is given up."""
    return {
        "replicatedJobs": [{"name": CONTAINER, "replicas": 1, "template": job_template}],
        # They meet by name, and before they are ready.
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "failurePolicy": {
            "maxRestarts": MAX_RESTARTS,
            "rules": [
                {
                    "name": "disrupted_or_judged",  # by rules 0 and 1 of the Job
                    "action": "RestartJobSetAndIgnoreMaxRestarts",
                    "onJobFailureReasons": ["PodFailurePolicy"],
                    "onJobFailureMessagePatterns": ["matching FailJob rule at index [01]$"],
                },
                {
                    "name": "final",
                    "action": "FailJobSet",
                    "onJobFailureReasons": ["PodFailurePolicy", "DeadlineExceeded"],
                },
                {"name": "not_judged", "action": "RestartJobSet"},
            ],
        },
    }


def _exit_codes(*codes: int) -> Manifest:
    return {"containerName": CONTAINER, "operator": "In", "values": [int(code) for code in codes]}


def _pods(job: PodJob) -> Manifest:
    """Return the pods of a Job: how many, for how long, and what they are."""
    node = container(job.site)
    node |= {"command": _command(job), "env": _variables(job)}
    node |= {"resources": resources(job.work)} if resources(job.work) else {}
    pod = {"metadata": {"labels": _labels(job)}, "spec": pod_spec(job.site, job.work, node)}
    return {
        "completions": job.nodes,
        "parallelism": job.nodes,
        **_deadline(job),
        "template": pod,
    }


def _deadline(job: PodJob) -> Manifest:
    minutes = job.work.time_limit_minutes
    return {"activeDeadlineSeconds": minutes * 60} if minutes else {}


def _suspended(job: PodJob) -> Manifest:
    return {"suspend": True} if _queued(job) else {}  # until Kueue has room for all of its pods


def _variables(job: PodJob) -> list[Manifest]:
    given = {**fixed_environment(), **job.site.environment, **job.environment}
    of_pod = {NODE_NAME: "spec.nodeName"}
    if job.nodes > 1:
        given |= {"MASTER_ADDR": job.first_node, "MASTER_PORT": str(RENDEZVOUS_PORT)}
        of_pod[RESTART] = "metadata.labels['jobset.sigs.k8s.io/restart-attempt']"
    return environment_list(given, of_pod)


def _command(job: PodJob) -> list[str]:
    return [literal(word) for word in job.command]


def _metadata(job: PodJob, **labels: str) -> Manifest:
    return {
        "name": job.name,
        "namespace": job.site.namespace,
        "labels": {**_labels(job), **labels},
    }


def _labels(job: PodJob) -> dict[str, str]:
    return {MANAGED_BY: OURS, **job.labels}


def _queued(job: PodJob) -> dict[str, str]:
    """The label that puts a job into Kueue's queue; a partition of work is one."""
    queue = job.work.partition or job.site.queue
    return {QUEUE: queue} if queue else {}


class _Dumper(yaml.SafeDumper):
    """Quotes what other readers of YAML take for a number, as 1e6."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="'" if text[:1].isdecimal() else None
    ),
)


def as_yaml(made: Sequence[Manifest]) -> str:
    """Manifests as `kubectl apply -f -` takes them."""
    return yaml.dump_all(made, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
