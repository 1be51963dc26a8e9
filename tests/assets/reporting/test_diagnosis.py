"""What a person reads of a job that failed."""

from pathlib import Path

import pytest

from assets.launcher import JobState
from assets.reporting.diagnosis import diagnosis
from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.attempts import Ended
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor.failure import Failure, write_failure

GONE = JobState(alive=False)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    (folder.log).mkdir(parents=True)
    (folder.log / "submission1.log").write_text("the main log\n")
    write_json(
        folder.launch,
        {"schema_version": 1, "log": "log/submission1.log", "command_line": "cd here && run it"},
    )
    return folder


def test_what_the_supervisor_found_is_told_with_the_log_of_that_rank(folder: RunFolder) -> None:
    (folder.log / "attempt2.rank1.log").write_text("what rank 1 said last\n")
    (folder.path / "checkpoints" / "step100").mkdir(parents=True)
    (folder.path / "checkpoints" / "step100" / "manifest.json").touch()
    ends = [
        Ended(cause="hung", step=120, checkpoint_step=100, next="resume"),
        Ended(cause="killed", signal=9, rank=1, node="n2", step=137, checkpoint_step=100),
    ]
    for ended in ends:
        number = attempts.begin(folder, engine="slurm", job_id="7")
        attempts.end(folder, number, ended)
    failure = Failure(rank=1, node="n2", signal=9, log="log/attempt2.rank1.log")
    write_failure(folder, 2, ends[1], failure, times=2)
    assert diagnosis("stage1", folder, GONE).splitlines() == [
        "stage1: rank 1 on n2 was ended by signal 9 (SIGKILL) at step 137; "
        "failed 2 times since step100",
        "ended by signal 9 (SIGKILL)",
        "attempt 1: hung, at step 120",
        "attempt 2: killed, signal 9 (SIGKILL), rank 1 on n2, at step 137",
        f"last whole checkpoint: {folder.path}/checkpoints/step100",
        f"last lines of {folder.path}/log/attempt2.rank1.log:",
        "  what rank 1 said last",
        "by hand: cd here && run it",
    ]


@pytest.mark.parametrize(
    ("word", "meaning"),
    [("OUT_OF_MEMORY", "ran out of the memory"), ("NODE_FAIL", "its node failed")],
)
def test_the_engines_word_is_told_with_its_meaning(
    folder: RunFolder, word: str, meaning: str
) -> None:
    said = diagnosis("tokens", folder, JobState(alive=False, exit_code=-9, ended=word))
    assert f"the engine says: {word} (it" in said
    assert meaning in said
    assert "ended by signal 9 (SIGKILL)" in said
    assert "  the main log" in said


def test_memory_that_lacked_is_told_where_only_the_log_says_so(folder: RunFolder) -> None:
    (folder.log / "submission1.log").write_text("torch.OutOfMemoryError: CUDA out of memory.\n")
    said = diagnosis("stage1", folder, JobState(alive=False, exit_code=1))
    assert said.startswith("stage1: the job ended without a result\nexit code 1\nit ran out of")


def test_a_job_of_which_nothing_is_left_says_so_still(tmp_path: Path) -> None:
    assert diagnosis("raw", RunFolder(tmp_path), GONE) == "raw: the job ended without a result"
