"""A training checkpoint is evaluated as the export of the same weights would be."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.weights import load_model
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.errors import ExitCode, InputError
from olmo_core.evals.checkpoint import export_checkpoint
from olmo_core.evals.perplexity import perplexity
from olmo_core.evals.rows import read_rows
from olmo_core.files import sha256_file
from olmo_core.optim.adamw import AdamW, Group
from olmo_core.parallel.world import World
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job

OWN_WINDOW: dict[str, Any] = {
    "max_window": 48
}  # as no other test has it, whose scores would be in the cache


@pytest.fixture(scope="module")
def step_folder(family: Any) -> Path:
    """A checkpoint of stage 1's final weights, with optimizer state, in a run folder of its own."""
    run = family.root / "recipe" / "stage1" / "abcdef012345"
    run.mkdir(parents=True)
    source = family.runs["stage1"] / "model"
    (run / "config.yaml").write_text((source / "config.yaml").read_text())
    model = load_model(source)
    optimizer = AdamW(
        [Group(parameters=[*model.parameters()], weight_decay=0.0)], learning_rate=1e-3
    )
    world = World(device=torch.device("cpu"))
    train = {"step": 100, "tokens": 6_400_000, "order": {}}
    saver = Saver(run, world, asynchronous=False)
    return saver.save(model, optimizer, train, kind="sharded")


def test_the_folder_is_the_export(family: Any, step_folder: Path, tmp_path: Path) -> None:
    model = export_checkpoint(step_folder, family.runs["tokenizer"], tmp_path)
    assert model.model == "stage1@step100"
    assert model.revision == "stage1-step100-tokens7M"
    assert model.path is not None
    export = family.runs["export"] / "exports" / "stage1"
    for path in sorted(export.iterdir()):
        assert sha256_file(model.path / path.name) == sha256_file(path)


@pytest.mark.parametrize("kind", ["perplexity", "downstream"])
def test_jobs(family: Any, step_folder: Path, kind: str) -> None:
    folder = family.new(f"checkpoint_{kind}")
    folder.mkdir(parents=True)
    tasks = {"tasks": [{"name": "copa", "limit": 4}]}
    inputs = {"checkpoint": step_folder, **{k: family.runs[k] for k in ("tokenizer", "held_out")}}
    content = {
        "asset": f"checkpoint_{kind}",
        "config": OWN_WINDOW if kind == "perplexity" else tasks,
        "inputs": {name: str(path) for name, path in inputs.items()},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "olmo_core.evals.checkpoint", str(folder / "config.yaml")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    rows = read_rows(folder / "rows.parquet")
    names = ("recipe", "run", "seed", "model", "step")
    assert {tuple(row[name] for name in names) for row in rows} == {
        ("recipe", "abcdef012345", 1, "stage1@step100", 100)
    }
    numbers = RunFolder(folder).read_result()["report"]["numbers"]
    for row in rows:
        if "/" not in row["task"]:
            assert numbers[f"{row['task']} {row['metric']}"] == row["value"]
    assert ("copa acc" if kind == "downstream" else "held_out loss") in numbers
    assert numbers["run"] == "abcdef012345"
    assert not (folder / "work").exists()
    if kind == "perplexity":
        export = family.new("perplexity")
        names = ("export", "held_out", "stage1_mix", "tokens")
        with Job.open(export) as job:
            inputs = {name: family.runs[name] for name in names}
            job.finish(perplexity.make(PerplexityConfig(**OWN_WINDOW), inputs, job))
        # In-loop numbers are those of the release: equal weights, one cache entry.
        assert (
            RunFolder(export).read_result()["report"]["numbers"]["scores_from_cache"] == 3
        )  # sources
        released = [row for row in read_rows(export / "rows.parquet") if row["model"] == "stage1"]
        assert [row["value"] for row in released] == [row["value"] for row in rows]


AGAIN = """
import sys
from olmo_core.evals import checkpoint
checkpoint.main()
heavy = {"torch", "transformers", "lm_eval", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("asset", "config", "scores"),
    [
        ("checkpoint_downstream", {"tasks": [{"name": "copa", "limit": 3}]}, 1),
        ("checkpoint_perplexity", {"max_window": 47}, 3),  # sources
    ],
)
def test_where_all_scores_are_known_nothing_is_converted_and_torch_is_not_imported(
    family: Any, step_folder: Path, asset: str, config: dict[str, Any], scores: int
) -> None:
    inputs = {name: str(family.runs[name]) for name in ("tokenizer", "held_out")}
    inputs["checkpoint"] = str(step_folder)
    content = {"asset": asset, "config": config, "inputs": inputs}
    results: list[dict[str, Any]] = []
    for command in (["-m", "olmo_core.evals.checkpoint"], ["-c", AGAIN]):
        folder = family.new(asset)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(content))
        done = subprocess.run(
            [sys.executable, *command, str(folder / "config.yaml")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        results.append(
            {**RunFolder(folder).read_result(), "rows": read_rows(folder / "rows.parquet")}
        )
    first, second = results
    assert first["rows"] == second["rows"]
    assert first["digest"] == second["digest"]
    assert second["report"]["numbers"]["scores_from_cache"] == scores
    assert "convert" not in second["timings"]


def test_what_is_no_checkpoint_is_refused(family: Any, step_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a checkpoint"):
        export_checkpoint(step_folder.parent, family.runs["tokenizer"], tmp_path)
    copy = tmp_path / "stage1" / "x" / "checkpoints" / "step100"
    for path in step_folder.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(step_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    weights = next((copy / "model_and_optim").glob("*.distcp"))
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"distcp: \d+ bytes, not \d+"):
        export_checkpoint(copy, family.runs["tokenizer"], tmp_path / "scratch")


@pytest.mark.parametrize(
    ("asset", "message"),
    [
        ("checkpoint_downstrem", "did you mean 'checkpoint_downstream'"),
        ("[x]", "configuration: {}/config.yaml: asset: ['x']; "),
    ],
)
def test_unknown_asset(asset: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"asset: {asset}\nconfig: {{}}\ninputs: {{}}\n")
    command = [sys.executable, "-m", "olmo_core.evals.checkpoint", str(tmp_path / "config.yaml")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == ExitCode.CONFIG
    assert message.format(tmp_path) in process.stderr
