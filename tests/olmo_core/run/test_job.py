"""The frame of a job: alone in its folder, honest in its errors, its marker last."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from olmo_core.errors import InputError
from olmo_core.run.folder import RunFolder, locked, read_metrics
from olmo_core.run.job import Job, Report

JOB = """
import sys, time
from dataclasses import dataclass
from olmo_core.config.load import ConfigError
from olmo_core.run.command import run_job
from olmo_core.run.job import InputError, Report

@dataclass(frozen=True, kw_only=True)
class Config:
    what: str

def make(config, inputs, job):
    "Do what the configuration says."
    (job.folder / "part.txt").write_text("half")
    if config.what == "wait":
        job.progress(1, 10, unit="things")
        while True:
            time.sleep(0.01)
    if config.what == "bad-input":
        raise InputError("x.jsonl:3: text missing")
    if config.what == "bug":
        raise KeyError("oops")
    if config.what == "closed":
        raise PermissionError(13, "Permission denied", "tokens.npy")
    if config.what == "no such file":
        raise FileNotFoundError(2, "No such file", "tokens.npy")
    assert not (job.folder / "stale.txt").exists()
    with job.timed("writing"):
        (job.folder / "out.txt").write_text("whole")
        (job.scratch / "scratch.txt").write_text("gone")
    job.metric({"step": 1, "loss": 2.0})
    return Report(numbers={"documents": 1})

if __name__ == "__main__":  # tasks import this module
    run_job(Config, make)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "root" / "recipe" / "asset" / "0123456789ab"
    path.mkdir(parents=True)
    (tmp_path / "job.py").write_text(JOB)
    return path


def start(folder: Path, what: str) -> "subprocess.Popen[str]":
    (folder / "config.yaml").write_text(f"config: {{what: {what}}}\ninputs: {{}}\n")
    return subprocess.Popen(
        [sys.executable, str(folder.parents[3] / "job.py"), str(folder / "config.yaml")],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(folder: Path, key: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = RunFolder(folder).read(RunFolder(folder).status)
        if status and status[key]:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {key} in status.json")


def test_a_finished_job_leaves_its_outputs_and_the_marker(folder: Path) -> None:
    (folder / "stale.txt").write_text("an earlier attempt's")
    process = start(folder, "work")
    assert process.wait() == 0, process.communicate()[1]
    result = RunFolder(folder).read_result()
    assert set(result["files"]) == {"out.txt", "part.txt"}
    assert result["report"]["numbers"] == {"documents": 1}
    assert result["timings"]["writing"] >= 0
    assert result["peak_memory_bytes"] > 1 << 20
    assert not (folder / "work").exists()
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    assert [row["loss"] for row in read_metrics(folder / "metrics.jsonl")] == [2.0]


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("bad-input", 3, "input: x.jsonl:3: text missing"),
        ("bug", 1, "KeyError: 'oops'"),
        ("closed", 3, "input: tokens.npy: Permission denied"),
        ("no such file", 1, "Traceback"),  # one that should have been looked for, and so a bug
        ("{a: 1}", 2, "what: expected a text"),
    ],
)
def test_a_failed_job_says_why_and_leaves_no_marker(
    folder: Path, what: str, code: int, message: str
) -> None:
    process = start(folder, what)
    _, stderr = process.communicate()
    assert process.returncode == code
    assert message in stderr
    assert not RunFolder(folder).finished


def test_a_full_disk_is_named_by_the_file_that_does_not_fit(folder: Path) -> None:
    (folder / "metrics.jsonl").symlink_to("/dev/full")
    process = start(folder, "work")
    _, stderr = process.communicate()
    assert process.returncode == 3
    assert f"input: {folder}/metrics.jsonl: No space left on device" in stderr
    assert "Traceback" not in stderr
    assert not RunFolder(folder).finished


def test_what_ended_a_job_is_told_also_where_its_status_cannot_be_written(tmp_path: Path) -> None:
    def fail() -> None:
        with Job.open(tmp_path):
            (tmp_path / f"status.json.{os.getpid()}.partial").mkdir()  # in the way of any status
            raise InputError("x.jsonl:3: text missing")

    with pytest.raises(InputError, match=r"x\.jsonl:3"):
        fail()


def test_its_status_shows_no_secret_of_a_url(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Job.open(tmp_path):
        raise RuntimeError("https://h/x?sig=s3cret: gone")
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["error"] == "RuntimeError: https://h/x?sig=***: gone"


def test_sigterm_stops_a_job_with_its_own_exit_code(folder: Path) -> None:
    process = start(folder, "wait")
    wait_for(folder, "pid")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 4
    process.communicate()
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"


def test_a_second_job_in_the_folder_is_refused_and_harms_nothing(folder: Path) -> None:
    first = start(folder, "wait")
    wait_for(folder, "pid")
    assert RunFolder(folder).is_running()
    second = start(folder, "wait")
    assert "another job is at work" in second.communicate()[1]
    assert second.returncode == 5
    assert (folder / "part.txt").read_text() == "half"
    first.kill()
    first.communicate()
    assert not RunFolder(folder).is_running()


def test_after_a_kill_the_lock_is_free_and_the_next_attempt_counts(folder: Path) -> None:
    first = start(folder, "wait")
    wait_for(folder, "pid")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert not RunFolder(folder).finished
    second = start(folder, "work")
    assert second.wait() == 0, second.communicate()[1]
    assert RunFolder(folder).read_result()["attempt"] == 2


def test_metrics_keep_the_last_row_of_a_step_and_tolerate_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 1, "loss": 9}\n{"st')
    assert [(row["step"], row["loss"]) for row in read_metrics(path)] == [(2, 2), (1, 9)]


def test_the_first_row_after_a_torn_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "lo')
    with Job.open(tmp_path, resumable=True) as job:
        job.metric({"step": 2, "loss": 2})
        job.metric({"step": 3, "loss": 1})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("content", ["", "{}\n", '{"step": 1', '{"step": 1}\n{"step": 2}\n'])
def test_whole_rows_stay(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with Job.open(tmp_path, resumable=True):
        assert path.read_text() == (content if content.endswith("\n") else "")


@pytest.mark.parametrize(
    ("name", "reason"), [("file", "File exists"), ("file/below", "Not a directory")]
)
def test_a_folder_that_cannot_be_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=f"{name}: no folder .*: {reason}"),
        Job.open(tmp_path / name),
    ):
        pass


def test_a_run_folder_may_lie_anywhere() -> None:
    assert not Job(Path("/no-such-folder"), resumable=True).stop_requests


def test_a_lock_is_exclusive(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as first, locked(tmp_path / "lock", wait=False) as second:
        assert first
        assert not second


@pytest.mark.parametrize(
    ("said", "begun"),
    [
        ([(5, 10, "files"), (9, 10, "files")], 5),
        ([(5, 10, "files"), (9, 20, "bytes")], 9),  # another part of the work
        ([(5, 10, "files"), (1, 10, "files")], 1),  # one that counts as much
    ],
)
def test_rates_begin_where_a_part_of_the_work_begins(
    folder: Path, said: list[tuple[int, int, str]], begun: int
) -> None:
    with Job.open(folder) as job:
        for done, total, unit in said:
            job.progress(done, total, unit=unit)
        job.finish(Report())
    status = RunFolder(folder).read_status()
    assert status is not None
    assert status["counted_from"]["done"] == begun
    assert (status["done"], status["total"], status["unit"]) == said[-1]


def test_a_job_shorter_than_a_heartbeat_knows_the_memory_of_its_processes(folder: Path) -> None:
    script = folder.parents[3] / "short.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from pathlib import Path
        from olmo_core.run import job
        from olmo_core.tasks.map import process_pool

        held = []

        def hold():
            held.append(b"x" * 300_000_000)

        if __name__ == "__main__":
            job.HEARTBEAT_SECONDS = 60.0
            with job.Job.open(Path(sys.argv[1])) as made:
                made.at_end.enter_context(process_pool(1)).submit(hold).result()
                made.finish(job.Report())
        """)
    )
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    assert RunFolder(folder).read_result()["peak_memory_bytes"] > 300_000_000
