"""`olmo accept`: a difference that a person calls equivalent makes nothing stale, until revoked."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.graph import Graph
from assets.staleness import asset_states
from olmo_core.errors import ConfigError
from olmo_core.run.accepted import read_acceptances, remove_acceptance, write_acceptance
from olmo_core.run.code import PACKAGE_ROOT
from pipelines.cli.accept import acceptances_of
from pipelines.cli.run import run_graph
from pipelines.cli.show import asset_entry
from pipelines.instance import open_instance
from tests.conftest import TOY_JOB, planned, toy_graph

WHY = "renamed, same arithmetic"


def with_packages(graph: Graph, *names: str) -> Graph:
    """The graph with another package among what makes these assets."""
    nodes = {name: replace(graph.nodes[name], packages=("numpy",)) for name in names}
    return replace(graph, nodes={**graph.nodes, **nodes})


def accept(graph: Graph, root: Path, *names: str, config: tuple[str, ...] = ()) -> Graph:
    """The graph as it is built after an `olmo accept`."""
    for acceptance in acceptances_of(graph, names, because=WHY, config=config):
        write_acceptance(root, acceptance)
    return replace(graph, acceptances=read_acceptances(root))


def starts(root: Path, name: str) -> int:
    return len((root / "toy" / name / "starts").read_text())


def shown(name: str) -> Any:
    with open_instance() as opened:
        event = opened.get_latest_materialization_event(dg.AssetKey(["toy", name]))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization.metadata.get("accepted")


def test_an_accepted_result_counts_with_all_made_from_it_and_says_so(toy_root: Path) -> None:
    assert run_graph(toy_graph(), [], force=False) == 0
    changed = with_packages(toy_graph(), "first")
    assert planned(changed, toy_root, "first")[0] == "stale"
    assert planned(changed, toy_root, "second") == ("stale", ["because of its input first"])
    graph = accept(changed, toy_root, "first")
    state = asset_states(graph, toy_root, ["first"])["first"]
    why = state.accepted
    assert why is not None
    assert (state.state, state.why, why.partition(": ")[2]) == ("up to date", [], WHY)
    assert planned(graph, toy_root, "second") == ("up to date", [])
    assert run_graph(graph, [], force=False) == 0
    assert starts(toy_root, "first") == starts(toy_root, "second") == 1
    assert shown("first").value == why
    assert shown("second") is None
    entry = asset_entry(graph, toy_root, "first")
    assert entry is not None
    assert entry["metadata"]["accepted"] == why
    with pytest.raises(ConfigError, match=f"first: accepted by .*{WHY}; --revoke takes it back"):
        acceptances_of(graph, ["first"], because=WHY, config=())
    [acceptance] = read_acceptances(toy_root).values()
    assert acceptance.differences[0].startswith("packages numpy: absent → ")
    remove_acceptance(toy_root, acceptance)
    assert not read_acceptances(toy_root)
    revoked = replace(graph, acceptances={})
    assert planned(revoked, toy_root, "first")[0] == "stale"
    assert run_graph(revoked, ["first"], force=False) == 0
    assert starts(toy_root, "first") == 2
    assert shown("first") is None


def test_what_follows_is_accepted_too_if_nothing_else_makes_it_stale(toy_root: Path) -> None:
    assert run_graph(toy_graph(), [], force=False) == 0
    changed = with_packages(toy_graph(), "first", "second")
    graph = accept(changed, toy_root, "first")
    assert planned(graph, toy_root, "second")[0] == "up to date"
    for acceptance in graph.acceptances.values():
        remove_acceptance(toy_root, acceptance)
    other = with_packages(toy_graph(second={"value": 5}), "first", "second")
    graph = accept(other, toy_root, "first")
    assert planned(graph, toy_root, "first")[0] == "up to date"
    assert "config value: absent → 5" in planned(graph, toy_root, "second")[1]


def test_without_names_all_are_accepted_whose_configuration_is_the_same(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_graph(toy_graph(), [], force=False) == 0
    graph = accept(with_packages(toy_graph(second={"value": 5}), "first"), toy_root)
    assert planned(graph, toy_root, "first")[0] == "up to date"
    assert planned(graph, toy_root, "second") == ("stale", ["config value: absent → 5"])
    assert "second: left alone: config value: absent → 5" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no asset is stale by code or packages alone"):
        accept(graph, toy_root)


def test_a_result_of_a_shared_root_is_accepted_in_the_own_one(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_graph(toy_graph(), [], force=False) == 0
    before = {path: path.stat().st_mtime_ns for path in toy_root.rglob("*")}
    own = tmp_path / "own"
    monkeypatch.setenv("OLMO_SHARED_ROOTS", str(toy_root))
    monkeypatch.setenv("OLMO_ROOT", str(own))
    graph = accept(with_packages(toy_graph(), "first"), own, "first")
    for name in ("first", "second"):
        found = graph.finished(own, name)
        assert found is not None
        assert found.path.is_relative_to(toy_root)
    assert len(list((own / ".accepted").iterdir())) == 1
    assert {path: path.stat().st_mtime_ns for path in toy_root.rglob("*")} == before


def test_another_configuration_is_accepted_by_name_alone(toy_root: Path) -> None:
    assert run_graph(toy_graph(), [], force=False) == 0
    changed = toy_graph(first={"value": 2})
    with pytest.raises(ConfigError, match=r"--config value\).*\n  config value: absent → 2"):
        accept(changed, toy_root, "first")
    with pytest.raises(ConfigError, match=r"--config valeu: .*\bvalue\b"):
        accept(changed, toy_root, "first", config=("value", "valeu"))
    with pytest.raises(ConfigError, match="second: nothing to accept: it is current"):
        accept(toy_graph(), toy_root, "second")
    assert not read_acceptances(toy_root)
    graph = accept(changed, toy_root, "first", config=("value",))
    assert run_graph(graph, [], force=False) == 0
    assert starts(toy_root, "first") == 1


def test_no_engine_is_asked_about_a_run_that_is_not_the_one_to_accept(toy_root: Path) -> None:
    graph = toy_graph()
    assert run_graph(graph, [], force=False) == 0
    for name in ("first", "second"):  # begun on an engine that the site file no longer has
        finished = graph.finished(toy_root, name)
        assert finished is not None
        begun = finished.path.with_name("f" * 12)
        begun.mkdir()
        record = json.loads(finished.launch.read_text())
        record |= {"fingerprint": "f" * 64, "engine": "slurm", "job_id": "7"}
        (begun / "launch.json").write_text(json.dumps(record))
    changed = with_packages(graph, "first")
    [first] = acceptances_of(changed, ["first"], because=WHY, config=())
    assert first.old["fingerprint"] == graph.fingerprints["first"].value


def test_a_malformed_acceptance_is_named(toy_root: Path) -> None:
    path = toy_root / ".accepted" / "a.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 2}')
    with pytest.raises(ValueError, match=r"a\.json: expected schema_version 1"):
        read_acceptances(toy_root)


IN_CHECKOUT = """
import sys
from dataclasses import replace
from assets.execution.produce import launch_of, main_line_work
from assets.paths import root
from assets.staleness import asset_states
from olmo_core.run.accepted import read_acceptances, write_acceptance
from pipelines.cli.accept import acceptances_of
from pipelines.cli.run import run_graph
from pipelines.launchers.local import LocalLauncher
from tests.conftest import toy_graph
what, gate = sys.argv[1:]
graph = toy_graph(first={"wait": gate})
nodes = {name: replace(node, module="olmo_core.toy_job") for name, node in graph.nodes.items()}
graph = replace(graph, nodes=nodes, acceptances=read_acceptances(root()))
if what == "accept":
    for acceptance in acceptances_of(graph, ["first"], because="same", config=()):
        write_acceptance(root(), acceptance)
elif what == "submit":
    LocalLauncher().submit([launch_of(main_line_work(graph, "first", root()), root())])
elif what == "plan":
    state = asset_states(graph, root(), ["first"])["first"]
    print(state.state, state.why, state.accepted)
else:
    sys.exit(run_graph(graph, ["first"], force=False))
"""


@pytest.mark.slow
def test_a_job_at_work_is_followed_when_its_code_changes_without_meaning_or_is_accepted(
    tmp_path: Path, toy_root: Path
) -> None:
    checkout, gate = tmp_path / "checkout", tmp_path / "gate"
    for name in ("olmo_core", "assets", "pipelines"):
        shutil.copytree(
            PACKAGE_ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(PACKAGE_ROOT / "dagster.yaml", checkout)
    (checkout / "tests").mkdir()
    shutil.copy(PACKAGE_ROOT / "tests" / "conftest.py", checkout / "tests")
    toy_job = checkout / "olmo_core" / "toy_job.py"
    toy_job.write_text(TOY_JOB)
    environment = {**os.environ, "PYTHONPATH": str(checkout)}

    def start(what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", IN_CHECKOUT, what, str(gate)]
        return subprocess.Popen(
            command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True
        )

    def said(what: str) -> str:
        process = start(what)
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return text

    said("submit")
    begun = toy_root / "toy" / "first" / "starts"
    deadline = time.monotonic() + 300
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    watching = checkout / "olmo_core" / "run" / "job.py"
    watching.write_text(watching.read_text() + "\n\ndef edited() -> None:\n    print(1)\n")
    assert said("plan") == "running [] None\n"
    toy_job.write_text(
        TOY_JOB.replace("total = config.value + sum(", "total = sum([config.value]) + sum(")
    )
    assert said("plan") == "missing ['never built'] None\n"  # nothing has finished yet
    said("accept")
    assert said("plan").startswith("running [] accepted by ")
    again = start("run")
    time.sleep(1)
    gate.touch()
    again.communicate(timeout=300)
    assert again.returncode == 0
    assert begun.read_text() == "x"
    [acceptance] = (toy_root / ".accepted").glob("*.json")
    assert json.loads(acceptance.read_text())["differences"] == [
        "code olmo_core.toy_job: function make changed"
    ]
