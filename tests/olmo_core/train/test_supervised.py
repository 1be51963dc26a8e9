"""Training by two ranks under the supervisor and the node runner, and what may befall it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from olmo_core.run.process import members

# Trains; what befalls which rank in the sixth step stands beside it: attempt -> [rank, what].
MODULE = """
import json, os, signal, sys, time
from pathlib import Path
from olmo_core.run.process import members
from olmo_core.train.__main__ import main
from olmo_core.train.trainer import Trainer

folder = Path(sys.argv[1]).parent
attempt, this = os.environ["OLMO_ATTEMPT"], os.environ["RANK"]
plan = json.loads(Path(__file__).with_suffix(".json").read_text())
rank, what = plan.get(attempt, ("", ""))
original = Trainer._forward_backward

def forward_backward(self, *arguments):
    if self.state.step == 5 and this == rank:
        if what == "ask":
            # the supervisor is asked, and as srun does it, all processes of the attempt
            supervisor = json.loads((folder / "attempts.jsonl").read_text().splitlines()[0])
            for pid in [int(supervisor["job_id"]), *members(folder, int(attempt))] * 2:
                os.kill(pid, signal.SIGTERM)
            while not self.cancel.asked()[1]:  # two signals that meet are one, the file comes later
                time.sleep(0.01)
        else:
            os.kill(os.getpid(), signal.Signals[what])
            time.sleep(1)  # a signal to the whole process may reach it a moment later
    original(self, *arguments)

Trainer._forward_backward = forward_backward
main(sys.argv[1:2])
"""


class Supervised:
    def __init__(self, root: Path, config_file: Path) -> None:
        self.folder = RunFolder(root / "run")
        self.folder.log.mkdir(parents=True)
        tree = yaml.safe_load(config_file.read_text()) | {"save_folder": str(self.folder.path)}
        self.folder.config.write_text(yaml.safe_dump(tree))
        self.modules = root / "modules"
        self.modules.mkdir()
        (self.modules / "befallen.py").write_text(MODULE)

    def run(self, plan: dict[int, tuple[str, str]], *, stall_timeout_seconds: float) -> int:
        (self.modules / "befallen.json").write_text(json.dumps(plan))
        run = {
            "command": [sys.executable, "-m", "olmo_core.supervisor.node", str(self.folder.path)],
            "module": "befallen",
            "distributed": True,
            "nodes": 1,
            "processes_per_node": 2,
            "threads": 1,
            "stall_timeout_seconds": stall_timeout_seconds,
        }
        write_json(
            self.folder.launch,
            {"schema_version": 1, "engine": "local", "log": "log/main.log", "run": run},
        )
        environment = {**os.environ, "PYTHONPATH": f"{self.modules}:{os.getcwd()}"}
        with (self.folder.log / "main.log").open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-m", "olmo_core.supervisor.supervise", str(self.folder.path)],
                env=environment,
                stdout=log,
                stderr=log,
                timeout=300,
            )
        return done.returncode

    @property
    def ends(self) -> list[tuple[str, str]]:
        rows = [row for row in attempts.read(self.folder) if row["event"] == "ended"]
        return [(row["cause"], row["next"]) for row in rows]

    @property
    def log(self) -> str:
        return (self.folder.log / "main.log").read_text()

    @property
    def weights(self) -> bytes:
        return (self.folder.path / "model" / "model.safetensors").read_bytes()


@pytest.fixture
def supervised(tmp_path: Path, config_file: Path) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path, config_file)
    yield supervised
    assert not members(supervised.folder.path), "a process is left"


@pytest.fixture
def of_two_ranks(ranks: Callable[..., list[int | None]], tmp_path: Path) -> bytes:
    """The weights of a run by two ranks that nothing befell."""
    assert ranks("undisturbed", 2) == [0, 0]
    return (tmp_path / "undisturbed" / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_rank_that_is_killed_and_one_that_is_stopped_cost_no_bit(
    supervised: Supervised, of_two_ranks: bytes
) -> None:
    code = supervised.run({1: ("1", "SIGKILL"), 2: ("1", "SIGSTOP")}, stall_timeout_seconds=60)
    assert code == 0, supervised.log
    assert supervised.ends == [("killed", "resume"), ("hung", "resume"), ("finished", "")]
    killed, hung = (row for row in attempts.read(supervised.folder) if row.get("next") == "resume")
    assert (killed["rank"], killed["signal"]) == (1, 9)
    assert hung["step"] == 5
    assert "no progress for" in supervised.log
    assert "; rank 1 (process" in supervised.log
    assert "is stopped (SIGSTOP)" in supervised.log
    assert supervised.weights == of_two_ranks
    status = supervised.folder.read_status()
    assert status is not None
    assert status["step"] == 12
    assert status["remaining_seconds"] == 0
    assert {"loss", "learning_rate", "tokens_per_second", "wandb_url"} <= set(status)


@pytest.mark.slow
def test_asked_by_everyone_at_once_and_twice_it_leaves_a_whole_checkpoint(
    supervised: Supervised, of_two_ranks: bytes
) -> None:
    assert supervised.run({1: ("0", "ask")}, stall_timeout_seconds=200) == 4, supervised.log
    assert supervised.ends == [("preempted", "stop")]
    checkpoint = supervised.folder.last_checkpoint()
    assert checkpoint is not None
    assert checkpoint.name == "step6"  # no later: at once
    rows = [json.loads(line) for line in supervised.folder.metrics.read_text().splitlines()]
    assert rows[-1]["step"] == 6
    assert supervised.run({}, stall_timeout_seconds=200) == 0, supervised.log
    assert supervised.weights == of_two_ranks
