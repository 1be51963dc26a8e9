"""What a person is told of evaluated checkpoints: by a check, by `olmo sweep`, by `olmo show`."""

import json
from pathlib import Path

import dagster as dg
import pytest

from assets.evals.sweep import sweep_work
from assets.execution.materialise import build_sweep_check
from assets.graph import Graph
from olmo_core.errors import ConfigError
from pipelines.cli.launch import sweep_recipe
from pipelines.cli.show import print_assets
from tests.pipelines.sweep.steps import ALL, finish

WHY = "boolq: document 7: its choice has 300 tokens"


def test_what_could_not_be_scored_is_shown(
    evaluable: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = sweep_work(evaluable, *ALL[0], toy_root)
    report = {"numbers": {}, "data": {"not_scored": [{"why": WHY}]}}
    finish(work.parent / work.fingerprint.version, report=report)
    assert sweep_recipe("tiny", dry_run=True) == 1
    assert f"checkpoint_downstream stage1@step20: not scored: {WHY}" in capsys.readouterr().err
    made = build_sweep_check(evaluable, "checkpoint_downstream")
    verdict = made()
    assert isinstance(verdict, dg.AssetCheckResult)
    assert (verdict.passed, verdict.description) == (
        False,
        f"not scored: stage1@step20: {WHY}",
    )


def test_show_knows_the_sweep(
    evaluable: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = sweep_work(evaluable, *ALL[0], toy_root)
    finish(done.parent / done.fingerprint.version, fingerprint=done.fingerprint.value)
    other = sweep_work(evaluable, *ALL[2], toy_root)
    finish(other.parent / "abcdef012345")
    print_assets("tiny", "checkpoint_downstream", as_json=True)
    first, second = json.loads(capsys.readouterr().out)
    [run] = toy_root.glob("tiny/stage1/*")
    assert (first["partition"], first["run"], first["state"]) == (
        "stage1@step20",
        run.name,
        "current",
    )
    assert first["metadata"]["copa acc"] == 0.5
    assert second["state"] == "stale"
    print_assets("tiny", "checkpoint_downstream", as_json=False)
    shown = capsys.readouterr().out
    assert "copa acc" in shown
    assert "rows" not in shown
    assert len([line for line in shown.splitlines() if line.strip().startswith("stage1@")]) == 2
    with pytest.raises(ConfigError, match="no asset 'checkpoint_downstrem'"):
        print_assets("tiny", "checkpoint_downstrem", as_json=False)
