"""The pods of one job under a stand-in JobSet: who is started again, what counts, what ends it.

The manifests and the pods are the engine's own; a toy stands for each node's ranks.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assets.launcher import Launch
from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from tests.pipelines.launchers.kubernetes.kubelet import Kubelet, can_isolate
from tests.pipelines.launchers.kubernetes.kubernetes_bench import Bench, recorded

pytestmark = pytest.mark.skipif(not can_isolate(), reason="no process namespaces (unshare) here")

# One node's part of an attempt: acts.json says what each node does in each attempt.
NODE = """
import json, os, signal, sys, threading
from pathlib import Path
from olmo_core.errors import exit_codes
from olmo_core.run.job import Job, Report, Stopped
from olmo_core.supervisor.failure import Failure, exit_status, write_node

folder = Path(sys.argv[1])
rank, attempt = int(os.environ["JOB_COMPLETION_INDEX"]), int(os.environ["OLMO_ATTEMPT"])
acts = json.loads(Path(__file__).with_name("acts.json").read_text())
act = acts[min(attempt, len(acts)) - 1][rank]
print(f"node {rank}, attempt {attempt}: {act}", flush=True)
asked = threading.Event()
here = folder / "log" / f"here.{attempt}.{rank}"

def act_out(job, is_asked):
    here.touch()
    while not (folder / "log" / f"here.{attempt}.{1 - rank}").exists():
        threading.Event().wait(0.01)
    if act == "finish":
        return
    if act.startswith("exit "):
        code, number = exit_status(int(act[5:]))
        failure = Failure(rank=rank, exit_code=code, signal=number, time=1.0)
        write_node(job, attempt, rank, [failure])
        os._exit(int(act[5:]))
    if act == "lonely":
        while not (folder / "log" / "lonely").exists():
            threading.Event().wait(0.01)
        said = "Connection closed by peer"
        write_node(job, attempt, rank, [Failure(rank=rank, exit_code=1, message=said, time=1.0)])
        os._exit(1)
    stop = folder / "stop"  # as ranks agree on it
    while act == "deaf" or not (is_asked() or stop.exists() and stop.read_text() == str(attempt)):
        threading.Event().wait(0.01)
    stop.write_text(str(attempt))
    raise Stopped

with exit_codes():
    if rank == 0:
        with Job.open(folder, resumable=True) as job:
            job.progress(attempt, 10, unit="steps")
            job._write_status()
            act_out(job.files, lambda: job.stop_requests)
            job.finish(Report())
    else:
        from olmo_core.run.folder import RunFolder
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        act_out(RunFolder(folder), asked.is_set)
"""

# The pod with shorter waits.
POD = """
from olmo_core.supervisor import classify_exit, pod, supervise
pod.TICK_SECONDS = supervise.TICK_SECONDS = 0.05
supervise.LAST_WORDS_SECONDS = 1.0
classify_exit.WORD_SECONDS = 1.0
pod.main()
"""


class Set:
    """A run folder, its JobSet, and the pods of that."""

    def __init__(self, bench: Bench, kubelet: Kubelet, root: Path) -> None:
        self.bench, self.kubelet, self.root = bench, kubelet, root
        self.launch: Launch = bench.launch()
        self.folder: RunFolder = self.launch.folder
        (root / "node.py").write_text(NODE)
        (root / "pod.py").write_text(POD)

    def submit(self, *acts: tuple[str, str], **run: Any) -> None:
        (self.root / "acts.json").write_text(json.dumps(acts))
        assert self.bench.launcher().submit([self.launch])
        record = recorded(self.launch)
        command = [sys.executable, str(self.root / "node.py"), str(self.folder.path)]
        record["run"] |= {"command": command, **run}
        write_json(self.folder.launch, record)
        job = self.job["spec"]["replicatedJobs"][0]["template"]["spec"]
        (container,) = job["template"]["spec"]["containers"]
        container["command"] = [sys.executable, str(self.root / "pod.py"), str(self.folder.path)]
        self.kubelet.start()

    @property
    def name(self) -> str:
        return self.bench.job()

    @property
    def job(self) -> dict[str, Any]:
        return self.bench.cluster.objects["jobsets", self.name]

    def end(self) -> tuple[str, str]:
        """How the JobSet ends."""
        wait_until(lambda: bool(self.job.get("status")))
        (condition,) = self.job["status"]["conditions"]
        return condition["type"], condition["reason"]

    def wait_for_attempt(self, number: int) -> None:
        """Wait until both nodes take part in it."""
        here = [self.folder.log / f"here.{number}.{rank}" for rank in (0, 1)]
        wait_until(lambda: all(path.exists() for path in here))

    @property
    def restarts(self) -> tuple[int, int]:
        """All of them, and those that count towards JobSet's own limit."""
        pods = self.kubelet.pods[self.name]
        return pods.restarts, pods.restarts_counted

    @property
    def ends(self) -> list[tuple[str, str]]:
        rows = attempts.read(self.folder)
        return [(row["cause"], row["next"]) for row in rows if row["event"] == "ended"]


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def pods(bench: Bench, tmp_path: Path) -> Iterator[Set]:
    kubelet = Kubelet(bench.cluster)
    yield Set(bench, kubelet, tmp_path)
    kubelet.stop()


def test_all_pods_take_part_and_the_set_is_complete(pods: Set) -> None:
    pods.submit(("finish", "finish"))
    assert pods.end() == ("Completed", "")
    assert (pods.ends, pods.restarts) == ([("finished", "")], (0, 0))
    log = (pods.folder.log / "submission1.log").read_text()
    assert "node 0, attempt 1: finish" in log
    assert "attempt 1: the job on" in log
    assert "node 1" in (pods.folder.log / "submission1.restart0.node1.log").read_text()


def test_nothing_begins_before_all_pods_are_there(pods: Set) -> None:
    pods.kubelet.unscheduled.add(1)
    pods.submit(("finish", "finish"))
    wait_until((pods.folder.log / "submission1.log").exists)
    time.sleep(1)
    assert attempts.read(pods.folder) == []
    pods.kubelet.unscheduled.clear()
    assert pods.end() == ("Completed", "")


def test_a_node_that_fails_has_all_pods_started_again(pods: Set) -> None:
    pods.submit(("wait", "exit 137"), ("finish", "finish"))
    assert pods.end() == ("Completed", "")
    assert pods.ends == [("killed", "requeue"), ("finished", "")]
    assert attempts.read(pods.folder)[1]["rank"] == 1
    assert pods.restarts == (1, 0)  # the supervisor counts, not JobSet


@pytest.mark.parametrize("acts", [("wait", "exit 3"), ("exit 3", "wait")])
def test_what_cannot_get_better_fails_the_set_with_its_exit_code(
    pods: Set, acts: tuple[str, str]
) -> None:
    pods.submit(acts)
    assert pods.end() == ("Failed", "FailJobSetFailurePolicyAction")
    assert pods.ends == [("input", "stop")]
    assert (pods.folder.read(pods.folder.failure) or {})["exit_code"] == 3


def test_the_supervisor_counts_failures_without_progress(pods: Set) -> None:
    pods.submit(("wait", "exit 137"), max_failures=2)
    assert pods.end() == ("Failed", "FailJobSetFailurePolicyAction")
    assert pods.ends == [("killed", "requeue"), ("killed", "stop")]
    assert (pods.folder.read(pods.folder.failure) or {})["summary"].endswith(
        "failed 2 times since the start"
    )
    assert pods.restarts == (1, 0)


@pytest.mark.parametrize("index", [0, 1])
def test_a_pod_that_is_evicted_stops_all_at_a_safe_point_and_counts_nowhere(
    pods: Set, index: int
) -> None:
    pods.submit(("wait", "wait"), ("finish", "finish"), max_failures=1)
    pods.wait_for_attempt(1)
    pods.kubelet.evict(pods.name, index)
    assert pods.end() == ("Completed", "")
    assert pods.ends == [("preempted", "requeue"), ("finished", "")]
    assert pods.restarts == (1, 0)


def test_a_node_that_is_lost_makes_the_others_begin_anew(pods: Set) -> None:
    pods.submit(("lonely", "wait"), ("finish", "finish"))
    pods.wait_for_attempt(1)
    (pods.folder.log / "lonely").touch()  # its ranks lose the others'
    pods.kubelet.lose(pods.name, 1)
    assert pods.end() == ("Completed", "")
    assert pods.ends == [("node_lost", "requeue"), ("finished", "")]
    assert attempts.read(pods.folder)[1]["node"] is None
    assert pods.restarts == (1, 0)


def test_the_first_node_that_is_lost_is_counted_by_its_successor(pods: Set) -> None:
    pods.submit(("wait", "wait"), ("finish", "finish"))
    pods.wait_for_attempt(1)
    pods.kubelet.lose(pods.name, 0)
    assert pods.end() == ("Completed", "")
    assert pods.ends == [("node_lost", "resume"), ("finished", "")]


def test_a_pod_killed_without_a_word_counts_towards_the_sets_limit(pods: Set) -> None:
    pods.submit(("wait", "wait"), ("finish", "finish"))
    pods.wait_for_attempt(1)
    pods.kubelet.pods[pods.name].running[1].kill()  # the kernel, for want of memory
    assert pods.end() == ("Completed", "")
    assert pods.restarts == (1, 1)


def test_a_pod_lost_after_the_last_word_repeats_it_and_begins_nothing(
    pods: Set,
) -> None:
    pods.submit(("exit 3", "wait"))
    assert pods.end() == ("Failed", "FailJobSetFailurePolicyAction")
    environment = {**os.environ, "OLMO_JOB_ID": f"lm/{pods.name}", "OLMO_RESTART": "1"}
    command = [sys.executable, str(pods.root / "pod.py"), str(pods.folder.path)]
    again = subprocess.run(
        command, env={**environment, "PYTHONPATH": os.getcwd()}, stdout=subprocess.DEVNULL
    )
    assert again.returncode == 3
    assert len(pods.ends) == 1
