"""What Kubernetes is told of a job: a Job of one pod, or a JobSet or TrainJob of several.

Pure: a job's shape and the site go in, manifests come out. No value of a recipe reaches a shell
(the command is a list), and no secret is known here: a pod takes them by the names of Kubernetes
secrets.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from olmo_core.environment import RESTART
from olmo_core.errors import ExitCode
from pipelines.launchers.kubernetes.api import API_VERSIONS, Object
from pipelines.site.file import KubernetesSite, ResourceSpec

CONTAINER = "node"  # as Kubeflow's runtimes call it, and the rules of a Job's failure policy
GPU = "nvidia.com/gpu"
UNREACHABLE_SECONDS = 60  # before the pods of a node that does not answer are given up
# What programs need where only /tmp can be written to and the user has no name.
FIXED_ENVIRONMENT = {
    "HOME": "/tmp",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",
    "TMPDIR": "/tmp",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",  # else torch asks for the user's name
    "USER": "olmo",
}
OURS = {"app.kubernetes.io/managed-by": "olmo-pipelines"}  # the label of all that is made here
QUEUE = "kueue.x-k8s.io/queue-name"
TRAINER = "trainer.kubeflow.org"
RENDEZVOUS_PORT = 29400
KINDS = {"jobset": "JobSet", "trainjob": "TrainJob"}  # of several pods: the site file's word

# How often what no supervisor has judged (a pod killed for its memory) is started again. What one
# has judged, it counts itself: failures without a new checkpoint.
MAX_RESTARTS = 100
TTL_SECONDS = 7 * 24 * 3600  # for how long kubectl shows what has ended
# The supervisor's last words: begun again, it would end the same.
FINAL_EXIT_CODES = tuple(sorted(set(ExitCode) - {ExitCode.FINISHED, ExitCode.REQUEUE}))
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}  # evicted, preempted, drained


@dataclass(frozen=True, kw_only=True)
class PodJob:
    """One job, as far as its manifests need to know it."""

    name: str  # a DNS label with the run folder's key and the attempt in it
    command: Sequence[str]  # of every pod; which node it is, a pod reads from its index
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    work: ResourceSpec
    site: KubernetesSite

    @property
    def kind(self) -> str:
        """The kind of the object that is the job."""
        return KINDS[self.site.kind] if self.work.nodes > 1 else "Job"


def manifests(job: PodJob) -> list[Object]:
    """Return all that is created for a job, in the order in which it is created."""
    if job.kind == "TrainJob":
        runtime = training_runtime(job)
        return [runtime, train_job(job, runtime["metadata"]["name"])]
    if job.kind == "Job":  # of one pod, which comes back when it is lost
        rules = [
            {"action": "Ignore", "onPodConditions": [DISRUPTED]},  # comes back, uncounted
            _fail_on(*FINAL_EXIT_CODES),
        ]
        spec = {**_job_spec(MAX_RESTARTS, rules), **_pods(job)}
    else:  # of one Indexed Job: pod K is node K, and all of them are started together
        spec = _set_spec({"spec": {**_job_of_set(), **_pods(job)}})
    return [_job_object(job, spec, ttlSecondsAfterFinished=TTL_SECONDS)]


def train_job(job: PodJob, runtime: str) -> Object:
    """Return a TrainJob of Kubeflow Trainer v2 over the runtime of this name."""
    trainer = omit_empty(
        image=job.site.image,
        numNodes=job.work.nodes,
        resourcesPerNode=resources(job.work),
        **_program(job),
    )
    reference = {"apiGroup": TRAINER, "kind": "TrainingRuntime", "name": runtime}
    return _job_object(job, {"runtimeRef": reference, "trainer": trainer, **_deadline(job)})


def training_runtime(job: PodJob) -> Object:
    """Return the runtime of a TrainJob: what the latter cannot say of its JobSet and its pods.

    Its name is a digest of its content: jobs of one kind share it, and none ever changes it.
    """
    pod = {"metadata": {"labels": OURS}, "spec": pod_spec(job.site, job.work)}
    node = {
        "metadata": {"labels": {f"{TRAINER}/trainjob-ancestor-step": "trainer"}},
        "spec": {**_job_of_set(), "template": pod},
    }
    spec: Object = {
        "mlPolicy": {"numNodes": 1},  # the TrainJob says how many
        "template": {"spec": _set_spec(node)},
    }
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    return _object(job.site, "TrainingRuntime", f"olmo-{digest}", {}, spec)


def _job_object(job: PodJob, spec: Object, **more: int) -> Object:
    """Return the object that is the job; in Kueue's queue it waits for room for all of its pods."""
    queue = job.work.partition or job.site.queue
    labels = {**job.labels, **({QUEUE: queue} if queue else {})}
    spec = {**spec, **({"suspend": True} if queue else {}), **more}
    return _object(job.site, job.kind, job.name, labels, spec)


def _object(
    site: KubernetesSite, kind: str, name: str, labels: Mapping[str, str], spec: Object
) -> Object:
    metadata = {"name": name, "namespace": site.namespace, "labels": {**OURS, **labels}}
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, "spec": spec}


def _job_spec(backoff_limit: int, rules: Sequence[Object]) -> Object:
    return {
        "completionMode": "Indexed",
        "backoffLimit": backoff_limit,
        # Never two pods of one index: the next one begins when the last has surely ended.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules},
    }


def _job_of_set() -> Object:
    """Return how the one Job of a set fails: with any of its pods, saying by which rule."""
    disrupted = {"action": "FailJob", "onPodConditions": [DISRUPTED]}
    return _job_spec(0, [disrupted, _fail_on(ExitCode.REQUEUE), _fail_on(*FINAL_EXIT_CODES)])


def _fail_on(*codes: int) -> Object:
    values = [int(code) for code in codes]
    on_exit = {"containerName": CONTAINER, "operator": "In", "values": values}
    return {"action": "FailJob", "onExitCodes": on_exit}


def _set_spec(job_template: Object) -> Object:
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


def _pods(job: PodJob) -> Object:
    """Return the pods of a Job: how many, for how long, and what they are."""
    pod = pod_spec(job.site, job.work, **_program(job), resources=resources(job.work))
    return {
        "completions": job.work.nodes,
        "parallelism": job.work.nodes,
        **_deadline(job),
        "template": {"metadata": {"labels": {**OURS, **job.labels}}, "spec": pod},
    }


def _deadline(job: PodJob) -> Object:
    minutes = job.work.time_limit_minutes
    return {"activeDeadlineSeconds": minutes * 60} if minutes else {}


def _program(job: PodJob) -> Object:
    """Return what each container of the job runs, and with which variables."""
    given = {**FIXED_ENVIRONMENT, **job.site.environment, **job.environment}
    of_pod = {"NODE_NAME": "spec.nodeName"}
    if job.work.nodes > 1:
        # The name that JobSet gives the first pod, known before there is one.
        first = f"{job.name}-{CONTAINER}-0-0.{job.name}"
        given |= {"MASTER_ADDR": first, "MASTER_PORT": str(RENDEZVOUS_PORT)}
        of_pod[RESTART] = "metadata.labels['jobset.sigs.k8s.io/restart-attempt']"
    return {
        "command": [word.replace("$", "$$") for word in job.command],  # to the kubelet $$ is a $
        "env": [
            *({"name": name, "value": given[name].replace("$", "$$")} for name in sorted(given)),
            *(
                {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
                for name, path in of_pod.items()
            ),
        ],
    }


def pod_spec(site: KubernetesSite, work: ResourceSpec, **node: Any) -> Object:
    """Return a pod around its one container; `node` is what only this job's container has."""
    container = {
        "name": CONTAINER,
        "image": site.image,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "root", "mountPath": site.root},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "envFrom": [{"secretRef": {"name": name}} for name in site.secrets],
        **node,
    }
    return omit_empty(
        restartPolicy="Never",
        automountServiceAccountToken=False,
        enableServiceLinks=False,
        shareProcessNamespace=True,  # the pod's pause process buries what loses its parent
        terminationGracePeriodSeconds=site.grace_seconds,
        securityContext=_pod_security(),
        tolerations=_tolerations(work),
        containers=[omit_empty(**container)],
        volumes=[
            {"name": "root", "persistentVolumeClaim": {"claimName": site.claim}},
            {"name": "tmp", "emptyDir": {}},
            # NCCL and the loader share memory; a container by itself has 64 MiB of it.
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
        serviceAccountName=site.service_account,
        nodeSelector=dict(site.node_selector),
    )


def omit_empty(**fields: Any) -> Object:
    """Return the fields that hold something; what is None or empty is left to the cluster."""
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def resources(work: ResourceSpec) -> Object:
    """Return what each node asks for: never less or more, so as to be among the last evicted."""
    asked: dict[str, str] = {}
    if work.cpus_per_node:
        asked["cpu"] = str(work.cpus_per_node)
    if work.memory_gib_per_node:
        asked["memory"] = f"{work.memory_gib_per_node}Gi"
    if work.devices_per_node:
        asked[GPU] = str(work.devices_per_node)
    return {"requests": asked, "limits": dict(asked)} if asked else {}


def _pod_security() -> Object:
    """Return who a pod runs as: never root, else whoever submits, so that each can write on."""
    security: Object = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if os.getuid() != 0:  # else the image's own user
        security |= {"runAsUser": os.getuid(), "runAsGroup": os.getgid()}
    return security


def _tolerations(work: ResourceSpec) -> list[Object]:
    lost = [
        {
            "key": f"node.kubernetes.io/{state}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": UNREACHABLE_SECONDS,
        }
        for state in ("not-ready", "unreachable")
    ]
    gpu = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
    return [gpu, *lost] if work.devices_per_node else lost


class _Dumper(yaml.SafeDumper):
    """Quotes what other readers of YAML take for a number, as 1e6."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile("[0-9]"), [*"0123456789"])


def as_yaml(made: Sequence[Object]) -> str:
    """Return manifests as `kubectl apply -f -` takes them."""
    return yaml.dump_all(made, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
