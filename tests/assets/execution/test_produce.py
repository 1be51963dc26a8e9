"""An asset is made once: found when finished, followed when at work, refused without inputs."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from assets.execution import produce as produce_module
from assets.execution.follow import JobFailed
from assets.execution.produce import Produced, main_line_work
from assets.graph import Graph
from assets.launcher import Refused
from olmo_core.run.folder import RunFolder
from pipelines.launchers.local import LocalLauncher
from tests.conftest import SilentObserver, make_work, toy_graph


def produce(
    graph: Graph,
    name: str,
    *,
    root: Path,
    launcher: LocalLauncher,
    observer: SilentObserver,
    force: bool = False,
) -> Produced:
    work = main_line_work(graph, name, root)
    return make_work(work, root=root, launcher=launcher, observer=observer, force=force)


def make(graph: Graph, name: str, root: Path, *, force: bool = False) -> Produced:
    return produce(
        graph, name, root=root, launcher=LocalLauncher(), observer=SilentObserver(), force=force
    )


def starts(graph: Graph, root: Path, name: str) -> int:
    return len((graph.folder(root, name) / "starts").read_text())


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_finished_asset_is_reported_again_and_started_once(toy_root: Path) -> None:
    graph = toy_graph()
    first = make(graph, "first", toy_root)
    assert first.how == "launched"
    stamp = first.folder.result.stat().st_mtime_ns
    again = make(graph, "first", toy_root)
    assert (again.how, again.folder.path) == ("finished before", first.folder.path)
    assert first.folder.result.stat().st_mtime_ns == stamp
    assert starts(graph, toy_root, "first") == 1


def test_inputs_are_found_by_fingerprint_and_recorded(toy_root: Path) -> None:
    graph = toy_graph(second={"value": 10})
    with pytest.raises(Refused, match="its input first has not been made"):
        make(graph, "second", toy_root)
    first = make(graph, "first", toy_root)
    second = make(graph, "second", toy_root)
    assert second.result["report"]["numbers"]["value"] == 11
    recorded = second.result["inputs"]["first"]
    assert recorded["digest"] == first.result["digest"]
    assert toy_root / recorded["path"] == first.folder.path


def test_a_changed_value_makes_a_new_version_beside_the_old(toy_root: Path) -> None:
    old = make(toy_graph(), "first", toy_root)
    new = make(toy_graph(first={"value": 2}), "first", toy_root)
    assert new.how == "launched"
    assert new.folder.path != old.folder.path
    assert old.folder.finished


def test_code_edited_since_the_run_began_starts_nothing(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(produce_module, "code_hashes", lambda module, now: {module: "edited"})
    with pytest.raises(Refused, match="first: the code that makes it has changed"):
        make(toy_graph(), "first", toy_root)
    assert not toy_graph().folder(toy_root, "first").exists()


@pytest.mark.parametrize("kept", [0, 1, 0.5])
def test_a_torn_result_is_no_result(toy_root: Path, kept: float) -> None:
    graph = toy_graph()
    folder = make(graph, "first", toy_root).folder
    # the job lives on for a moment after its result, and would be followed instead
    wait_until(lambda: not LocalLauncher().state(folder).alive)
    result = folder.result
    whole = result.read_bytes()
    result.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else 1])
    again = make(graph, "first", toy_root)
    assert again.how == "launched"
    assert again.result["attempt"] == 2


def test_an_input_that_was_damaged_is_named_with_the_remedy(toy_root: Path) -> None:
    graph = toy_graph()
    value = make(graph, "first", toy_root).folder.path / "value"
    stamp = value.stat()
    for damage in (b"", b"7", None):
        value.unlink()
        if damage is not None:
            value.write_bytes(damage)
        with pytest.raises(Refused, match=r"value: .*; make it again: .* first --force"):
            make(graph, "second", toy_root)
        if damage is None:
            break
        os.utime(value, ns=(stamp.st_atime_ns, time.time_ns() + 10**9))
    make(graph, "first", toy_root, force=True)
    assert make(graph, "second", toy_root).how == "launched"


@pytest.mark.parametrize("garbage", ["", "{", "[]"])
def test_a_garbled_heartbeat_ends_nobody(toy_root: Path, garbage: str) -> None:
    graph = toy_graph()
    folder = graph.folder(toy_root, "first") / graph.fingerprints["first"].version
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(garbage)
    assert make(graph, "first", toy_root).how == "launched"


def test_force_makes_a_new_version_of_the_same_fingerprint(toy_root: Path) -> None:
    graph = toy_graph()
    old = make(graph, "first", toy_root)
    new = make(graph, "first", toy_root, force=True)
    assert new.folder.path.name == old.folder.path.name + ".2"
    assert make(graph, "first", toy_root).folder.path == new.folder.path


def test_a_failure_says_what_where_and_how_to_repeat_it(toy_root: Path) -> None:
    graph = toy_graph(first={"fail": True})
    with pytest.raises(JobFailed) as caught:
        make(graph, "first", toy_root)
    message = str(caught.value)
    assert "first: InputError: toy.jsonl:7: text missing" in message
    assert "exit code 3" in message
    assert "submission1.log" in message
    assert "-m toy_job" in message
    assert graph.finished(toy_root, "first") is None


def test_a_job_killed_by_a_signal_is_told_apart_and_repeated(
    toy_root: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    graph = toy_graph(first={"wait": str(gate)})
    launcher = LocalLauncher()
    folder = RunFolder(graph.folder(toy_root, "first") / graph.fingerprints["first"].version)

    class Killer(SilentObserver):
        def progress(self, asset: str, status: object) -> None:
            assert isinstance(status, dict)
            os.kill(status["pid"], signal.SIGKILL)

    with pytest.raises(JobFailed, match="ended by signal 9"):
        produce(graph, "first", root=toy_root, launcher=launcher, observer=Killer())
    assert not folder.finished
    gate.touch()
    again = make(graph, "first", toy_root)
    assert again.folder.path == folder.path
    assert again.result["attempt"] == 2


def _produce_in_process(root: str, gate: str, hows: "multiprocessing.Queue[str]") -> None:
    hows.put(make(toy_graph(first={"wait": gate}), "first", Path(root)).how)


def test_two_submissions_at_once_start_one_job(toy_root: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    hows: multiprocessing.Queue[str] = context.Queue()
    gate = tmp_path / "gate"
    both = [
        context.Process(target=_produce_in_process, args=(str(toy_root), str(gate), hows))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    graph = toy_graph(first={"wait": str(gate)})
    wait_until((graph.folder(toy_root, "first") / "starts").exists)
    gate.touch()
    other, one = sorted(hows.get(timeout=60) for _ in both)
    assert one == "launched"
    assert other in ("finished before", "following")  # it may have been slow to begin
    for process in both:
        process.join()
    assert starts(graph, toy_root, "first") == 1


def test_a_job_outlives_its_submitter_and_is_followed_by_the_next(
    toy_root: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    graph = toy_graph(first={"wait": str(gate)})
    code = (
        "from pathlib import Path\n"
        "from tests.assets.execution.test_produce import make\n"
        "from tests.conftest import toy_graph\n"
        f"make(toy_graph(first={{'wait': {str(gate)!r}}}), 'first', Path({str(toy_root)!r}))\n"
    )
    submitter = subprocess.Popen([sys.executable, "-c", code])
    wait_until((graph.folder(toy_root, "first") / "starts").exists)
    submitter.kill()
    submitter.wait()
    [folder] = graph.unfinished(toy_root, "first")
    assert LocalLauncher().state(folder).alive

    class Opener(SilentObserver):
        def started(self, asset: str, folder: RunFolder, how: str) -> None:
            super().started(asset, folder, how)
            gate.touch()

    observer = Opener()
    produce(graph, "first", root=toy_root, launcher=LocalLauncher(), observer=observer)
    assert observer.how == {"first": "following"}
    assert starts(graph, toy_root, "first") == 1


def test_cancel_ends_every_process_of_the_job_and_no_other(toy_root: Path, tmp_path: Path) -> None:
    graph = toy_graph(first={"wait": str(tmp_path / "never"), "child": True})
    launcher = LocalLauncher()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    class Canceller(SilentObserver):
        def progress(self, asset: str, status: object) -> None:
            [folder] = graph.unfinished(toy_root, "first")
            if (folder.path / "child").exists():
                launcher.cancel([folder])

    with pytest.raises(JobFailed):
        produce(graph, "first", root=toy_root, launcher=launcher, observer=Canceller())
    [folder] = graph.unfinished(toy_root, "first")
    child = int((folder.path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_job_feels_signals_that_its_starter_ignores(toy_root: Path, tmp_path: Path) -> None:
    graph = toy_graph(first={"wait": str(tmp_path / "never")})
    ignored = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:

        class Canceller(SilentObserver):
            def progress(self, asset: str, status: object) -> None:
                assert isinstance(status, dict)
                os.kill(status["pid"], signal.SIGTERM)

        with pytest.raises(JobFailed, match="exit code 4"):
            produce(graph, "first", root=toy_root, launcher=LocalLauncher(), observer=Canceller())
    finally:
        signal.signal(signal.SIGTERM, ignored)
