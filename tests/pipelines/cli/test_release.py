"""`olmo release`: what is refused before anything is sent, and the licence that goes along."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets.paths import CHECKOUT
from olmo_core.config.model_card import ModelCardConfig
from olmo_core.errors import ConfigError
from pipelines.cli.main import app
from pipelines.cli.publish import licence_file, push_release, verify_export


@pytest.mark.parametrize("example", ["verify demo", "push mine"])
def test_help_shows_examples(example: str) -> None:
    done = CliRunner().invoke(app, ["release", example.split()[0], "--help"])
    assert done.exit_code == 0
    assert f"olmo release {example}" in done.stdout


def test_what_is_not_made_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="demo: export is not made, or is stale; first: olmo run"):
        push_release("demo", None, dry_run=True, private=True, replace=False)
    with pytest.raises(ConfigError, match="demo: export is not made"):
        verify_export("demo")


def test_a_release_has_its_licence_s_text(tmp_path: Path) -> None:
    assert licence_file(ModelCardConfig(title="a"), "evals.yaml") == CHECKOUT / "LICENSE"
    other = ModelCardConfig(title="a", license="other", license_name="mine")
    with pytest.raises(ConfigError, match=r"evals\.yaml: model_card: license_file: missing"):
        licence_file(other, "evals.yaml")
    named = replace(other, license_file=str(tmp_path / "mine"))
    with pytest.raises(ConfigError, match=r"license_file: .*mine \(.*\): no such file; expected a"):
        licence_file(named, "evals.yaml")
    (tmp_path / "mine").write_text("mine")
    assert licence_file(named, "evals.yaml") == tmp_path / "mine"
