"""Runs the pods of a stand-in cluster's Jobs as processes, as far as their manifests can be obeyed.

One process a pod: its command and its variables, but neither its image nor its limits. What the
Job's failure policy says of an end is done: the pod comes back, or the Job has failed.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from olmo_core.supervisor.members import environment_of
from tests.pipelines.launchers.kubernetes.kubernetes_server import Cluster

POLL_SECONDS = 0.05


class Kubelet:
    """Starts the pods of each Job that there is, and starts again those that come back."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pods: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._done: set[tuple[str, int]] = set()
        self.ends: list[tuple[int, int]] = []  # (index, exit code), in their order
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Kubelet":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for job, index in list(self._pods):
            self.kill(job, index)

    def kill(self, job: str, index: int) -> None:
        """End a pod with all its processes at once, as the loss of its node would."""
        pod = self._pods[job, index]
        for pid in _of_pod(job, index):
            os.kill(pid, signal.SIGKILL)
        pod.wait()

    def _run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            for name in self._cluster.named("jobs"):
                job = self._cluster.objects["jobs", name]
                if not (job.get("status") or {}).get("conditions"):
                    self._look_after(name, job)

    def _look_after(self, name: str, job: dict[str, Any]) -> None:
        spec = job["spec"]
        for index in range(spec["completions"]):
            pod = self._pods.get((name, index))
            if (name, index) in self._done:
                continue
            if pod is None:
                self._pods[name, index] = _start(name, index, spec["template"]["spec"])
            elif pod.poll() is not None:
                self.ends.append((index, pod.returncode))
                final = spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]
                if pod.returncode in final:
                    self._cluster.end("jobs", name, "Failed", "PodFailurePolicy")
                elif pod.returncode == 0:
                    self._done.add((name, index))
                del self._pods[name, index]
        if all((name, index) in self._done for index in range(spec["completions"])):
            self._cluster.end("jobs", name, "Complete")


def _start(name: str, index: int, pod: dict[str, Any]) -> "subprocess.Popen[bytes]":
    (container,) = pod["containers"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.getcwd(),
        **given,
        "JOB_COMPLETION_INDEX": str(index),
        "NODE_NAME": f"n{index}",
    }
    if "MASTER_ADDR" in given:  # nobody resolves the Service's names here
        environment["MASTER_ADDR"] = "127.0.0.1"
    command = [word.replace("$$(", "$(") for word in container["command"]]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


def _of_pod(job: str, index: int) -> list[int]:
    """The processes that were started with a pod's variables."""
    wanted = {"JOB_COMPLETION_INDEX": str(index)}
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            given = environment_of(int(entry))
            if wanted.items() <= given.items() and given.get("OLMO_JOB_ID", "").endswith(job):
                found.append(int(entry))
    return found
