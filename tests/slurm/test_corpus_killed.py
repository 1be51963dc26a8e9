"""Corpus jobs on a real Slurm, with workers, that lose a process, their leader or a node."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Toys, ended, set_up, until
from tests.slurm.table import TABLE
from tests.slurm.test_workers import does_tasks, node_of

pytestmark = [pytest.mark.slurm, pytest.mark.drill]

TEXT_BYTES = 16_000_000  # of each source
SOURCES = ("one", "two")
WORKERS = 2
TASK_LINE = re.compile(r"INFO (.+): [0-9.]+ s$", re.MULTILINE)
RULES = [{"name": "same_text", "attribute": "duplicates__text", "above": 0}]
# asset -> its module below olmo_core.corpus, its inputs, its section of corpus.yaml
JOBS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "raw": ("intake.raw", (), {"shard_bytes": 500_000}),
    "near_duplicates": ("duplicates.near_duplicates", ("raw",), {}),
    "held_out": ("duplicates.held_out", ("raw", "near_duplicates"), {}),
    "deduplicated": ("duplicates.deduplicated", ("held_out",), {}),
    "decontaminated": ("duplicates.decontaminated", ("held_out",), {}),
    "tagged": (
        "filters.tagged",
        ("held_out",),
        {"taggers": {name: ["whitespace_tokenizer_v1"] for name in SOURCES}},
    ),
    "filtered": (
        "filters.filtered",
        ("held_out", "tagged", "deduplicated", "decontaminated"),
        {
            "rules": dict.fromkeys(SOURCES, RULES),
            "min_kept_share": dict.fromkeys(SOURCES, 0.01),
        },
    ),
    "tokenizer": ("tokens.tokenizer", ("filtered",), {"vocab_size": 2048}),
    "tokens": ("tokens.tokens", ("filtered", "tokenizer"), {"max_tokens_per_file": 200_000}),
    "documents": ("index.documents", ("tokens", "filtered"), {}),
}
KILLS = [
    ("raw", "worker"),
    ("raw", "leader"),
    ("near_duplicates", "worker"),
    ("near_duplicates", "node"),
    ("held_out", "leader"),
    ("deduplicated", "worker"),
    ("decontaminated", "node"),
    ("tagged", "worker"),
    ("filtered", "leader"),
    ("tokenizer", "worker"),
    ("tokenizer", "leader"),
    ("tokens", "node"),
    ("documents", "leader"),
]


@dataclass(frozen=True, kw_only=True)
class Local:
    """What one machine makes, undisturbed: a run folder per asset, and the tasks of each."""

    root: Path
    tasks: Mapping[str, list[str]]

    def config(self, asset: str) -> dict[str, Any]:
        return json.loads((self.root / asset / "config.yaml").read_text())

    def digest(self, asset: str) -> str:
        return RunFolder(self.root / asset).read_result()["digest"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    root = tmp_path_factory.mktemp("local")
    sources = [
        {"name": name, "reader": "files", "root": str(write_source(root / "text" / name, name))}
        for name in SOURCES
    ]
    tasks: dict[str, list[str]] = {}
    for asset, (module, inputs, section) in JOBS.items():
        section = {**section, "sources": sources} if asset == "raw" else section
        config = {"config": section, "inputs": {name: str(root / name) for name in inputs}}
        path = root / asset / "config.yaml"
        path.parent.mkdir()
        path.write_text(json.dumps(config))  # JSON is YAML
        done = subprocess.run(
            [sys.executable, "-m", f"olmo_core.corpus.{module}", str(path)],
            cwd=CHECKOUT,
            env={**os.environ, "OLMO_PROCESSES": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        tasks[asset] = TASK_LINE.findall(done.stderr)
    return Local(root=root, tasks=tasks)


def write_source(folder: Path, seed: str) -> Path:
    """Functions of the standard library, many of them several times with a changed word."""
    folder.mkdir(parents=True)
    noise = random.Random(seed)
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [text for path in paths for text in path.read_text().split("\n\n\n") if text.strip()]
    size = number = 0
    while size < TEXT_BYTES:
        with (folder / f"{number:03d}.jsonl").open("w") as out:
            for _ in range(400):
                words = noise.choice(texts).split(" ")
                for _ in range(noise.randrange(len(words) + 1)):
                    words[noise.randrange(len(words))] = f"w{noise.randrange(5000)}"
                text = " ".join(words)
                size += len(text)
                out.write(json.dumps({"text": text}) + "\n")
        number += 1
    return folder


@pytest.fixture
def toys(cluster: Cluster, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    set_up(monkeypatch, cluster)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    return Toys(cluster=cluster, root=toy_root)


@pytest.mark.parametrize(("asset", "victim"), KILLS, ids=["-".join(pair) for pair in KILLS])
def test_a_corpus_job_loses_a_process_its_leader_or_a_node(
    asset: str, victim: str, local: Local, toys: Toys
) -> None:
    launch = Launch(
        folder=RunFolder(toys.root / "toy" / asset / "0"),
        module=f"olmo_core.corpus.{JOBS[asset][0]}",
        stage="corpus",
        config=local.config(asset),
        identity={"recipe": "toy", "asset": asset, "fingerprint": asset},
        environment={"OLMO_ROOT": str(toys.root)},
        shares_tasks=True,
    )
    launcher = toys.launcher(cpus_per_node=1, workers=WORKERS)
    began = time.monotonic()
    launcher.submit([launch])
    chance = random.Random(f"{asset} {victim}")
    first = chance.randrange(1, max(2, len(local.tasks[asset]) // 2))
    until(lambda: len(markers(launch)) >= first, "finished tasks")
    finished = len(markers(launch))
    assert not launch.folder.finished
    lost = kill(victim, toys, launch, chance)
    try:
        assert ended(launcher, launch).ended == "COMPLETED"
    finally:
        if victim == "node":
            toys.cluster.start_node(lost)
            toys.cluster.await_idle()
    seconds = time.monotonic() - began
    assert launch.folder.read_result()["digest"] == local.digest(asset)
    assert (attempts.latest(launch.folder) or 1) == (1 if victim == "worker" else 2)
    until(lambda: toys.cluster.processes() == [], "the processes' end", 60)
    logs = {log.resolve() for log in launch.folder.log.glob("submission*.log")}
    done = [line for log in logs for line in TASK_LINE.findall(log.read_text())]
    again = len(done) - len(set(done))
    assert again <= 1 + WORKERS  # those that were in flight
    TABLE.add(
        f"SIGKILL of a {victim} of `{asset}` with {WORKERS} workers",
        "same bytes as undisturbed on one machine, only tasks in flight again",
        f"equal digests after {seconds:.0f} s; {finished} of {len(local.tasks[asset])} tasks "
        f"were finished, {again} finished twice",
    )


def markers(launch: Launch) -> list[Path]:
    return [*launch.folder.path.glob("work/tasks/*/*.json")]


def kill(victim: str, toys: Toys, launch: Launch, chance: random.Random) -> str:
    """End a process that does tasks, the job's own, or all of its node; return which."""
    if victim == "node":
        node = node_of(toys, launch)
        toys.cluster.kill_node(node)
        on_it = [each for each in toys.cluster.processes() if runs_on(each, node)]
        for process in on_it:  # as on a node that no longer answers: it may not finish the job
            process.suspend()
        until(lambda: attempts.latest(launch.folder) == 2, "the leader's next turn")
        for process in on_it:
            process.kill()
        return node
    chosen = until(lambda: victims(victim, toys, launch), f"a {victim}")
    process = chance.choice(chosen)
    process.kill()
    return str(process.pid)


def runs_on(process: psutil.Process, node: str) -> bool:
    """Whether a process is of a job on this node."""
    with contextlib.suppress(psutil.Error):
        return process.environ().get("SLURMD_NODENAME") == node
    return False


def victims(victim: str, toys: Toys, launch: Launch) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in toys.cluster.processes():
        with contextlib.suppress(psutil.Error):
            leads = launch.module in process.cmdline()
            if does_tasks(process) if victim == "worker" else leads:
                found.append(process)
    return found
