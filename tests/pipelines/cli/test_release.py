"""`olmo release`: what is refused before anything is sent, and the licence that goes along."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets.graph import Graph
from assets.paths import CHECKOUT
from olmo_core.config.model_card import ModelCardConfig
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.cli import publish
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


@pytest.mark.parametrize("has_card", [True, False])
def test_a_recipe_s_own_card_is_verified_beside_an_export_of_another(
    has_card: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {"export": RunFolder(tmp_path / "theirs" / "export" / "0")}
    if has_card:
        runs["model_card"] = RunFolder(tmp_path / "mine" / "model_card" / "0")
    monkeypatch.setattr(Graph, "finished", lambda self, root, name: runs.get(name))
    monkeypatch.setattr(Graph, "failed_check", lambda self, root, name: None)
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(publish.subprocess, "run", run)
    assert publish.verify_export("demo") == 0
    cards = [str(runs["model_card"].path)] if has_card else []
    assert [command[3:] for command in commands] == [[str(runs["export"].path), "--cards", *cards]]


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
