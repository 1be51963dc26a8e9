"""What Kubernetes is told of a job: an Indexed Job with its headless Service, or a TrainJob.

Pure: a job's shape and the site go in, manifests come out.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

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

BACKOFF_LIMIT = 100  # pods lost; how often an attempt may fail, the supervisor counts
TTL_SECONDS = 7 * 24 * 3600  # for how long kubectl shows what has ended
# The supervisor's last words: begun again, it would end the same.
FINAL_EXIT_CODES = (1, 2, 3, 4, 5, 6)


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
        """The name under which the others find the first pod."""
        if self.site.kind == "trainjob":  # JobSet's name for it
            return f"{self.name}-node-0-0.{self.name}"
        return f"{self.name}-0.{self.name}"


def manifests(job: PodJob) -> list[Manifest]:
    """All that is created for a job, in the order in which it is created."""
    if job.site.kind == "trainjob":
        return [training_runtime(job), train_job(job)]
    # The Job first: the Service belongs to it, and goes when it goes.
    return [batch_job(job), service(job)] if job.nodes > 1 else [batch_job(job)]


def batch_job(job: PodJob) -> Manifest:
    """An Indexed Job: pod K is node K, and comes back as node K when it is lost."""
    node = container(job.site)
    node |= {"command": _command(job), "env": environment_list(_environment(job))}
    node |= {"resources": resources(job.work)} if resources(job.work) else {}
    pod = pod_spec(job.site, job.work, node)
    if job.nodes > 1:
        pod["subdomain"] = job.name
    template = {"metadata": {"labels": _labels(job)}, "spec": pod}
    spec = {**_job_spec(), "completions": job.nodes, "parallelism": job.nodes, **_limits(job)}
    spec["ttlSecondsAfterFinished"] = TTL_SECONDS
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(job, **_queued(job)),
        "spec": {**spec, "template": template},
    }


def service(job: PodJob) -> Manifest:
    """The headless Service that gives the pods of a job their names."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they meet before they are ready
            "selector": {"batch.kubernetes.io/job-name": job.name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def train_job(job: PodJob) -> Manifest:
    """A TrainJob of Kubeflow Trainer v2 over the runtime of `training_runtime`."""
    trainer: Manifest = {
        "image": job.site.image,
        "command": _command(job),
        "numNodes": job.nodes,
        "env": environment_list(_environment(job)),
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
        "spec": {"runtimeRef": reference, "trainer": trainer, **_limits(job)},
    }


def training_runtime(job: PodJob) -> Manifest:
    """The runtime of a TrainJob: what the latter cannot say of its pods.

    Its name is a digest of its content: jobs of one kind share it, and none ever changes it.
    """
    pod = pod_spec(job.site, job.work, container(job.site))
    template = {"metadata": {"labels": {MANAGED_BY: OURS}}, "spec": pod}
    node = {
        "metadata": {"labels": {f"{TRAINER}/trainjob-ancestor-step": "trainer"}},
        "spec": {**_job_spec(), "template": template},
    }
    spec: Manifest = {
        "mlPolicy": {"numNodes": 1},  # the TrainJob says how many
        "template": {"spec": {"replicatedJobs": [{"name": CONTAINER, "template": node}]}},
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


def _job_spec() -> Manifest:
    """When pods come back, and when the whole job is given up."""
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    final = {"containerName": CONTAINER, "operator": "In", "values": list(FINAL_EXIT_CODES)}
    return {
        "completionMode": "Indexed",
        "backoffLimit": BACKOFF_LIMIT,
        # Never two pods of one index: the next one begins when the last has surely ended.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                # Evicted, preempted, drained: come back, uncounted.
                {"action": "Ignore", "onPodConditions": [disrupted]},
                {"action": "FailJob", "onExitCodes": final},
            ]
        },
    }


def _limits(job: PodJob) -> Manifest:
    limits: Manifest = {}
    if job.work.time_limit_minutes:
        limits["activeDeadlineSeconds"] = job.work.time_limit_minutes * 60
    if _queued(job):
        limits["suspend"] = True  # until Kueue has room for all of its pods
    return limits


def _environment(job: PodJob) -> dict[str, str]:
    addresses = {"MASTER_ADDR": job.first_node, "MASTER_PORT": str(RENDEZVOUS_PORT)}
    return {
        **fixed_environment(),
        **job.site.environment,
        **(addresses if job.nodes > 1 else {}),
        **job.environment,
    }


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
