"""The supervisor over toy jobs, real processes that end in every way there is."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core.run import attempts

# What each attempt does stands in toy.json, a list of words an attempt.
from tests.olmo_core.supervisor.supervised import Toy


def test_a_job_that_finishes_is_left_alone(toy: Toy) -> None:
    assert toy.run(["step 1"]) == 0
    began, ended = attempts.read(toy.folder)
    assert (began["attempt"], began["engine"], began["submission"]) == (1, "local", 1)
    assert (ended["cause"], ended["step"], ended["next"]) == ("finished", 1, "")
    assert toy.folder.read_result()["attempt"] == 1
    assert not toy.folder.failure.exists()
    assert toy.log.endswith(
        "supervisor: attempt 1: the job on " + began["host"] + " finished at step 1\n"
    )
    assert toy.run(["raise never"]) == 0  # finished already: nothing is started
    assert len(attempts.read(toy.folder)) == 2


def test_a_launch_that_names_no_command_is_refused(toy: Toy) -> None:
    assert toy.run(["step 1"], command=[]) == 2
    assert toy.log.endswith(f"configuration: {toy.folder.launch}: run: command missing\n")


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
    assert toy.run(bad, max_failures=1) == 1
    assert toy.causes == [("killed", "stop")]
    assert toy.run(bad, bad, ["step 2"], max_failures=2, submission=2) == 0, toy.log
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
    assert toy.run(["step 5", how], ["step 6"], stall_timeout_seconds=3) == 0, toy.log
    assert toy.causes == [("hung", "resume"), ("finished", "")]
    assert toy.ends[0]["step"] == 5
    if how == "hang":
        assert "most recent call first" in toy.log  # its stacks


@pytest.mark.slow
def test_a_job_that_computes_is_not_hung_but_ranks_that_only_compute_are(toy: Toy) -> None:
    assert toy.run(["step 1", "compute 12", "step 2"], stall_timeout_seconds=8) == 0, toy.log
    assert toy.causes == [("finished", "")]
    toy.folder.result.unlink()
    endless = ["step 1", "compute inf"]  # however late a busy machine looks, it still computes
    assert toy.run([], endless, ["step 3"], stall_timeout_seconds=8, distributed=True) == 0, toy.log
    assert toy.causes[1:] == [("hung", "resume"), ("finished", "")]


def test_a_slow_job_is_not_hung(toy: Toy) -> None:
    slow = [act for number in range(4) for act in (f"step {number}", "pause 1.5")]
    assert toy.run(slow, stall_timeout_seconds=5) == 0
    assert toy.causes == [("finished", "")]
