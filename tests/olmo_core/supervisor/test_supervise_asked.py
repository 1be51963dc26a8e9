"""A supervisor that is asked to make way or to stop, or that is not the only one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from olmo_core.run import attempts
from olmo_core.run.folder import locked

# What each attempt does stands in toy.json, a list of words an attempt.
from tests.olmo_core.supervisor.supervised import Toy, wait_until


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGTERM, "preempted"), (signal.SIGUSR1, "time_limit")]
)
def test_asked_to_make_way_it_stops_at_a_safe_point(
    toy: Toy, number: signal.Signals, cause: str
) -> None:
    supervisor = toy.start(["step 1", "until_asked"])
    toy.ready()
    supervisor.send_signal(number)
    assert supervisor.wait(30) == 4
    assert toy.causes == [(cause, "stop")]  # no engine here to give another turn
    assert toy.folder.read_status() is not None
    assert toy.run(["raise never"], ["step 2"]) == 0, toy.log  # and goes on later


def test_cancelled_it_stops_for_good(toy: Toy) -> None:
    supervisor = toy.start(["step 1", "until_asked"])
    toy.ready()
    toy.folder.cancel.touch()
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 4
    assert toy.causes == [("stopped", "stop")]
    assert toy.failure["summary"].endswith("was stopped on request at step 1")
    assert not toy.folder.cancel.exists()  # answered


def test_cancelled_in_the_queue_it_does_not_begin(toy: Toy) -> None:
    toy.submit(["step 1"])
    toy.folder.cancel.touch()
    assert toy.run(["step 1"]) == 4
    assert attempts.read(toy.folder) == []


def scontrol(toy: Toy, *, state: str, works: bool = True) -> Path:
    """Slurm's command, as far as the supervisor calls it; notes what it is asked."""
    path = toy.script.parent / "bin" / "scontrol"
    path.parent.mkdir()
    calls = toy.script.parent / "calls"
    path.write_text(
        f"#!/bin/sh\necho $@ >> {calls}\n"
        f'[ "$1" = requeue ] && {{ {"exit 0" if works else "echo no; exit 1"}; }}\n'
        f"echo JobId=7 JobState={state} Reason=None\n"
    )
    path.chmod(0o755)
    toy.environment |= {
        "PATH": f"{path.parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
    }
    return calls


def test_slurm_is_asked_for_another_turn(toy: Toy) -> None:
    calls = scontrol(toy, state="RUNNING")
    supervisor = toy.start(["step 1", "until_asked"])
    toy.ready()
    supervisor.send_signal(signal.SIGUSR1)
    wait_until(lambda: calls.exists() and "requeue 7" in calls.read_text())
    assert toy.causes == [("time_limit", "requeue")]
    supervisor.send_signal(signal.SIGTERM)  # as Slurm then does
    assert supervisor.wait(30) == 4
    assert not toy.folder.failure.exists()
    assert attempts.read(toy.folder)[0]["job_id"] == "7"


def test_a_task_of_an_array_is_called_as_in_the_queue(toy: Toy) -> None:
    scontrol(toy, state="RUNNING")
    toy.environment |= {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    assert toy.run(["step 1"]) == 0
    assert attempts.read(toy.folder)[0]["job_id"] == "5_2"


def test_what_slurm_has_cancelled_is_not_put_into_the_queue_again(toy: Toy) -> None:
    calls = scontrol(toy, state="CANCELLED")
    supervisor = toy.start(["step 1", "until_asked"])
    toy.ready()
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 4
    assert toy.causes == [("stopped", "stop")]
    assert "requeue" not in calls.read_text()


def test_what_slurm_has_preempted_it_requeues_itself(toy: Toy) -> None:
    calls = scontrol(toy, state="PREEMPTED")
    # the ranks alone were asked, not the supervisor
    assert toy.run(["step 1", "exit 4"]) == 4
    assert toy.causes == [("preempted", "requeue")]
    assert "requeue" not in calls.read_text()


def test_an_attempt_without_an_end_was_lost_with_its_node(toy: Toy) -> None:
    toy.submit()
    attempts.begin(toy.folder, engine="slurm", job_id="7")
    assert toy.run(["raise never"], ["step 1"]) == 0
    assert toy.causes == [("node_lost", "resume"), ("finished", "")]


def test_a_job_whose_successor_has_begun_ends_at_once(toy: Toy) -> None:
    supervisor = toy.start(["step 1", "hang"])
    wait_until(lambda: bool((toy.folder.read_status() or {}).get("step")))
    before = toy.folder.status.read_text()
    attempts.begin(toy.folder, engine="slurm", job_id="7")
    assert supervisor.wait(30) == 5
    assert "a later one has begun" in toy.log
    assert json.loads(before)["state"] == "running"
    status = toy.folder.read_status()
    assert status is not None
    assert status["state"] == "running"  # it has not said a word more


def test_a_second_supervisor_is_refused(toy: Toy) -> None:
    first = toy.start(["step 1", "until_asked"])
    toy.ready()
    assert toy.start(["step 1"]).wait(30) == 5
    assert "another supervisor is at work" in toy.log
    first.terminate()
    assert first.wait(30) == 4
    assert len(toy.ends) == 1


def test_another_job_in_the_folder_is_waited_for(toy: Toy) -> None:
    with locked(toy.folder.path / "job.lock"):
        supervisor = toy.start(["raise never"], ["step 1"])
        wait_until(lambda: "another job is at work" in toy.log)
    assert supervisor.wait(30) == 0
    assert toy.causes == [("running", "resume"), ("finished", "")]


def test_a_torn_line_is_passed_over_and_spoils_no_other(toy: Toy) -> None:
    toy.submit()
    first = attempts.begin(toy.folder, engine="local", job_id=None)
    with toy.folder.attempts.open("a") as lines:
        lines.write('{"attempt": 1, "event": "en')
    assert attempts.latest(toy.folder) == first == 1
    assert attempts.begin(toy.folder, engine="local", job_id=None) == 2
    rows = [(row["attempt"], row["event"]) for row in attempts.read(toy.folder)]
    assert rows == [(1, "began"), (1, "ended"), (2, "began")]


def test_it_starts_without_heavy_imports() -> None:
    code = (
        "import sys, olmo_core.supervisor.supervise\n"
        "print([name for name in ('psutil', 'yaml', 'numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
