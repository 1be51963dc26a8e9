"""Two hundred jobs as one array: each one's state is known, for one squeue an interval."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from assets.launcher import JobState
from pipelines.launchers.slurm.launcher import SlurmLauncher
from pipelines.launchers.slurm.queue import client
from tests.pipelines.kills import CANCEL_SECONDS
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys, set_up, until
from tests.slurm.table import TABLE

pytestmark = pytest.mark.slurm

TASKS = 200
POLL_SECONDS = 1.0
FOLLOWED_SECONDS = 4.0
MOST_SCANCELS = 6  # to cancel them all: those that wait, those at work, and who is late
MOST_CALLS = 25  # a squeue a half second
# Follows every task from another process.
FOLLOWER = """
import os, sys, time
from pathlib import Path
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys
conf = Path(os.environ["SLURM_CONF"])
toys = Toys(cluster=Cluster(folder=conf.parent, configuration=conf), root=Path(sys.argv[1]))
launcher = toys.launcher(poll_seconds=float(sys.argv[2]))
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    assert all(launcher.state(toys.launch(f"task{k}").folder).description for k in range(200))
    time.sleep(0.5)
"""
# Follows one job as an asset does, every ten seconds with a squeue, and says what share of a core
# it took: this process and the commands that it ran.
PATIENT_FOLLOWER = """
import os, resource, sys, time
from pathlib import Path
from assets.execution.follow import follow
from pipelines.launchers.router import site_launcher
from tests.conftest import SilentObserver
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys
conf = Path(os.environ["SLURM_CONF"])
toys = Toys(cluster=Cluster(folder=conf.parent, configuration=conf), root=Path(sys.argv[1]))
seconds = float(sys.argv[2])

def cpu():
    ones = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in ones)

def meanwhile():
    if time.monotonic() - began >= seconds:
        print((cpu() - used) / seconds)
        sys.exit()

router = site_launcher(toys.launcher(poll_seconds=10.0).site)
began, used = time.monotonic(), cpu()
[*follow({"first": toys.launch("followed").folder}, router, SilentObserver(), meanwhile)]
"""


@pytest.fixture
def toys(cluster: Cluster, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    set_up(monkeypatch, cluster)
    return Toys(cluster=cluster, root=toy_root)


def test_two_hundred_tasks_are_followed_by_one_squeue_an_interval(
    toys: Toys, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    launches = [toys.launch(f"task{k}", value=k, wait=str(gate)) for k in range(TASKS)]
    asked: list[tuple[str, float]] = []

    def ask(command: Sequence[str]) -> str:
        asked.append((command[0], time.monotonic()))
        return client(command)

    launcher = toys.launcher(poll_seconds=POLL_SECONDS)
    assert launcher.submit(launches) == sorted(launches, key=lambda one: one.folder.path)
    assert launcher.submit(launches) == []
    ids = [toys.read(launch)["job_id"] for launch in launches]
    assert len(set(ids)) == TASKS
    assert len({job_id.partition("_")[0] for job_id in ids}) == 1
    until(lambda: launcher.state(launches[0].folder).alive, "the array")

    launcher = SlurmLauncher(site=launcher.site, ask=ask)
    states: dict[int, JobState] = {}
    end = time.monotonic() + FOLLOWED_SECONDS
    environment = toys.cluster.environment
    more = [str(toys.root), str(POLL_SECONDS), str(FOLLOWED_SECONDS)]
    other = subprocess.Popen([sys.executable, "-c", FOLLOWER, *more], env=environment)

    def follow(number: int) -> None:
        while time.monotonic() < end:
            states[number] = launcher.state(launches[number].folder)
            time.sleep(0.5)

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(TASKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait() == 0
    assert {name for name, _ in asked} == {"squeue"}
    assert len(asked) <= FOLLOWED_SECONDS / POLL_SECONDS + 1
    words = Counter(state.description.split()[2].rstrip(":") for state in states.values())
    assert set(words) == {"running", "pending"}
    assert len(states) == TASKS
    TABLE.add(
        f"{TASKS} array tasks queued",
        "each state shown, one squeue an interval",
        f"{words['running']} running, {words['pending']} pending; {len(asked)} squeue in "
        f"{FOLLOWED_SECONDS:.0f} s at an interval of {POLL_SECONDS:.0f} s, 2 processes following",
    )

    gate.touch()
    done = until(lambda: [one for one in launches if one.folder.finished], "a task's end")
    for launch in done:
        number = launch.folder.read_result()["report"]["numbers"]["value"]
        assert launch.folder.path.parent.name == f"task{number}"
        assert (launch.folder.path / toys.read(launch)["log"]).is_file()
    gate.unlink()
    left = [launch for launch in launches if not launch.folder.finished]
    until(lambda: sum(one.folder.is_running() for one in left) > 3, "tasks that wait at the gate")
    asked.clear()
    began = time.monotonic()
    launcher.cancel([launch.folder for launch in left])
    took = time.monotonic() - began
    assert toys.cluster.processes() == []
    assert took < CANCEL_SECONDS
    calls = Counter(name for name, _ in asked)
    assert calls["scancel"] <= MOST_SCANCELS
    assert calls.total() <= MOST_CALLS
    ends = [launcher.state(launch.folder) for launch in left]
    assert not any(state.alive for state in ends)
    assert ends[-1].ended == "CANCELLED"
    assert Counter(name for name, _ in asked)["scontrol"] == 0  # known without a question each
    TABLE.add(
        f"cancel of {TASKS} array tasks",
        "no process left after 10 s, a handful of commands",
        f"none after {took:.1f} s; {calls['scancel']} scancel, {calls['squeue']} squeue",
    )


@pytest.mark.drill
def test_following_costs_less_than_a_hundredth_of_a_core(toys: Toys) -> None:
    seconds = 60.0
    launch, launcher = toys.launch("followed", wait="/nonexistent"), toys.launcher()
    launcher.submit([launch])
    until(lambda: launch.folder.read_status(), "the job's start")
    more = [str(toys.root), str(seconds)]
    done = subprocess.run(
        [sys.executable, "-c", PATIENT_FOLLOWER, *more],
        env=toys.cluster.environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    launcher.cancel([launch.folder])
    share = float(done.stdout)
    TABLE.add("following a job", "< 1% of one core", f"{share:.2%} over {seconds:.0f} s")
    assert share < 0.01
