"""The pod of one node of a job: what it runs, what it may do, what it may use.

No value of a recipe reaches a shell (the command is a list), and no secret is known here: a pod
takes them by the names of Kubernetes secrets.
"""

import os
from typing import Any

from pipelines.site.file import KubernetesSite, ResourceSpec

Manifest = dict[str, Any]

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


def pod_spec(site: KubernetesSite, work: ResourceSpec, **node: Any) -> Manifest:
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


def omit_empty(**fields: Any) -> Manifest:
    """Return the fields that hold something; what is None or empty is left to the cluster."""
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def resources(work: ResourceSpec) -> Manifest:
    """Return what each node asks for: never less or more, so as to be among the last evicted."""
    asked: dict[str, str] = {}
    if work.cpus_per_node:
        asked["cpu"] = str(work.cpus_per_node)
    if work.memory_gib_per_node:
        asked["memory"] = f"{work.memory_gib_per_node}Gi"
    if work.devices_per_node:
        asked[GPU] = str(work.devices_per_node)
    return {"requests": asked, "limits": dict(asked)} if asked else {}


def literal(text: str) -> str:
    """Return a word that the kubelet hands on to the letter: to it `$$` is a `$`."""
    return text.replace("$", "$$")


def _pod_security() -> Manifest:
    """Return who a pod runs as: never root, else whoever submits, so that each can write on."""
    security: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if os.getuid() != 0:  # else the image's own user
        security |= {"runAsUser": os.getuid(), "runAsGroup": os.getgid()}
    return security


def _tolerations(work: ResourceSpec) -> list[Manifest]:
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
