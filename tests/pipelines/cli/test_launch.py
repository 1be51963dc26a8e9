"""Single jobs from the command line: shown, submitted, watched, read and ended."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.execution.produce import launch_of, main_line_work
from assets.launcher import Launch
from assets.paths import CHECKOUT
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.cli import attempts, jobs
from pipelines.launchers.router import Router, site_launcher
from pipelines.places import at_work, submitted
from pipelines.site.file import Site
from tests.conftest import toy_graph

OLMO = Path(sys.executable).with_name("olmo")
RECIPES = CHECKOUT / "tests" / "recipes"
KEY = "0123456789ab"


def olmo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(OLMO), *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def launcher() -> Router:
    return site_launcher(Site())


@pytest.fixture
def job(toy_root: Path, tmp_path: Path, launcher: Router) -> Iterator[RunFolder]:
    """A job of the toy graph that is at work until the test ends it."""
    graph = toy_graph(first={"wait": str(tmp_path / "go")})
    launch = launch_of(main_line_work(graph, "first", toy_root), toy_root)
    assert launcher.submit([launch])
    wait_for(lambda: (launch.folder.read_status() or {}).get("done") == 1)
    yield launch.folder
    (tmp_path / "go").touch()
    with contextlib.suppress(ProcessLookupError):
        launcher.cancel([launch.folder])


def wait_for(reached) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_dry_run_prints_the_command_alone_and_starts_nothing(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    done = olmo("launch", "tiny", "stage1", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "-m olmo_core.train" in done.stdout or "olmo_core.supervisor.supervise" in done.stdout
    assert "# tiny/stage1: engine local, 1 node, 1 process" in done.stderr
    assert "a launch would be refused now: stage1: its input" in done.stderr
    assert "first (olmo run tiny --select stage1_mix)\n" in done.stderr
    assert not list(toy_root.glob("*"))


def test_a_dry_run_says_of_several_nodes_that_processes_are_counted_by_node(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("slurm: {}\nwork:\n  stage1: {engine: slurm, nodes: 2}\n")
    monkeypatch.setenv("OLMO_SITE", str(site))
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    done = olmo("launch", "tiny", "stage1", "--dry-run")
    assert "# tiny/stage1: engine slurm, 2 nodes, 1 process per node\n" in done.stderr


def test_a_launch_returns_and_its_job_goes_on(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    refused = olmo("launch", "tiny", "filtered")
    assert refused.returncode == 1
    assert "its input" in refused.stderr
    assert not list(toy_root.glob("*"))
    done = olmo("launch", "tiny", "raw")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("raw: submitted; local job ")
    folder = RunFolder(Path(done.stdout.splitlines()[1].removeprefix("folder: ")))
    wait_for(lambda: folder.finished)
    assert "raw: finished before" in olmo("launch", "tiny", "raw").stdout
    last = olmo("logs", "tiny", "raw", "--lines", "1").stdout
    assert last.count("\n") == 1
    assert (folder.log / "submission1.log").read_text().endswith(last)
    assert json.loads(olmo("jobs", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("launch", "demo", "stage11"), "no asset 'stage11'; did you mean 'stage1'?"),
        (("launch", "demo", "checkpoint_downstream"), "--partition missing"),
        (("launch", "demo", "raw", "--partition", "x"), "this asset has no partitions"),
        (("launch", "demo", "checkpoint_downstream", "--partition", "$(x)"), "expected <run>@step"),
        (("cancel", "demo", "../stage1"), "no asset '../stage1'"),
        (("logs", "demo", "stage1"), "demo/stage1: no job has been submitted yet"),
        (("jobs", "dmo"), "unknown recipe 'dmo'; did you mean 'demo'?"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    toy_root: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = olmo(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_at_work_is_listed_with_what_it_reports(
    job: RunFolder, toy_root: Path, launcher: Router
) -> None:
    status = job.read_status()
    assert status is not None
    [row] = jobs.job_rows(launcher, toy_root)
    assert (row["recipe"], row["asset"], row["engine"]) == ("toy", "first", "local")
    assert row["job_id"] == str(json.loads(job.launch.read_text())["pid"])
    assert row["state"] == "at work"
    assert row["attempt"] == 1
    assert (row["done"], row["total"], row["unit"]) == (1, 2, "things")
    assert row["heartbeat_seconds"] < 30
    assert jobs.job_rows(launcher, toy_root, "other") == []
    assert os.environ["OLMO_ROOT"] == str(toy_root)
    lines = olmo("jobs").stdout.splitlines()
    assert "toy/first" in lines[1]
    assert "1/2 things" in lines[1]


def test_a_cancelled_job_is_gone(job: RunFolder, toy_root: Path, launcher: Router) -> None:
    [place] = at_work(launcher, toy_root, "toy", "first")
    launcher.cancel([place.folder])
    assert at_work(launcher, toy_root) == {}
    assert not job.is_running()


def test_only_run_folders_are_places(tmp_path: Path) -> None:
    for path in (
        f"demo/stage1/{KEY}",
        f"demo/stage1/{KEY}.2",
        f"demo/checkpoint_downstream/stage1@step5/{KEY}",
        "dagster/storage/x",
        f"$(touch x)/stage1/{KEY}",
        f"demo/stage1/{KEY}/log",
    ):
        (tmp_path / path).mkdir(parents=True)
        write_json(tmp_path / path / "launch.json", {"schema_version": 1})
    assert [place.label for place in submitted(tmp_path)] == [
        "demo/checkpoint_downstream stage1@step5",
        "demo/stage1",
        "demo/stage1",
    ]
    assert list(submitted(tmp_path, "demo", "../demo/stage1")) == []


def test_the_latest_attempts_log_of_a_rank_is_found(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log.mkdir()
    for name in ("attempt2.rank1.log", "attempt10.rank1.log", "attempt10.rank11.log"):
        (folder.log / name).touch()
    assert attempts.log_path(folder, 1).name == "attempt10.rank1.log"
    with pytest.raises(ConfigError, match=r"no log of rank 7; logs of ranks: attempt10\.rank1"):
        attempts.log_path(folder, 7)


def test_attempts_of_a_job_that_failed_end_with_its_diagnosis(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The recipe's own training fails at once, for want of anything that it could read."""
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    tiny = build_graph(load_recipe("tiny"))
    folder = RunFolder(tiny.folder(toy_root, "stage1") / tiny.fingerprints["stage1"].version)
    folder.path.mkdir(parents=True)
    launch = Launch(
        folder=folder,
        module="olmo_core.train",
        stage="train",
        config={},
        distributed=True,
        identity={"recipe": "tiny", "asset": "stage1"},
        environment={"OLMO_ROOT": str(toy_root)},
    )
    launcher = site_launcher(Site())
    assert launcher.submit([launch])
    wait_for(lambda: not launcher.state(folder).alive)
    shown = olmo("attempts", "tiny", "stage1")
    assert shown.returncode == 0, shown.stderr
    assert "config, exit code 2" in shown.stdout
    assert "stage1: " in shown.stdout
    assert "by hand: " in shown.stdout
    rows = json.loads(olmo("attempts", "tiny", "stage1", "--json").stdout)
    assert [row["event"] for row in rows] == ["began", "ended"]
