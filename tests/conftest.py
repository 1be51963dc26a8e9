"""A toy graph whose jobs are real processes, for what does not need a real corpus or model."""

import multiprocessing
import os
import re
import signal
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported, here or in a job: threads that wait for each other spin, and tests that
# run side by side would take each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from assets.execution.produce import AssetBuild, Maker, Produced, only
from assets.graph import Graph
from assets.launcher import JobState, Launcher, Observer
from assets.node import Node
from assets.recipe import Recipe
from assets.staleness import asset_states
from olmo_core.config.load import Tree
from olmo_core.run.folder import RunFolder


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compute on the CPU, unless tests of a GPU are chosen; what tests start does so as well."""
    if not any(item.get_closest_marker("gpu") for item in session.items):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a drill take its time."""
    if item.get_closest_marker("drill"):
        item.add_marker(pytest.mark.timeout(0))


def pytest_sessionfinish() -> None:
    """Kill what failed tests have left at work: Python would wait for it at its end, for ever."""
    for process in multiprocessing.active_children():
        process.kill()


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A job that was asked to stop listens no more; what later tests start would inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


TOY_JOB = '''
"""Write what the configuration says; fail, wait or spawn where it says so."""
import os, subprocess, sys, time
from dataclasses import dataclass
from olmo_core.run.command import run_job
from olmo_core.run.job import InputError, Report

@dataclass(frozen=True, kw_only=True)
class Config:
    value: int = 1
    wait: str = ""       # a file: go on when it exists
    fail: bool = False
    random: bool = False # add a file of other bytes each time
    child: bool = False  # spawn a process in a session of its own, as torchrun does

def make(config, inputs, job):
    """Toy."""
    with (job.folder.parent / "starts").open("a") as starts:
        starts.write("x")
    if config.child:
        print(*(f"line {number}" for number in range(300)), sep=chr(10), flush=True)
        code = "import time; time.sleep(300)"
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        (job.folder / "child.new").write_text(str(child.pid))
        (job.folder / "child.new").rename(job.folder / "child")
    if config.fail:
        raise InputError("toy.jsonl:7: text missing")
    if config.random:
        (job.folder / "random").write_bytes(os.urandom(8))
    from pathlib import Path
    while config.wait and not Path(config.wait).exists():
        job.progress(1, 2, unit="things")
        time.sleep(0.01)
    total = config.value + sum(int((path / "value").read_text()) for path in inputs.values())
    (job.folder / "value").write_text(str(total))
    return Report(numbers={"value": total}, tables={"sources": [{"source": "toy", "documents": 1}]})

if __name__ == "__main__":
    run_job(Config, make)
'''


class SilentObserver:
    """Remembers how each asset was come by."""

    def __init__(self) -> None:
        self.how: dict[str, str] = {}

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        self.how[asset] = how

    def state(self, asset: str, state: JobState) -> None:
        assert state.alive

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        assert status["state"] in ("running", "done", "failed", "stopped")

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        assert result["fingerprint"]


def make_work(
    work: AssetBuild, *, root: Path, launcher: Launcher, observer: Observer, force: bool = False
) -> Produced:
    """Make one piece of work as a step does, without Dagster."""
    maker = Maker(root=root, launcher=launcher, observer=observer, force=force)
    return only(maker.make({work.node.name: work}))


@pytest.fixture
def toy_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of results of its own, and the toy job where every process finds it."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "toy_job.py").write_text(textwrap.dedent(TOY_JOB))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(modules), os.getcwd()]))
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return tmp_path / "root"


def toy_graph(**configs: Mapping[str, Any]) -> Graph:
    """`first` → `second`; keyword arguments change their configurations."""
    empty = Tree({}, file="toy.yaml")
    recipe = Recipe(
        name="toy", folder=Path("toy"), corpus=empty, stage1=empty, stage2=empty, evals=empty
    )
    first = Node(
        recipe="toy",
        name="first",
        stage="corpus",
        description="One value.",
        module="toy_job",
        config=dict(configs.get("first", {})),
    )
    second = replace(
        first, name="second", inputs=("first",), config=dict(configs.get("second", {}))
    )
    return Graph(recipe=recipe, nodes={"first": first, "second": second})


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed since the last look, in one line, without a tree's branches."""
    return " ".join(re.sub("[│├└─]", " ", capsys.readouterr().out).split())


def planned(graph: Graph, root: Path, name: str) -> tuple[str, list[str]]:
    """The state of an asset, and why."""
    state = asset_states(graph, root, [name])[name]
    return state.state, state.why
