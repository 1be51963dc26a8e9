"""Evaluations of checkpoints that one process makes in turn are those of jobs of their own."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.weights import load_model
from olmo_core.errors import ExitCode
from olmo_core.evals.rows import read_rows
from olmo_core.evals.store.read import open_results
from olmo_core.files import write_json
from olmo_core.optim.adamw import AdamW, Group
from olmo_core.parallel.world import World
from olmo_core.run.folder import RunFolder
from olmo_core.run.in_turn import Turn, _run

CONFIGS: dict[str, Any] = {
    "checkpoint_downstream": {"tasks": [{"name": "copa", "limit": 4}]},
    "checkpoint_perplexity": {"max_window": 46},
}
MODULE = "olmo_core.evals.checkpoint"
KILLS = 10


@pytest.fixture(scope="module")
def run(family: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with checkpoints of steps 1 to 4: 2 is truncated, 3 has diverged."""
    run = tmp_path_factory.mktemp("trained") / "recipe" / "stage1" / "abcdef012345"
    run.mkdir(parents=True)
    source = family.runs["stage1"] / "model"
    (run / "config.yaml").write_text((source / "config.yaml").read_text())
    model = load_model(source)
    optimizer = AdamW(
        [Group(parameters=[*model.parameters()], weight_decay=0.0)], learning_rate=1e-3
    )
    with Saver(run, World(device=torch.device("cpu")), asynchronous=False) as saver:
        for step in (1, 2, 4, 3):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.01 if step != 3 else float("nan"))
            train = {"step": step, "tokens": 64_000 * step, "order": {}}
            saver.save(model, optimizer, train, kind="sharded")
    [weights] = (run / "checkpoints/step2/model_and_optim").glob("*.distcp")
    weights.write_bytes(weights.read_bytes()[:-10])
    return run


def prepared(root: Path, family: Any, run: Path, asset: str, step: int) -> Path:
    folder = root / "recipe" / asset / f"stage1@step{step}" / "0123456789ab"
    (folder / "log").mkdir(parents=True)
    inputs = {"checkpoint": run / "checkpoints" / f"step{step}"}
    inputs |= {name: family.runs[name] for name in ("tokenizer", "held_out")}
    content = {
        "asset": asset,
        "config": CONFIGS[asset],
        "inputs": {name: str(path) for name, path in inputs.items()},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    identity = {"recipe": "recipe", "asset": asset, "partition": f"stage1@step{step}"}
    process = {"pid": 1, "start_ticks": 1}
    write_json(folder / "launch.json", {"schema_version": 1, **identity, **process})
    return folder


def started(folders: list[Path], root: Path) -> "subprocess.Popen[bytes]":
    """A process that has been given these jobs, and no other to come."""
    process = subprocess.Popen(
        [sys.executable, "-m", "olmo_core.run.in_turn", MODULE],
        stdin=subprocess.PIPE,
        env={**os.environ, "OLMO_ROOT": str(root)},
    )
    assert process.stdin is not None
    for folder in folders:
        turn = Turn(folder=str(folder), log="log/job.log", environment={})
        process.stdin.write(turn.line())
    process.stdin.close()
    return process


def in_turn(folders: list[Path], root: Path) -> Iterator[int]:
    """Yield the exit code of each job."""
    assert started(folders, root).wait() == 0
    for folder in folders:
        record = RunFolder(folder).read(folder / "launch.json")
        assert record is not None
        assert "pid" not in record
        yield record["exit_code"]


@pytest.mark.slow
def test_the_same_bytes_and_a_bad_one_spoils_no_other(
    family: Any, run: Path, tmp_path: Path
) -> None:
    jobs = [(asset, step) for step in (1, 2, 3, 4) for asset in CONFIGS]
    folders = [prepared(tmp_path / "in_turn", family, run, *job) for job in jobs]
    codes = in_turn(folders, tmp_path / "in_turn")
    ended = dict(zip(jobs, codes, strict=True))
    for (asset, step), code in ended.items():
        bad = step in (2, 3)
        assert code == (ExitCode.INPUT if bad else ExitCode.FINISHED), (asset, step)
    for (_, step), folder in zip(jobs, folders, strict=True):
        said = (folder / "log/job.log").read_text()
        assert ("distcp: " in said) == (step == 2)
        assert ("weight holds values that are no finite numbers" in said) == (step == 3)
    for asset in CONFIGS:  # of the last checkpoint, after all the others
        own = prepared(tmp_path / "own", family, run, asset, 4)
        environment = {**os.environ, "OLMO_ROOT": str(tmp_path / "own")}  # and a cache of its own
        command = [sys.executable, "-m", MODULE, str(own / "config.yaml")]
        subprocess.run(command, env=environment, check=True)
        alone, shared = (
            RunFolder(folder).read_result() for folder in (own, folders[jobs.index((asset, 4))])
        )
        assert shared["files"] == alone["files"]
        assert shared["digest"] == alone["digest"]
        assert shared["report"] == alone["report"]
        assert alone["report"]["numbers"]["scores_from_cache"] == 0


@pytest.mark.slow
def test_tasks_requests_and_tokenizers_are_made_for_the_first_checkpoint_alone(
    family: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.task import ConfigurableTask

    from olmo_core.evals import downstream, harness
    from olmo_core.evals.held import Held
    from olmo_core.evals.perplexity import model_scorer

    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    # The process of a sweep never imports what does tasks in parallel; other tests may have.
    monkeypatch.delitem(sys.modules, "olmo_core.tasks.map", raising=False)
    for module, name in (
        (downstream, "_loaded"),
        (harness, "_tokenizer"),
        (model_scorer, "_tokenizer"),
    ):
        # What this process holds of the jobs of other tests may be the very same.
        monkeypatch.setattr(module, name, Held[Any]())
    made: list[str] = []

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    counted(harness.TaskManager, "load")
    counted(ConfigurableTask, "construct_requests")
    counted(harness.AutoTokenizer, "from_pretrained")
    counted(model_scorer, "read_tokenizer")
    scores: list[Any] = []
    for step in (1, 4):
        for asset in CONFIGS:
            folder = RunFolder(prepared(tmp_path, family, run, asset, step))
            assert _run(MODULE, folder) == ExitCode.FINISHED
            scores.append([row["value"] for row in read_rows(folder.path / "rows.parquet")])
        if step == 1:
            assert made.count("construct_requests") == 4  # documents
            assert {*made} == {"load", "construct_requests", "from_pretrained", "read_tokenizer"}
            made.clear()
    assert made == []
    assert scores[1] != scores[3]  # of other weights


@pytest.mark.drill
def test_killed_at_any_moment_the_rows_are_the_same_and_none_is_twice(
    family: Any, run: Path, tmp_path: Path
) -> None:
    jobs = [(asset, step) for step in (1, 4) for asset in CONFIGS]

    def new(name: str) -> list[Path]:
        return [prepared(tmp_path / name, family, run, *job) for job in jobs]

    began = time.monotonic()
    whole = new("whole")
    assert [*in_turn(whole, tmp_path / "whole")] == [0] * len(jobs)
    seconds = time.monotonic() - began
    expected = [RunFolder(folder).read_result()["files"] for folder in whole]
    chance = random.Random(0)
    for moment in range(KILLS):
        root = tmp_path / f"killed{moment}"
        process = started(folders := new(root.name), root)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds * (moment + chance.random()) / KILLS)
        process.kill()
        process.wait()
        stays = [folder for folder in folders if RunFolder(folder).finished]
        statuses = [RunFolder(folder).read_status() for folder in stays]
        left = [folder for folder in folders if folder not in stays]
        assert [*in_turn(left, root)] == [0] * len(left)
        assert [RunFolder(folder).read_status() for folder in stays] == statuses
        assert [RunFolder(folder).read_result()["files"] for folder in folders] == expected
        rows = [row for folder in folders for row in read_rows(folder / "rows.parquet")]
        kept = open_results(root).query("select model, task, metric from rows")
        assert sorted((row["model"], row["task"], row["metric"]) for row in rows) == sorted(
            (row["model"], row["task"], row["metric"]) for row in kept
        )
        assert len({(row["model"], row["task"], row["metric"]) for row in kept}) == len(kept)
