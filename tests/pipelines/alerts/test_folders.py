"""Run folders: a job that fails or stands still is told once, whoever started it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from assets.execution.follow import GONE_PATIENCE_SECONDS
from assets.execution.produce import launch_of, main_line_work
from assets.launcher import EngineUnavailable, JobState, Launch
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.alerts.folders import Folders
from pipelines.alerts.message import Alert
from pipelines.alerts.sensor import Memory
from pipelines.launchers.local import LocalLauncher
from pipelines.site.file import AlertsSite, Site
from tests.conftest import toy_graph

VERSION = "0123456789ab"
MINUTES = 60.0
AT_WORK = JobState(alive=True, description="job 7 running on n1")
GONE = JobState(alive=False)


@dataclass(kw_only=True)
class Engine:
    """Says of each job what the test says; a job that it knows nothing of is gone."""

    states: dict[Path, JobState | EngineUnavailable] = field(default_factory=dict)

    def state(self, folder: RunFolder) -> JobState:
        said = self.states.get(folder.path, GONE)
        if isinstance(said, EngineUnavailable):
            raise said
        return said

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        raise NotImplementedError

    def dry_run(self, launch: Launch) -> str:
        raise NotImplementedError

    def queues(self, launch: Launch) -> bool:
        raise NotImplementedError

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        raise NotImplementedError


class Bench:
    """A root with run folders, and the sensor's memory of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.engine, self.folders = root, Engine(), Folders()
        root.mkdir()
        self.troubles: list[str] = []

    def run(self, asset: str = "stage1", *, distributed: bool = True, **more: Any) -> RunFolder:
        folder = RunFolder(self.root / "demo" / asset / VERSION)
        folder.path.mkdir(parents=True, exist_ok=True)
        run = {"distributed": distributed}
        self.write(folder.launch, recipe="demo", engine="local", run=run, submission=1, **more)
        self.engine.states[folder.path] = AT_WORK
        return folder

    def write(self, path: Path, **content: Any) -> None:
        write_json(path, {"schema_version": 1, **content})

    def status(self, folder: RunFolder, **more: Any) -> None:
        status = {"state": "running", "attempt": 1, "progressed": 1.0, "busy": 1.0, "done": 12}
        self.write(
            folder.status, **{**status, "unit": "steps", "host": "n1", "error": None, **more}
        )

    def look(self, now: float = 0.0, *, stall_minutes: float = 30) -> list[Alert]:
        """A tick; what is remembered goes through the cursor."""
        kept = Memory.load(Memory(folders=self.folders).dump()).folders
        assert asdict(kept) == asdict(self.folders)
        self.folders = kept
        found, self.troubles = kept.look(
            self.root, self.engine, stall_seconds=stall_minutes * MINUTES, now=now
        )
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "root")


def append(folder: RunFolder, row: Mapping[str, Any]) -> None:
    with folder.metrics.open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_what_was_there_before_the_first_look_is_not_told(bench: Bench) -> None:
    spiking, failed, gone = bench.run(), bench.run("soup"), bench.run("export")
    append(spiking, {"step": 3, "spike/loss": 1})
    bench.write(failed.failure, cause="killed")
    for folder in (failed, gone):
        bench.engine.states[folder.path] = GONE
    assert bench.look(0) == []
    assert bench.look(1000) == []
    append(spiking, {"step": 4, "spike/loss": 1, "train/CrossEntropyLoss": 7.25})
    [told] = bench.look(1060)
    assert (told.kind, told.recipe, told.asset, told.run) == (
        "loss_spike",
        "demo",
        "stage1",
        VERSION,
    )
    assert told.step == 4
    assert "loss 7.25 at step 4" in told.seen
    assert str(spiking.path) in told.look
    assert "olmo logs demo stage1" in told.look


def test_a_spike_of_a_job_that_begins_and_ends_between_two_looks_is_told(bench: Bench) -> None:
    bench.write(bench.run("soup").result)
    bench.look()
    folder = bench.run()
    append(folder, {"step": 4, "spike/grad_norm": 1, "optim/total_grad_norm": 50.0})
    bench.write(folder.result, recipe="demo")
    [told] = bench.look()
    assert "gradient norm 50 at step 4" in told.seen
    assert bench.look() == []
    assert bench.look() == []
    assert bench.folders.watched == {}  # a finished run costs no memory


def test_a_loss_that_is_no_number_is_told(bench: Bench) -> None:
    bench.look()
    folder = bench.run()
    append(folder, {"step": 4, "train/CrossEntropyLoss": float("nan")})
    [told] = bench.look()
    assert (told.kind, told.step) == ("not_finite", 4)
    assert "train/CrossEntropyLoss" in told.seen


def test_a_job_that_stands_still_is_told_once_until_it_moves(bench: Bench) -> None:
    folder = bench.run()
    bench.status(folder)
    for minute in (0, 29):
        assert bench.look(minute * MINUTES) == []
    bench.status(folder, busy=2.0)  # ranks that wait for each other use the CPU
    [told] = bench.look(31 * MINUTES)
    assert told.kind == "stalled"
    assert "31 min" in told.seen
    assert "job 7 running on n1" in told.seen
    assert "12 steps" in told.seen
    assert bench.look(90 * MINUTES) == []
    bench.status(folder, progressed=2.0)
    assert bench.look(91 * MINUTES) == []
    assert [each.kind for each in bench.look(122 * MINUTES)] == ["stalled"]


def test_the_minutes_are_the_sites(bench: Bench) -> None:
    bench.status(bench.run())
    bench.look(0)
    assert bench.look(4 * MINUTES, stall_minutes=5) == []
    assert len(bench.look(5 * MINUTES, stall_minutes=5)) == 1


def test_a_job_of_one_process_that_computes_does_not_stand_still(bench: Bench) -> None:
    folder = bench.run("tokens", distributed=False)
    for minute in range(0, 120, 20):
        bench.status(folder, busy=float(minute))
        assert bench.look(minute * MINUTES) == []
    assert [each.kind for each in bench.look(140 * MINUTES)] == ["stalled"]


def test_a_job_that_waits_in_a_queue_does_not_stand_still(bench: Bench) -> None:
    folder = bench.run()
    bench.engine.states[folder.path] = JobState(alive=True, queued=True)
    for hour in range(30):
        assert bench.look(hour * 60 * MINUTES) == []
    bench.engine.states[folder.path] = AT_WORK  # and says nothing: starting is no progress
    assert bench.look(29 * 60 * MINUTES + 60) == []
    assert len(bench.look(30 * 60 * MINUTES)) == 1


def test_what_a_supervisor_gave_up_is_told_with_its_words(bench: Bench) -> None:
    bench.look()
    folder = bench.run()
    bench.status(folder, step=37)
    bench.write(
        folder.failure,
        cause="killed",
        summary="rank 1 on n1 was ended by signal 9 (SIGKILL) at step 37",
        error=None,
        exit_code=None,
        signal=9,
        step=37,
    )
    assert bench.look() == []  # it is at work: the next submission's job
    bench.engine.states[folder.path] = JobState(alive=False, ended="OUT_OF_MEMORY")
    [told] = bench.look()
    assert (told.kind, told.step) == ("job_failed", 37)
    assert "rank 1 on n1 was ended" in told.seen
    assert "it ran out of the memory" in told.seen
    assert bench.look() == []
    bench.run()  # submitted again, and fails again in the same way
    bench.write(folder.launch, recipe="demo", engine="local", submission=2)
    assert bench.look() == []
    bench.engine.states[folder.path] = GONE
    assert [each.kind for each in bench.look()] == ["job_failed"]


def test_a_diverged_run_is_one_whose_loss_is_no_number(bench: Bench) -> None:
    bench.look()
    folder = bench.run()
    bench.engine.states[folder.path] = GONE
    bench.status(folder, state="failed", error="Diverged: the loss of step 9 is nan", step=8)
    [told] = bench.look()
    assert told.kind == "not_finite"
    assert "the loss of step 9 is nan" in told.seen


@pytest.mark.parametrize("how", ["status", "failure", "file"])
def test_a_job_that_somebody_has_ended_is_not_told(bench: Bench, how: str) -> None:
    bench.look()
    folder = bench.run()
    bench.engine.states[folder.path] = GONE
    if how == "status":
        bench.status(folder, state="stopped")
    elif how == "failure":
        bench.write(folder.failure, cause="stopped")
    else:  # killed before it could say anything
        bench.status(folder)
        folder.cancel.touch()
    assert bench.look(0) + bench.look(GONE_PATIENCE_SECONDS) == []


def test_a_job_that_is_gone_for_a_moment_is_in_a_queue_again(bench: Bench) -> None:
    bench.look()
    folder = bench.run()
    bench.status(folder)
    bench.engine.states[folder.path] = GONE
    assert bench.look(100) == []
    bench.engine.states[folder.path] = JobState(alive=True, queued=True)
    assert bench.look(160) == []
    bench.engine.states[folder.path] = GONE
    assert bench.look(220) == []
    [told] = bench.look(280)
    assert told.kind == "job_failed"
    assert "without a result" in told.seen


def test_an_engine_that_is_silent_and_a_damaged_folder_hide_no_other(bench: Bench) -> None:
    bench.look()
    silent, damaged, failed = bench.run("a"), bench.run("b"), bench.run("c")
    bench.engine.states[silent.path] = EngineUnavailable("slurmctld does not answer")
    damaged.launch.write_text("{")
    bench.engine.states[failed.path] = GONE
    bench.status(failed, state="failed", error="InputError: no such file")
    [told] = bench.look()
    assert told.asset == "c"
    assert [trouble.partition(":")[0] for trouble in bench.troubles] == ["demo/a", "demo/b"]


def test_a_root_that_is_not_mounted_is_not_forgotten(bench: Bench, tmp_path: Path) -> None:
    folder = bench.run()
    append(folder, {"step": 3, "spike/loss": 1})
    bench.look()
    bench.root.rename(tmp_path / "elsewhere")
    assert bench.look() == []
    assert "no such folder" in bench.troubles[0]
    (tmp_path / "elsewhere").rename(bench.root)
    assert bench.look() == []


def test_no_job_is_given_the_address(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example.org/canary")
    monkeypatch.setenv("OTHER", "seen")
    launcher = LocalLauncher(site=Site(alerts=AlertsSite(url_variable="HOOK")))
    gate = toy_root.parent / "gate"
    graph = toy_graph(first={"wait": str(gate)})
    launch = launch_of(main_line_work(graph, "first", toy_root), toy_root)
    launcher.submit([launch])
    job = launcher._children[launch.folder.path]
    given = Path(f"/proc/{job.pid}/environ").read_bytes()
    gate.touch()
    assert job.wait() == 0
    assert b"OTHER=seen" in given
    assert b"canary" not in given


def test_a_real_job_that_fails_is_told_with_its_error(toy_root: Path) -> None:
    toy_root.mkdir()
    launcher, folders = LocalLauncher(), Folders()
    folders.look(toy_root, launcher, stall_seconds=60, now=0)
    launch = launch_of(main_line_work(toy_graph(first={"fail": True}), "first", toy_root), toy_root)
    launcher.submit([launch])
    launcher._children[launch.folder.path].wait()
    [told], _ = folders.look(toy_root, launcher, stall_seconds=60, now=1)
    assert (told.kind, told.recipe, told.asset) == ("job_failed", "toy", "first")
    assert "toy.jsonl:7: text missing" in told.seen
    assert folders.look(toy_root, launcher, stall_seconds=60, now=99)[0] == []
