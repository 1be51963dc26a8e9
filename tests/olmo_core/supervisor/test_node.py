"""The node runner over toy ranks: exit codes, who failed first, one log per rank."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from olmo_core.run.process import members
from olmo_core.supervisor.failure import first_failure, read_nodes
from tests.processes import free_ports

# What each rank does stands beside it in toy_rank.json: rank -> words.
TOY = """
import atexit, contextlib, json, os, resource, signal, sys, threading
from pathlib import Path
rank = os.environ["RANK"]
folder = Path(sys.argv[1]).parent
asked = threading.Event()
def wait(*files):
    while not all((folder / name).exists() for name in files):
        threading.Event().wait(0.01)
def act(word, stack):
    if word == "log":
        print("rank", rank, "of", os.environ["WORLD_SIZE"], "on node", os.environ["GROUP_RANK"])
        assert len(set(resource.getrlimit(resource.RLIMIT_NOFILE))) == 1  # a rank has many sockets
        dumps = os.environ["TORCH_FR_DUMP_TEMP_FILE"]
        assert dumps == str(folder / "log" / "attempt1.collectives.rank")
        print("an error of rank", rank, file=sys.stderr)
    elif word == "listen":
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        (folder / f"ready{rank}").touch()
    elif word == "asked":
        while not asked.is_set():
            asked.wait(0.01)
        print("asked")
    elif word == "others":
        wait(*(f"ready{other}" for other in range(int(os.environ["WORLD_SIZE"]))))
    elif word == "pid":
        (folder / "pid.part").write_text(str(os.getpid()))
        (folder / "pid.part").rename(folder / "pid")
    elif word == "outlive":
        wait("pid")
        stat = Path("/proc") / (folder / "pid").read_text() / "stat"
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            threading.Event().wait(0.01)
    elif word == "hang":
        (folder / f"ready{rank}").touch()
        threading.Event().wait()
    elif word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "raise":
        (folder / "raised").touch()
        raise ValueError("the data of this rank")
    elif word == "linger":
        atexit.register(lambda: ((folder / "left").touch(), threading.Event().wait(3)))
    elif word == "left":
        wait("left")
    elif word == "lost":
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1")
    elif word == "join":
        from olmo_core.parallel.world import joined, read_world
        world = read_world(os.environ)
        stack.enter_context(joined(world))
        world.barrier()
    elif word == "collective":
        import torch
        torch.distributed.barrier()
    else:
        sys.exit(int(word))
with contextlib.ExitStack() as stack:
    for word in json.loads(Path(__file__).with_suffix(".json").read_text()).get(rank, []):
        act(word, stack)
"""


def few_files() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, most - 1), most))


class Nodes:
    """A run folder, and node runners over it."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root / "run")
        self.folder.path.mkdir()
        (root / "modules").mkdir()
        self.module = root / "modules" / "toy_rank.py"
        self.module.write_text(TOY)

    def start(
        self, acts: Mapping[int, list[str]], *, nodes: int = 1, processes: int = 1
    ) -> list["subprocess.Popen[bytes]"]:
        self.module.with_suffix(".json").write_text(json.dumps(acts))
        run = {"module": "toy_rank", "nodes": nodes, "processes_per_node": processes}
        write_json(self.folder.launch, {"schema_version": 1, "log": "log/main0.log", "run": run})
        self.folder.log.mkdir(exist_ok=True)
        [port] = free_ports(1)
        return [self._start(node, port) for node in range(nodes)]

    def _start(self, node: int, port: int) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self.module.parent}:{os.getcwd()}",
            "PYTHONUNBUFFERED": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "SLURM_NODEID": str(node),
            "SLURMD_NODENAME": f"n{node + 1}",
            "OLMO_ATTEMPT": "1",
        }
        with (self.folder.log / f"main{node}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "olmo_core.supervisor.node", str(self.folder.path)],
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=few_files,
            )

    def run(self, acts: Mapping[int, list[str]], **shape: Any) -> list[int]:
        return [runner.wait(100) for runner in self.start(acts, **shape)]

    def log(self, name: str) -> str:
        return (self.folder.log / f"{name}.log").read_text()

    def ready(self, *ranks: int) -> None:
        deadline = time.monotonic() + 60
        while not all((self.folder.path / f"ready{rank}").exists() for rank in ranks):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    yield nodes
    assert not members(nodes.folder.path), "a process is left"


def test_one_node_gives_each_rank_a_log(nodes: Nodes) -> None:
    assert nodes.run({0: ["log"], 1: ["log"]}, processes=2) == [0], nodes.log("main0")
    assert nodes.log("attempt1.rank0") == "rank 0 of 2 on node 0\nan error of rank 0\n"
    assert nodes.log("attempt1.rank1") == "rank 1 of 2 on node 0\nan error of rank 1\n"
    # the first rank's is in the main log too, and nothing else
    assert nodes.log("main0") == "[rank0] rank 0 of 2 on node 0\n[rank0] an error of rank 0\n"
    assert read_nodes(nodes.folder, 1) == []


def test_two_nodes_meet(nodes: Nodes) -> None:
    assert nodes.run({0: ["log"], 1: ["log"]}, nodes=2) == [0, 0], nodes.log("main0")
    assert "rank 0 of 2 on node 0" in nodes.log("attempt1.rank0")
    assert "rank 1 of 2 on node 1" in nodes.log("attempt1.rank1")


@pytest.mark.parametrize(
    ("act", "code", "exit_code", "number"),
    [("kill", 137, None, 9), ("raise", 1, 1, None), ("4", 4, 4, None)],
)
def test_the_exit_code_is_that_of_the_rank_that_failed_first(
    nodes: Nodes, act: str, code: int, exit_code: int | None, number: int | None
) -> None:
    # the first rank only loses the second, and not before it is gone
    loses = ["outlive", "lost"] if act == "raise" else ["hang"]
    acts = {0: loses, 1: ["pid", "log", act]}
    assert nodes.run(acts, processes=2) == [code], nodes.log("main0")
    first = first_failure(nodes.folder, 1, code)
    assert (first.rank, first.node, first.exit_code, first.signal) == (1, "n1", exit_code, number)
    assert first.log == "log/attempt1.rank1.log"
    assert "an error of rank 1" in (nodes.folder.path / first.log).read_text()
    assert {failure.rank for failure in read_nodes(nodes.folder, 1)} == {0, 1}


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_rank_that_raises_while_the_others_wait_for_it_ends_them_all(
    nodes: Nodes, size: int
) -> None:
    acts = {rank: ["join", "collective"] for rank in range(size)} | {1: ["join", "raise"]}
    assert nodes.run(acts, processes=size) == [1], nodes.log("main0")
    assert time.time() - (nodes.folder.path / "raised").stat().st_mtime < 60
    first = first_failure(nodes.folder, 1, 1)
    assert (first.rank, first.exit_code) == (1, 1)
    assert "ValueError: the data of this rank" in nodes.log("attempt1.rank1")


@pytest.mark.parametrize(
    ("act", "code"), [("raise", 1), pytest.param("3", 3, marks=pytest.mark.slow)]
)
def test_a_rank_that_leaves_by_itself_is_named_though_it_is_asked_to_end_meanwhile(
    nodes: Nodes, act: str, code: int
) -> None:
    acts = {0: ["join", "left", "lost"], 1: ["join", "linger", act]}
    assert nodes.run(acts, processes=2) == [code], nodes.log("main0")
    first = first_failure(nodes.folder, 1, code)
    assert (first.rank, first.exit_code, first.signal) == (1, code, None)


def test_of_two_nodes_the_one_that_failed_by_itself_is_named(nodes: Nodes) -> None:
    codes = nodes.run({0: ["listen", "others", "lost"], 1: ["listen", "others", "kill"]}, nodes=2)
    assert codes == [1, 137]
    first = first_failure(nodes.folder, 1, 137)
    assert (first.rank, first.node, first.signal) == (1, "n2", 9)


def test_asked_to_stop_the_ranks_reach_a_safe_point_and_say_so(nodes: Nodes) -> None:
    acts = {0: ["listen", "asked", "4"], 1: ["listen", "asked"]}
    (runner,) = nodes.start(acts, processes=2)
    nodes.ready(0, 1)
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(30) == 4
    assert nodes.folder.stop.read_text() == "1"
    assert "asked" in nodes.log("attempt1.rank1")
    assert first_failure(nodes.folder, 1, 4).exit_code == 4


def test_an_attempt_that_was_given_up_writes_no_more(nodes: Nodes) -> None:
    (runner,) = nodes.start({0: ["hang"], 1: ["hang"]}, processes=2)
    nodes.ready(0, 1)
    attempts.begin(nodes.folder, engine="slurm", job_id="7")
    attempts.begin(nodes.folder, engine="slurm", job_id="7")
    assert runner.wait(30) == 1
    assert "has been given up" in nodes.log("main0")


@pytest.mark.parametrize(
    ("run", "environment", "message"),
    [
        ({"nodes": 1}, {}, "module, processes_per_node missing"),
        ({"nodes": 2}, {"OLMO_NODE_RANK": "2"}, "node rank 2, but .* has 2 nodes"),
        ({"nodes": 2}, {}, "2 nodes, but no MASTER_ADDR"),
    ],
)
def test_what_is_missing_is_named(
    nodes: Nodes, run: dict[str, Any], environment: dict[str, str], message: str
) -> None:
    from olmo_core.errors import ConfigError
    from olmo_core.supervisor.node import read_node

    if environment or run["nodes"] == 2:
        run |= {"module": "toy_rank", "processes_per_node": 1}
    write_json(nodes.folder.launch, {"schema_version": 1, "run": run})
    with pytest.raises(ConfigError, match=message):
        read_node(nodes.folder, environment)
