"""`olmo run` on a toy graph, in a real Dagster instance: what is made, reported, left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.graph import Graph
from assets.node import Check, Verdict
from pipelines.cli.execute import to_make
from pipelines.cli.reported import nothing_to_do
from pipelines.cli.run import run_graph
from pipelines.cli.show import asset_entry
from pipelines.instance import open_instance
from tests.assets.execution.test_reuse import recipe
from tests.conftest import planned, toy_graph

START = """
import sys
from pipelines.cli.run import run_graph
from tests.conftest import toy_graph
sys.exit(run_graph(toy_graph(first={"wait": sys.argv[1]}), [], force=False))
"""


def runs() -> list[Any]:
    with open_instance() as opened:
        return list(opened.get_runs())


def run(graph: Graph, *select: str, force: bool = False) -> int:
    return run_graph(graph, select, force=force)


def stamps(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in (root / "toy").rglob("*") if p.is_file()}


def test_the_second_run_starts_nothing_and_touches_nothing(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = toy_graph()
    assert run(graph) == 0
    before, count = stamps(toy_root), len(runs())
    assert run(graph) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert stamps(toy_root) == before
    assert len(runs()) == count == 1


AGAIN = """
import sys
from pipelines.cli.run import run_graph
from tests.conftest import toy_graph
code = run_graph(toy_graph(), [], force=False)
print(sorted({"dagster", "sqlalchemy", "torch"} & set(sys.modules)))
sys.exit(code)
"""


def test_with_nothing_to_make_and_nothing_new_in_dagster_it_starts_without_dagster(
    toy_root: Path,
) -> None:
    def again() -> str:
        done = subprocess.run([sys.executable, "-c", AGAIN], stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0
        assert "nothing has changed" in done.stdout
        return done.stdout.splitlines()[-1]

    graph = toy_graph()
    assert run(graph) == 0
    assert again() == "[]"
    assert nothing_to_do(graph, ["first", "second"])
    assert not nothing_to_do(toy_graph(second={"value": 5}), ["first", "second"])
    with open_instance() as opened:  # as another recipe's run does, or a person in the UI
        opened.report_runless_asset_event(dg.AssetMaterialization(["other", "first"]))
    assert not nothing_to_do(graph, ["first"])
    assert again() == "['dagster', 'sqlalchemy']"
    assert again() == "[]"
    with open_instance() as opened:  # a wipe removes events, the last one stays
        opened.wipe_assets([dg.AssetKey(["toy", "first"])])
    assert not nothing_to_do(graph, ["first"])
    assert run(graph) == 0
    assert nothing_to_do(graph, ["first", "second"])
    configuration = toy_root / "dagster" / "dagster.yaml"
    configuration.rename(toy_root / "ours.yaml")  # one that may keep the log elsewhere
    assert not nothing_to_do(graph, ["first"])
    (toy_root / "ours.yaml").rename(configuration)
    result = graph.finished(toy_root, "second")
    assert result is not None
    result.result.unlink()
    assert nothing_to_do(graph, ["first"])
    assert not nothing_to_do(graph, ["second"])


def test_a_change_remakes_what_descends_from_it_and_nothing_else(toy_root: Path) -> None:
    assert run(toy_graph()) == 0
    changed = toy_graph(second={"value": 5})
    assert planned(changed, toy_root, "first") == ("up to date", [])
    assert planned(changed, toy_root, "second") == ("stale", ["config value: absent → 5"])
    assert run(changed) == 0
    assert (changed.folder(toy_root, "first") / "starts").read_text() == "x"
    assert (changed.folder(toy_root, "second") / "starts").read_text() == "xx"


def test_going_back_to_an_old_value_reports_the_old_folder_and_starts_no_job(
    toy_root: Path,
) -> None:
    old, new = toy_graph(), toy_graph(first={"value": 2})
    assert run(old) == run(new) == run(old) == 0
    assert (old.folder(toy_root, "first") / "starts").read_text() == "xx"
    with open_instance() as opened:
        assert to_make(old, toy_root, opened, ["first"], set()) == []
        assert to_make(new, toy_root, opened, ["first"], set()) == ["first"]  # not reported last


def test_dagster_shows_what_the_job_reported(toy_root: Path) -> None:
    graph = toy_graph()
    run(graph)
    with open_instance() as opened:
        event = opened.get_latest_materialization_event(dg.AssetKey(["toy", "second"]))
        assert event is not None
        materialization = event.asset_materialization
        assert materialization is not None
        assert materialization.metadata["value"].value == "2"
        table = materialization.metadata["sources"]
        assert isinstance(table, dg.TableMetadataValue)
        assert table.records[0].data == {"source": "toy", "documents": 1}
        folder = graph.finished(toy_root, "second")
        assert folder is not None
        assert materialization.metadata["path"].value == str(folder.path)


def test_a_failure_is_printed_with_its_place_and_the_exit_code_says_so(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(toy_graph(first={"fail": True})) == 1
    printed = capsys.readouterr().out
    assert "InputError: toy.jsonl:7: text missing" in printed
    assert [entry.status for entry in runs()] == [dg.DagsterRunStatus.FAILURE]


def test_select_makes_the_asset_and_what_it_is_made_from(toy_root: Path) -> None:
    graph = toy_graph()
    run(graph, "first")
    assert graph.finished(toy_root, "first") is not None
    assert graph.finished(toy_root, "second") is None


def test_a_killed_olmo_run_leaves_its_job_and_the_next_one_follows_it(
    toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate"
    graph = toy_graph(first={"wait": str(gate)})
    killed = subprocess.Popen([sys.executable, "-c", START, str(gate)], cwd=os.getcwd())
    _wait_for(graph.folder(toy_root, "first") / "starts")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    gate.touch()
    assert run(graph) == 0
    assert (graph.folder(toy_root, "first") / "starts").read_text() == "x"
    states = {entry.status for entry in runs()}
    assert states == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}


def test_two_at_once_make_everything_once(toy_root: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    graph = toy_graph(first={"wait": str(gate)})
    both = [subprocess.Popen([sys.executable, "-c", START, str(gate)]) for _ in range(2)]
    _wait_for(graph.folder(toy_root, "first") / "starts")
    gate.touch()
    assert [process.wait(60) for process in both] == [0, 0]
    for name in ("first", "second"):
        assert (graph.folder(toy_root, name) / "starts").read_text() == "x"


def test_ctrl_c_ends_the_job_and_says_130(toy_root: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", START, str(tmp_path / "never")])
    graph = toy_graph(first={"wait": str(tmp_path / "never")})
    _wait_for(graph.folder(toy_root, "first") / "starts")
    [folder] = graph.unfinished(toy_root, "first")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert not folder.is_running()
    assert json.loads(folder.status.read_text())["state"] == "stopped"


def test_ctrl_c_starts_no_sibling_of_what_it_ended(toy_root: Path, tmp_path: Path) -> None:
    start = START.replace("tests.conftest", "tests.pipelines.cli.test_run")
    start = start.replace("toy_graph", "siblings")
    process = subprocess.Popen([sys.executable, "-c", start, str(tmp_path / "never")])
    graph = siblings(first={"wait": str(tmp_path / "never")})
    begun = [graph.folder(toy_root, name) / "starts" for name in ("first", "second")]
    _wait_for_any(begun)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert sum(path.exists() for path in begun) == 1


@pytest.mark.slow
def test_ctrl_c_only_stops_following_the_job_of_another_recipe(
    toy_root: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    start = START.replace(
        "tests.conftest import toy_graph", "tests.assets.execution.test_reuse import recipe"
    )
    one, copy = (start.replace("toy_graph(", f"recipe({name!r}, ") for name in ("one", "copy"))
    owner = subprocess.Popen([sys.executable, "-c", one, str(gate)])
    _wait_for(toy_root / "one/first/starts")
    follower = subprocess.Popen(
        [sys.executable, "-c", copy, str(gate)], stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert any("first: following" in line for line in follower.stdout)
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == 130
    [folder] = recipe("one", first={"wait": str(gate)}).unfinished(toy_root, "first")
    assert folder.is_running()
    gate.touch()
    assert owner.wait(60) == 0
    assert (toy_root / "one/first/starts").read_text() == "x"
    assert not (toy_root / "copy").exists()


def test_a_blocking_check_blocks_the_next_run_too(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = with_check(passed=False)
    for _ in range(3):
        assert run(graph) == 1
        assert "first: check sound: the reason" in capsys.readouterr().out
        assert graph.finished(toy_root, "first") is not None
        assert graph.finished(toy_root, "second") is None
    why = "check sound: the reason"
    assert planned(graph, toy_root, "first") == ("check failed", [why])
    assert planned(graph, toy_root, "second") == ("blocked", [f"by first: {why}"])
    entry = asset_entry(graph, toy_root, "first")
    assert entry is not None
    assert entry["metadata"]["failed_check"] == why
    assert run(graph, "first") == 1  # nothing to make, and still not what was asked for
    assert f"first: {why}" in capsys.readouterr().out
    assert run(with_check(passed=True)) == 0


def test_a_forced_repeat_with_other_bits_is_followed_by_what_read_the_old(toy_root: Path) -> None:
    graph = toy_graph(first={"random": True})
    assert run(graph) == 0
    assert run(graph, "first", force=True) == 0
    assert (graph.folder(toy_root, "second") / "starts").read_text() == "x"
    assert run(graph) == 0
    assert (graph.folder(toy_root, "first") / "starts").read_text() == "xx"
    assert (graph.folder(toy_root, "second") / "starts").read_text() == "xx"
    first, second = (graph.finished(toy_root, name) for name in ("first", "second"))
    assert first is not None
    assert second is not None
    assert second.read_result()["inputs"]["first"]["digest"] == first.read_result()["digest"]


def test_a_forced_repeat_with_equal_bits_changes_nothing_else(toy_root: Path) -> None:
    graph = toy_graph()
    assert run(graph) == run(graph, "first", force=True) == run(graph) == 0
    assert (graph.folder(toy_root, "second") / "starts").read_text() == "x"


def siblings(**configs: Any) -> Graph:
    """The toy graph with two assets that need nothing of each other, both with one config."""
    graph = toy_graph(**configs)
    second = replace(graph.nodes["first"], name="second")
    return replace(graph, nodes={"first": graph.nodes["first"], "second": second})


def with_check(*, passed: bool) -> Graph:
    """The toy graph with a blocking check of `first`."""
    graph = toy_graph()
    check = Check(
        name="sound",
        description="Toy.",
        evaluate=lambda finished: Verdict(passed=passed, description="the reason"),
    )
    first = replace(graph.nodes["first"], checks=(check,))
    return replace(graph, nodes={**graph.nodes, "first": first})


def _wait_for_any(paths: list[Path]) -> None:
    deadline = time.monotonic() + 120
    while not any(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"waited in vain for one of {paths}"
        time.sleep(0.02)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"waited in vain for {path}"
        time.sleep(0.02)


def test_a_run_is_on_the_timeline_and_no_daemon_repeats_it(toy_root: Path) -> None:
    assert run(toy_graph()) == 0
    assert run(toy_graph(first={"fail": True})) == 1
    found = runs()
    assert len(found) == 2
    for each in found:
        origin = each.remote_job_origin
        assert origin is not None
        assert origin.repository_origin.get_label() == each.tags[".dagster/repository"]
        assert origin.job_name == "toy"
        assert each.tags["dagster/max_retries"] == "0"
    assert {each.status for each in found} == {
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.FAILURE,
    }
    with open_instance() as opened:
        [failed] = opened.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert failed.tags.get("dagster/will_retry") != "true"
