"""Short jobs of the local engine take turns in one process: what each sees, and who may end it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assets.execution.follow import JobFailed, follow
from assets.launcher import Launch
from olmo_core.errors import ExitCode
from olmo_core.run.folder import RunFolder
from olmo_core.run.process import start_ticks, state_of
from pipelines.launchers.local import LocalLauncher
from tests.conftest import SilentObserver, toy_graph


def launch_of(root: Path, number: int, **config: object) -> Launch:
    node = toy_graph(first=config).nodes["first"]
    folder = RunFolder(root / "toy" / "first" / f"{number:012d}")
    return Launch(
        folder=folder,
        module=node.module,
        stage="evals",
        config=node.config_file({}, folder.path),
        identity={"recipe": "toy", "asset": "first", "fingerprint": f"{number:012d}"},
        in_turn=True,
        environment={"OLMO_ROOT": str(root)},
    )


def made(launcher: LocalLauncher, launch: Launch) -> Mapping[str, Any]:
    """The result of a job that is started now.

    Raises:
        JobFailed: it has none.
    """
    assert launcher.submit([launch])
    return followed(launcher, launch)


def followed(launcher: LocalLauncher, launch: Launch) -> Mapping[str, Any]:
    [(_, ended)] = follow({"first": launch.folder}, launcher, SilentObserver())
    if isinstance(ended, JobFailed):
        raise ended
    return ended


def process_of(launch: Launch) -> int:
    """The process that has run a job, or runs it."""
    status = launch.folder.read_status()
    assert status is not None
    return status["pid"]


def record_of(launch: Launch) -> dict[str, Any]:
    record = launch.folder.read(launch.folder.launch)
    assert record is not None
    return record


def wait_until_at_work(launch: Launch) -> None:
    deadline = time.monotonic() + 30
    while (launch.folder.read_status() or {}).get("progressed") is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_process_runs_them_each_in_its_own_folder_and_log(toy_root: Path) -> None:
    launcher = LocalLauncher()
    first, second = (launch_of(toy_root, number, value=number, child=True) for number in (1, 2))
    results = [made(launcher, launch) for launch in (first, second)]
    assert [result["report"]["numbers"]["value"] for result in results] == [1, 2]
    assert process_of(first) == process_of(second)
    for launch in (first, second):
        record = record_of(launch)
        assert record["exit_code"] == ExitCode.FINISHED
        assert "pid" not in record
        log = (launch.folder.path / record["log"]).read_text()
        assert log.count("line 299") == 1
        child = int((launch.folder.path / "child").read_text())
        assert start_ticks(child) is not None
        launcher.cancel([launch.folder])  # ends what the job has left, and not who ran it
        assert state_of(child) in ("", "Z")  # whoever ran its job has not asked for its end
    assert process_of(first) == process_of(second)
    assert made(launcher, launch_of(toy_root, 3))["digest"]


def test_a_failed_one_is_seen_by_all_and_stops_no_other(toy_root: Path) -> None:
    launcher = LocalLauncher()
    good, bad, after = (launch_of(toy_root, n, fail=n == 2) for n in (1, 2, 3))
    made(launcher, good)
    with pytest.raises(JobFailed, match=r"toy\.jsonl:7: text missing"):
        made(launcher, bad)
    process = process_of(bad)
    for observer in (launcher, LocalLauncher()):  # another one knows launch.json alone
        state = observer.state(bad.folder)
        assert (state.alive, state.exit_code) == (False, ExitCode.INPUT)
        observer.cancel([bad.folder])
    made(launcher, after)
    assert process_of(good) == process == process_of(after)


def test_a_module_that_cannot_be_run_fails_its_job_and_says_so(toy_root: Path) -> None:
    launcher = LocalLauncher()
    launch = launch_of(toy_root, 1)
    broken = Launch(**{**vars(launch), "module": "no_such_job"})
    with pytest.raises(JobFailed, match="No module named no_such_job"):
        made(launcher, broken)
    assert made(launcher, launch_of(toy_root, 2))["digest"]


@pytest.mark.parametrize("ends", ["cancel", "kill"])
def test_who_ends_one_at_work_ends_no_other(toy_root: Path, tmp_path: Path, ends: str) -> None:
    launcher = LocalLauncher()
    before, launch, after = (
        launch_of(toy_root, n, wait=str(tmp_path / "gate") if n == 2 else "") for n in (1, 2, 3)
    )
    made(launcher, before)
    assert launcher.submit([launch])
    wait_until_at_work(launch)
    assert not LocalLauncher().submit([launch])
    assert LocalLauncher().state(launch.folder).alive
    if ends == "cancel":
        LocalLauncher().cancel([launch.folder])
    else:
        os.kill(process_of(launch), signal.SIGKILL)
    with pytest.raises(JobFailed, match="exit code 4" if ends == "cancel" else "SIGKILL"):
        followed(launcher, launch)
    made(launcher, after)
    assert process_of(after) != process_of(before)
    (tmp_path / "gate").touch()
    assert made(launcher, launch)["attempt"] == 2


SUBMITTER = """
import sys
from pathlib import Path
from pipelines.launchers.local import LocalLauncher
from tests.pipelines.launchers.test_in_turn import launch_of
assert LocalLauncher().submit([launch_of(Path(sys.argv[1]), 1, wait=sys.argv[2])])
print("submitted", flush=True)
sys.stdin.read()
"""


def test_it_outlives_its_submitter_by_the_job_at_hand(toy_root: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(toy_root), str(gate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert submitter.stdout is not None
    assert submitter.stdout.readline() == b"submitted\n"
    submitter.kill()
    submitter.communicate()
    launch = launch_of(toy_root, 1)
    wait_until_at_work(launch)
    process = process_of(launch)
    assert LocalLauncher().state(launch.folder).alive
    gate.touch()
    assert followed(LocalLauncher(), launch)["attempt"] == 1
    deadline = time.monotonic() + 30
    while start_ticks(process) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_most_memory_of_a_job_is_its_own(toy_root: Path) -> None:
    module = next(Path(path) for path in os.environ["PYTHONPATH"].split(os.pathsep)) / "toy_job.py"
    module.write_text(
        module.read_text().replace(
            '    """Toy."""', '    """Toy."""\n    held = b"x" * (config.value << 20)'
        )
    )
    launcher = LocalLauncher()
    large, small = (
        made(launcher, launch_of(toy_root, number, value=value))["peak_memory_bytes"]
        for number, value in ((1, 300), (2, 1))
    )
    assert small < large - (200 << 20)
