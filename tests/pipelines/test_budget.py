"""A budget holds in a Dagster run too, from wherever it was started."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.cli.execute import make_missing
from tests.conftest import toy_graph


def test_a_step_submits_no_job_beyond_the_budget(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipes" / "toy"
    recipe.mkdir(parents=True)
    (recipe / "corpus.yaml").touch()
    (recipe / "budget.yaml").write_text("device_hours: 1e-9\n")
    monkeypatch.setenv("OLMO_RECIPES", str(recipe.parent))
    console = Console(file=io.StringIO(), width=200)
    code, launched = make_missing(console, toy_graph(), ["first", "second"], set())
    assert code == 1
    assert not launched
    assert isinstance(console.file, io.StringIO)
    said = " ".join(console.file.getvalue().split())
    assert "toy: budget.yaml: device_hours: 1e-09, but this launch is forecast to take" in said
    assert not [*toy_root.glob("toy/*/*/launch.json")]
    (recipe / "budget.yaml").write_text("device_hours: 1\n")
    code, launched = make_missing(console, toy_graph(), ["first", "second"], set())
    assert (code, launched) == (0, ["first", "second"])
