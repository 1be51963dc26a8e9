"""`olmo run --set … --as …`: variants saved as recipes, then run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets.assemble import build_graph
from assets.recipe import find_recipes, load_recipe
from olmo_core.errors import ConfigError
from pipelines.cli.main import app
from pipelines.definitions import build_definitions

TINY = Path(__file__).parents[2] / "recipes" / "tiny"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own, and `tiny` on a search path whose first folder takes what is saved."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("OLMO_RECIPES", f"{tmp_path / 'mine'}:{TINY.parent}")
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return tmp_path / "root"


def test_variants_are_saved_and_made_one_after_another(root: Path) -> None:
    arguments = ["run", "tiny", "--set", "corpus.raw.shard_bytes=300_000,400_000"]
    done = CliRunner().invoke(app, [*arguments, "--as", "shards", "--select", "raw"])
    assert done.exit_code == 0, done.output
    for number, size in ((1, 300_000), (2, 400_000)):
        name = f"shards_{number}"
        assert f"{name}: tiny with corpus.raw.shard_bytes={size:_}" in done.output
        assert find_recipes()[name] == root.parent / "mine" / name
        graph = build_graph(load_recipe(name))
        assert graph.nodes["raw"].config["shard_bytes"] == size
        assert graph.finished(root, "raw") is not None
    jobs = build_definitions(["shards_1", "shards_2"]).resolve_all_job_defs()
    assert {"shards_1", "shards_2"} <= {job.name for job in jobs}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "stage1.seed=1"), "--set without --as"),
        (("--as", "other"), "--as other: nothing differs from tiny"),
        (("--set", "stage1.sed=1", "--as", "v"), "--set stage1: sed: unknown key; did you mean"),
        (("--set", "stage1.seed=1", "--as", "v", "--select", "stage11"), "did you mean 'stage1'"),
    ],
)
def test_what_is_refused_saves_nothing(
    root: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = CliRunner().invoke(app, ["run", "tiny", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
    assert list((root.parent / "mine").iterdir()) == []
