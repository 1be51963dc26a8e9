"""The pod of one node of a job: what it runs, what it may do, what it may use.

No value of a recipe reaches a shell (the command is a list), and no secret is known here: a pod
takes them by the names of Kubernetes secrets.
"""

import os
from collections.abc import Mapping
from typing import Any

from pipelines.site.file import KubernetesSite, ResourceSpec

Manifest = dict[str, Any]

CONTAINER = "node"  # as Kubeflow's runtimes call it, and the rules of a Job's failure policy
GPU = "nvidia.com/gpu"
UNREACHABLE_SECONDS = 60  # before the pods of a node that does not answer are given up


def pod_spec(site: KubernetesSite, work: ResourceSpec, container: Mapping[str, Any]) -> Manifest:
    """A pod around its one container."""
    spec: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,  # the pod's pause process buries what loses its parent
        "terminationGracePeriodSeconds": site.grace_seconds,
        "securityContext": _pod_security(),
        "tolerations": _tolerations(work),
        "containers": [dict(container)],
        "volumes": [
            {"name": "root", "persistentVolumeClaim": {"claimName": site.claim}},
            {"name": "tmp", "emptyDir": {}},
            # NCCL and the loader share memory; a container by itself has 64 MiB of it.
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    if site.service_account:
        spec["serviceAccountName"] = site.service_account
    if site.node_selector:
        spec["nodeSelector"] = dict(site.node_selector)
    return spec


def container(site: KubernetesSite) -> Manifest:
    """The container of every job of a site: all but its command, environment and resources."""
    frame: Manifest = {
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
    }
    if site.secrets:
        frame["envFrom"] = [{"secretRef": {"name": name}} for name in site.secrets]
    return frame


def resources(work: ResourceSpec) -> Manifest:
    """What each node asks for; never less or more, so that it is among the last to be evicted."""
    asked: dict[str, str] = {}
    if work.cpus_per_node:
        asked["cpu"] = str(work.cpus_per_node)
    if work.memory_gib_per_node:
        asked["memory"] = f"{work.memory_gib_per_node}Gi"
    if work.devices_per_node:
        asked[GPU] = str(work.devices_per_node)
    return {"requests": dict(asked), "limits": dict(asked)} if asked else {}


def fixed_environment() -> dict[str, str]:
    """What programs need where only /tmp can be written to and the user has no name."""
    return {
        "HOME": "/tmp",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": "/tmp",
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",  # else torch asks for the user's name
        "USER": "olmo",
    }


def literal(text: str) -> str:
    """A word of a command, or a value, that the kubelet hands on to the letter: `$$` is a `$`."""
    return text.replace("$", "$$")


def environment_list(environment: Mapping[str, str], of_pod: Mapping[str, str]) -> list[Manifest]:
    """Return variables as a container takes them; `of_pod` are fields of the pod itself."""
    given = [{"name": name, "value": literal(environment[name])} for name in sorted(environment)]
    fields = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in of_pod.items()
    ]
    return [*given, *fields]


def _pod_security() -> Manifest:
    """Never root; otherwise whoever submits, so that both can write what the other has written."""
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
    if work.devices_per_node:
        return [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}, *lost]
    return lost
