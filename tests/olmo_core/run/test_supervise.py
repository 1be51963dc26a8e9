"""The supervisor over toy jobs, real processes that end in every way there is."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from olmo_core.run import attempts
from olmo_core.run.files import write_json
from olmo_core.run.folder import RunFolder, locked
from olmo_core.run.members import members

# What each attempt does stands in toy.json, a list of words an attempt.
TOY = """
import json, os, signal, sys, threading, time
from pathlib import Path
from olmo_core.run.command import exit_codes
from olmo_core.run.job import Job, Report, Stopped

folder = Path(sys.argv[1])
attempt = int(os.environ["OLMO_ATTEMPT"])
acts = json.loads(Path(__file__).with_name("toy.json").read_text())
with exit_codes(), Job.open(folder, resumable=True) as job:
    for act in acts[min(attempt, len(acts)) - 1]:
        word, _, value = act.partition(" ")
        if word == "step":
            job.progress(int(value), 10, unit="steps", figures={"step": int(value)})
        elif word == "checkpoint":
            (folder / "checkpoints" / f"step{value}").mkdir(parents=True)
            (folder / "checkpoints" / f"step{value}" / "manifest.json").touch()
        elif word == "say":
            print(value, flush=True)
        elif word == "exit":
            os._exit(int(value))
        elif word == "signal":
            job._write_status()
            os.kill(os.getpid(), int(value))
            threading.Event().wait()
        elif word == "pause":
            threading.Event().wait(float(value))
        elif word == "allocate":
            filled = bytearray(b"x") * (int(value) << 20)
        elif word == "compute":
            end = time.monotonic() + float(value)
            while time.monotonic() < end:
                pass
        elif word == "hang":
            threading.Event().wait()
        elif word == "raise":
            raise KeyError(value)
        elif word == "until_asked":
            (folder / "log" / "ready").touch()
            while not job.stop_requests:
                threading.Event().wait(0.01)
            raise Stopped
    job.finish(Report())
"""

Supervise = Callable[..., int]


class Toy:
    """A run folder with a toy job in it, and its supervisor."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root / "recipe" / "asset" / "0123456789ab")
        self.folder.log.mkdir(parents=True)
        self.script = root / "toy.py"
        self.script.write_text(TOY)
        self.group: Path | None = None  # control group
        self.environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        for name in ("OLMO_ATTEMPT", "SLURM_JOB_ID"):
            self.environment.pop(name, None)

    def start(self, *acts: list[str], **run: Any) -> "subprocess.Popen[bytes]":
        self.submit(*acts, **run)
        with (self.folder.log / "attempt1.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "olmo_core.run.supervise", str(self.folder.path)],
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=self._enter_group,
            )

    def _enter_group(self) -> None:
        if self.group is not None:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def submit(self, *acts: list[str], submission: int = 1, **run: Any) -> None:
        self.script.with_name("toy.json").write_text(json.dumps(acts))
        command = [sys.executable, str(self.script), str(self.folder.path)]
        write_json(
            self.folder.launch,
            {
                "schema_version": 1,
                "engine": "slurm" if "SLURM_JOB_ID" in self.environment else "local",
                "log": "log/attempt1.log",
                "command_line": "by hand",
                "run": {"command": command, "hang_seconds": 60, "most_failures": 3, **run},
            },
        )
        write_json(self.folder.claim, {"schema_version": 1, "key": "abc", "attempt": submission})

    def run(self, *acts: list[str], **run: Any) -> int:
        return self.start(*acts, **run).wait(60)

    def ready(self) -> None:
        wait_until((self.folder.log / "ready").exists)

    @property
    def ends(self) -> list[Mapping[str, Any]]:
        return [row for row in attempts.read(self.folder) if row["event"] == "ended"]

    @property
    def causes(self) -> list[tuple[str, str]]:
        return [(row["cause"], row["next"]) for row in self.ends]

    @property
    def failure(self) -> Mapping[str, Any]:
        return self.folder.read(self.folder.failure) or {}

    @property
    def log(self) -> str:
        return (self.folder.log / "attempt1.log").read_text()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    toy = Toy(tmp_path)
    yield toy
    assert not members(toy.folder.path), "a process is left"


def test_a_job_that_finishes_is_left_alone(toy: Toy) -> None:
    assert toy.run(["step 1"]) == 0
    began, ended = attempts.read(toy.folder)
    assert (began["attempt"], began["engine"], began["submission"]) == (1, "local", 1)
    assert (ended["cause"], ended["step"], ended["next"]) == ("finished", 1, "")
    assert toy.folder.read_result()["attempt"] == 1
    assert not toy.folder.failure.exists()
    assert toy.run(["raise never"]) == 0  # finished already: nothing is started
    assert len(attempts.read(toy.folder)) == 2


def test_what_was_killed_is_resumed(toy: Toy) -> None:
    assert toy.run(["step 3", "signal 9"], ["step 4"]) == 0, toy.log
    assert toy.causes == [("killed", "resume"), ("finished", "")]
    assert (toy.ends[0]["signal"], toy.ends[0]["step"]) == (9, 3)
    assert toy.folder.read_result()["attempt"] == 2


def test_a_failure_after_the_first_step_is_resumed(toy: Toy) -> None:
    assert toy.run(["step 1", "raise weather"], ["step 2"]) == 0, toy.log
    assert toy.causes == [("error", "resume"), ("finished", "")]


def test_a_failure_before_the_first_step_is_none_to_repeat(toy: Toy) -> None:
    assert toy.run(["raise mistake"]) == 1
    assert toy.causes == [("error", "stop")]
    failure = toy.failure
    assert failure["cause"] == "error"
    assert failure["exit_code"] == 1
    assert failure["command_line"] == "by hand"
    assert "KeyError: 'mistake'" in failure["last_lines"]
    assert failure["summary"].endswith("failed with exit code 1")


@pytest.mark.parametrize(("code", "cause"), [(2, "config"), (3, "input"), (6, "diverged")])
def test_what_a_repetition_cannot_mend_stops(toy: Toy, code: int, cause: str) -> None:
    assert toy.run(["step 1", f"exit {code}"]) == code
    assert toy.causes == [(cause, "stop")]
    assert (toy.failure["cause"], toy.failure["exit_code"]) == (cause, code)


def test_three_failures_without_a_new_checkpoint_stop_with_a_diagnosis(toy: Toy) -> None:
    code = toy.run(
        ["step 1", "signal 9"],
        ["checkpoint 100", "step 120", "signal 9"],
        ["step 130", "signal 11"],
        ["step 137", "say the last word", "signal 9"],
        ["step 138"],
    )
    assert code == 1
    assert toy.causes == [("killed", "resume")] * 3 + [("killed", "stop")]
    assert [row["checkpoint_step"] for row in toy.ends] == [None, 100, 100, 100]
    failure = toy.failure
    assert "ended by signal 9 (SIGKILL) at step 137" in failure["summary"]
    assert failure["summary"].endswith("failed 3 times since step100")
    assert failure["checkpoint"] == str(toy.folder.path / "checkpoints" / "step100")
    assert "the last word" in failure["last_lines"]
    assert (failure["attempts"], failure["step"]) == (4, 137)


def test_whoever_submits_again_begins_to_count_anew(toy: Toy) -> None:
    bad = ["step 1", "signal 9"]
    assert toy.run(bad, most_failures=1) == 1
    assert toy.causes == [("killed", "stop")]
    assert toy.run(bad, bad, ["step 2"], most_failures=2, submission=2) == 0, toy.log
    assert toy.causes[1:] == [("killed", "resume"), ("finished", "")]
    assert not toy.folder.failure.exists()


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A control group below our own whose processes share so much memory."""
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = next((path for _, names, path in groups if "memory" in names.split(",")), None)
    if own is not None:  # version 1
        parent, limit = Path("/sys/fs/cgroup/memory") / own.lstrip("/"), "memory.limit_in_bytes"
    else:
        parent = Path("/sys/fs/cgroup") / next(path for *_, path in groups).lstrip("/")
        limit = "memory.max"
    group = parent / f"olmo-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        pytest.skip(f"no control group with a limit of memory can be made here: {error}")
    yield group
    group.rmdir()


def test_the_kernels_kill_for_want_of_memory_is_told_apart(toy: Toy) -> None:
    with memory_group(200 << 20) as group:
        toy.group = group
        assert toy.run(["step 1", "allocate 500"], ["step 2"]) == 0, toy.log
    assert toy.causes == [("out_of_memory", "resume"), ("finished", "")]
    assert toy.ends[0]["signal"] == 9


def test_memory_that_lacked_is_told_apart(toy: Toy) -> None:
    toy.run(["step 1", "say torch.OutOfMemoryError: CUDA out of memory.", "exit 1"], ["step 2"])
    assert toy.causes == [("out_of_memory", "resume"), ("finished", "")]


@pytest.mark.parametrize("how", ["hang", "signal 19"])  # without progress; without a heartbeat too
def test_a_job_that_hangs_is_ended_and_resumed(toy: Toy, how: str) -> None:
    assert toy.run(["step 5", how], ["step 6"], hang_seconds=3) == 0, toy.log
    assert toy.causes == [("hung", "resume"), ("finished", "")]
    assert toy.ends[0]["step"] == 5
    if how == "hang":
        assert "most recent call first" in toy.log  # its stacks


def test_a_job_that_computes_is_not_hung_but_ranks_that_only_compute_are(toy: Toy) -> None:
    compute = ["step 1", "compute 5", "step 2"]
    assert toy.run(compute, hang_seconds=3) == 0, toy.log
    assert toy.causes == [("finished", "")]
    toy.folder.result.unlink()
    assert toy.run([], compute, ["step 3"], hang_seconds=3, distributed=True) == 0, toy.log
    assert toy.causes[1:] == [("hung", "resume"), ("finished", "")]


def test_a_slow_job_is_not_hung(toy: Toy) -> None:
    slow = [act for number in range(4) for act in (f"step {number}", "pause 1.5")]
    assert toy.run(slow, hang_seconds=4) == 0
    assert toy.causes == [("finished", "")]


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
        "import sys, olmo_core.run.supervise\n"
        "print([name for name in ('psutil', 'yaml', 'numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
