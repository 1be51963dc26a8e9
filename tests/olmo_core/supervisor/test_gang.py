"""Nodes that nothing starts together, as real processes: who is lost comes back, all begin anew."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor.members import members, send

# One node's part of an attempt: acts.json says what each node does in each attempt.
NODE = """
import json, os, signal, sys, threading
from pathlib import Path
from olmo_core.run.command import exit_codes
from olmo_core.run.job import Job, Report, Stopped

folder = Path(sys.argv[1])
rank, attempt = int(os.environ["JOB_COMPLETION_INDEX"]), int(os.environ["OLMO_ATTEMPT"])
acts = json.loads(Path(__file__).with_name("acts.json").read_text())
act = acts[min(attempt, len(acts)) - 1][rank]
print(f"node {rank}, attempt {attempt}: {act}", flush=True)
asked = threading.Event()
here = folder / "log" / f"here.{attempt}.{rank}"

def act_out(is_asked):
    here.touch()
    while not (folder / "log" / f"here.{attempt}.{1 - rank}").exists():
        threading.Event().wait(0.01)
    if act == "finish":
        return
    if act.startswith("exit "):
        os._exit(int(act[5:]))
    if act == "fail when alone":
        while not (folder / "log" / "alone").exists():
            threading.Event().wait(0.01)
        os._exit(1)
    stop = folder / "log" / "stop"  # as ranks agree on it
    while not is_asked() and not stop.exists():
        threading.Event().wait(0.01)
    stop.touch()
    raise Stopped

with exit_codes():
    if rank == 0:
        with Job.open(folder, resumable=True) as job:
            job.progress(attempt, 10, unit="steps")
            job._write_status()
            act_out(lambda: job.stop_requests)
            job.finish(Report())
    else:
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        act_out(asked.is_set)
"""

# The gang with shorter waits.
GANG = """
import sys
from olmo_core.supervisor.gang import beats, first, follower, process
for module in (first, follower):
    module.TICK_SECONDS = 0.02
    module.LAST_WORDS_SECONDS = 1.0
first.SIGN_SECONDS = 2.0
process.TICK_SECONDS = 0.02
follower.BEAT_SECONDS = 0.05
from olmo_core.supervisor.gang.__main__ import main
main(sys.argv[1:])
"""


class Gang:
    """A run folder, and one process per node."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root / "recipe" / "asset" / "0123456789ab")
        self.folder.log.mkdir(parents=True)
        self.root = root
        self.pods: list[subprocess.Popen[bytes]] = []
        (root / "node.py").write_text(NODE)
        (root / "gang.py").write_text(GANG)

    def submit(self, *acts: tuple[str, str]) -> None:
        (self.root / "acts.json").write_text(json.dumps(acts))
        gang = [sys.executable, str(self.root / "gang.py"), str(self.folder.path)]
        run: dict[str, Any] = {
            "command": [*gang, "--attempt"],
            "each_node": [sys.executable, str(self.root / "node.py"), str(self.folder.path)],
            "nodes": 2,
            "stall_timeout_seconds": 60,
            "max_failures": 3,
        }
        said = {"schema_version": 1, "submission": 1, "log": "log/submission1.log", "run": run}
        write_json(self.folder.launch, {**said, "engine": "kubernetes"})
        write_json(self.folder.claim, {"schema_version": 1, "key": "0" * 32, "submission": 1})

    def pod(self, index: int) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "PYTHONPATH": os.getcwd(),
            "JOB_COMPLETION_INDEX": str(index),
            "OLMO_JOB_ID": "lm/job",
            "NODE_NAME": f"n{index}",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29400",
        }
        for name in ("OLMO_ATTEMPT", "SLURM_JOB_ID"):
            environment.pop(name, None)
        command = [sys.executable, str(self.root / "gang.py"), str(self.folder.path)]
        self.pods.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        return self.pods[-1]

    def wait_for_part(self, attempt: int, index: int) -> None:
        path = self.folder.log / f"here.{attempt}.{index}"
        wait_until(path.exists)

    def ends(self) -> list[tuple[str, str]]:
        rows = attempts.read(self.folder)
        return [(row["cause"], row["next"]) for row in rows if row["event"] == "ended"]


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    made = Gang(tmp_path)
    yield made
    for pod in made.pods:
        pod.kill()
        pod.wait()
    send(list(members(made.folder.path)), signal.SIGKILL)


def test_all_nodes_take_part_and_leave_when_it_is_finished(gang: Gang) -> None:
    gang.submit(("finish", "finish"))
    first, other = gang.pod(0), gang.pod(1)
    assert (first.wait(60), other.wait(60)) == (0, 0)
    assert gang.ends() == [("finished", "")]
    log = (gang.folder.log / "submission1.log").read_text()
    assert "node 0, attempt 1: finish" in log
    assert "node 1, attempt 1" in (gang.folder.log / "attempt1.node1.log").read_text()
    # A pod that is started again, for whatever reason, has nothing to do.
    assert gang.pod(0).wait(60) == 0


def test_a_part_that_fails_begins_anew_on_all_nodes(gang: Gang) -> None:
    gang.submit(("wait", "exit 137"), ("finish", "finish"))
    first, other = gang.pod(0), gang.pod(1)
    assert (first.wait(60), other.wait(60)) == (0, 0)
    assert gang.ends() == [("killed", "resume"), ("finished", "")]


def test_what_cannot_get_better_ends_the_job_with_its_exit_code(gang: Gang) -> None:
    gang.submit(("wait", "exit 3"))
    first, other = gang.pod(0), gang.pod(1)
    assert (first.wait(60), other.wait(60)) == (3, 0)
    assert gang.ends() == [("input", "stop")]
    # If its pod is lost at this moment, the next one does not wait for nodes that have left.
    assert gang.pod(0).wait(60) == 1


def test_nothing_begins_before_all_nodes_are_there(gang: Gang) -> None:
    gang.submit(("finish", "finish"))
    first = gang.pod(0)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(1.5)
    assert attempts.read(gang.folder) == []
    gang.pod(1)
    assert first.wait(60) == 0


def test_a_file_system_in_trouble_is_waited_for(gang: Gang) -> None:
    gang.submit(("finish", "finish"))
    beat = gang.folder.log / "gang" / "node1.json"
    beat.mkdir(parents=True)  # neither to be written nor read
    first, other = gang.pod(0), gang.pod(1)
    log = gang.folder.log / "attempt1.node1.log"
    wait_until(lambda: log.exists() and "beat not written" in log.read_text())
    beat.rmdir()
    assert (first.wait(60), other.wait(60)) == (0, 0)


def test_a_node_that_is_lost_is_waited_for(gang: Gang) -> None:
    gang.submit(("wait", "wait"), ("finish", "finish"))
    first, other = gang.pod(0), gang.pod(1)
    gang.wait_for_part(1, 1)
    gang.wait_for_part(1, 0)
    given = members(gang.folder.path, 1)
    theirs = [pid for pid, env in given.items() if env["JOB_COMPLETION_INDEX"] == "1"]
    other.kill()
    send(theirs, signal.SIGKILL)
    again = gang.pod(1)
    assert (first.wait(60), again.wait(60)) == (0, 0)
    assert gang.ends() == [("node_lost", "requeue"), ("finished", "")]
    assert attempts.read(gang.folder)[1]["node"] == "n1"


def test_a_failure_that_follows_from_a_loss_is_a_loss(gang: Gang) -> None:
    gang.submit(("fail when alone", "wait"), ("finish", "finish"))
    first, other = gang.pod(0), gang.pod(1)
    gang.wait_for_part(1, 1)
    gang.wait_for_part(1, 0)
    given = members(gang.folder.path, 1)
    theirs = [pid for pid, env in given.items() if env["JOB_COMPLETION_INDEX"] == "1"]
    other.kill()
    send(theirs, signal.SIGKILL)
    (gang.folder.log / "alone").touch()
    wait_until(lambda: len(gang.ends()) == 1)
    assert gang.ends() == [("node_lost", "requeue")]
    gang.pod(1)
    assert first.wait(60) == 0


def test_a_node_that_has_to_go_stops_all_at_a_safe_point(gang: Gang) -> None:
    gang.submit(("wait", "wait"), ("finish", "finish"))
    first, other = gang.pod(0), gang.pod(1)
    gang.wait_for_part(1, 1)
    gang.wait_for_part(1, 0)
    other.terminate()
    assert other.wait(60) == 75
    wait_until(lambda: len(gang.ends()) == 1)
    (gang.folder.log / "stop").unlink()
    again = gang.pod(1)
    assert (first.wait(60), again.wait(60)) == (0, 0)
    assert gang.ends() == [("preempted", "requeue"), ("finished", "")]


def test_the_first_node_that_has_to_go_asks_for_another_turn(gang: Gang) -> None:
    gang.submit(("wait", "wait"), ("finish", "finish"))
    first, other = gang.pod(0), gang.pod(1)
    gang.wait_for_part(1, 1)
    gang.wait_for_part(1, 0)
    first.terminate()
    assert first.wait(60) == 75
    (gang.folder.log / "stop").unlink()
    again = gang.pod(0)
    assert (again.wait(60), other.wait(60)) == (0, 0)
    assert gang.ends() == [("preempted", "requeue"), ("finished", "")]


def test_a_first_node_that_is_lost_begins_the_next_attempt_when_it_is_back(gang: Gang) -> None:
    gang.submit(("wait", "wait"), ("finish", "finish"))
    first, other = gang.pod(0), gang.pod(1)
    gang.wait_for_part(1, 1)
    gang.wait_for_part(1, 0)
    supervisor = [
        int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and parent(int(pid)) == first.pid
    ]
    given = members(gang.folder.path, 1)
    theirs = [pid for pid, env in given.items() if env["JOB_COMPLETION_INDEX"] == "0"]
    first.kill()
    send([*supervisor, *theirs], signal.SIGKILL)
    first.wait()
    again = gang.pod(0)
    assert (again.wait(60), other.wait(60)) == (0, 0)
    assert gang.ends() == [("node_lost", "resume"), ("finished", "")]


def parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])
