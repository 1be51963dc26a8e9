"""Runs the pods of a stand-in cluster's jobs as processes, as far as their manifests can be obeyed.

One process a pod, in a process namespace of its own: its command and its variables, but neither its
image nor its limits. A pod's end has the consequences that the policies of its job say.
"""

import contextlib
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.pipelines.launchers.kubernetes.controllers import PodEnd, job_failure, set_action
from tests.pipelines.launchers.kubernetes.kubernetes_server import Cluster

POLL_SECONDS = 0.05
GRACE_SECONDS = 30.0
CONTROLLER_SECONDS = 1.0  # until a controller has heard of a pod's end, and asks the others to go

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
UNSHARE += [] if os.getuid() == 0 else ["--user", "--map-root-user"]


def can_isolate() -> bool:
    """Whether a pod can have a process namespace of its own here."""
    with contextlib.suppress(OSError):
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    return False


@dataclass(kw_only=True)
class Pods:
    """The pods of one job, and what the controllers remember of it."""

    running: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    succeeded: set[int] = field(default_factory=set)
    disrupted: set[int] = field(default_factory=set)
    counted: int = 0  # ends towards the backoff limit
    restarts: int = 0  # of a JobSet
    restarts_counted: int = 0  # towards its limit


class Kubelet:
    """Starts the pods of each Job and JobSet that there is, and starts them again as told."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.pods: dict[str, Pods] = {}  # by job
        self.unscheduled: set[int] = set()  # indexes for which no node has room
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Kubelet":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to look after jobs."""
        self._thread.start()

    def stop(self) -> None:
        """Kill all pods."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        for pods in self.pods.values():
            for pod in pods.running.values():
                pod.kill()
                pod.wait()

    def lose(self, job: str, index: int) -> None:
        """End a pod with all its processes at once, as the loss of its node would."""
        self.pods[job].disrupted.add(index)
        self.pods[job].running[index].kill()

    def evict(self, job: str, index: int) -> None:
        """Ask a pod to go, as a drained node or a pod of higher priority would."""
        self.pods[job].disrupted.add(index)
        _ask(self.pods[job].running[index])

    def _run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            for plural in ("jobs", "jobsets"):
                for name in self._cluster.named(plural):
                    whole = self._cluster.objects[plural, name]
                    if not (whole.get("status") or {}).get("conditions"):
                        self._look_after(plural, name, whole["spec"])

    def _look_after(self, plural: str, name: str, spec: dict[str, Any]) -> None:
        of_set = plural == "jobsets"
        job = spec["replicatedJobs"][0]["template"]["spec"] if of_set else spec
        pods = self.pods.setdefault(name, Pods())
        for index in set(range(job["completions"])) - pods.succeeded - self.unscheduled:
            pod = pods.running.get(index)
            if pod is None:
                pods.running[index] = _start(index, job["template"]["spec"], pods.restarts)
                continue
            if (code := pod.poll()) is None:
                continue
            del pods.running[index]
            if code == 0:
                pods.succeeded.add(index)
                continue
            code = code if code > 0 else 128 - code  # of a signal, as a container says it
            end = PodEnd(exit_code=code, disrupted=index in pods.disrupted)
            failure, pods.counted = job_failure(job, end, counted=pods.counted)
            if failure is None:
                continue
            self._end.wait(CONTROLLER_SECONDS)
            _end_all(pods)
            action = set_action(spec, failure) if of_set else ""
            counts = action == "RestartJobSet"
            if action.startswith("RestartJobSet") and not (
                counts and pods.restarts_counted >= spec["failurePolicy"]["maxRestarts"]
            ):
                self.pods[name] = Pods(
                    restarts=pods.restarts + 1, restarts_counted=pods.restarts_counted + counts
                )
            else:
                reason = f"{action}FailurePolicyAction" if of_set else failure.reason
                self._cluster.end(plural, name, "Failed", reason, failure.message)
            return
        if len(pods.succeeded) == job["completions"]:
            self._cluster.end(plural, name, "Completed" if of_set else "Complete")


def _start(index: int, pod: dict[str, Any], restarts: int) -> "subprocess.Popen[bytes]":
    (container,) = pod["containers"]
    fields = {
        "spec.nodeName": f"n{index}",
        "metadata.labels['jobset.sigs.k8s.io/restart-attempt']": str(restarts),
    }
    given = {
        each["name"]: each["value"]
        if "value" in each
        else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in container["env"]
    }
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.getcwd(),
        **given,
        "JOB_COMPLETION_INDEX": str(index),
    }
    if "MASTER_ADDR" in given:  # nobody resolves a JobSet's names here
        environment["MASTER_ADDR"] = "127.0.0.1"
    command = [word.replace("$$(", "$(") for word in container["command"]]
    return subprocess.Popen([*UNSHARE, *command], env=environment, stdout=subprocess.DEVNULL)


def _ask(pod: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM to the first process of a pod."""
    for process in psutil.Process(pod.pid).children():
        process.terminate()


def _end_all(pods: Pods) -> None:
    """End what is left of a failed Job."""
    for pod in pods.running.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            _ask(pod)
    for pod in pods.running.values():
        try:
            pod.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            pod.kill()
            pod.wait()
