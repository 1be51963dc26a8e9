"""release.yaml says of which sources texts may be published, and decides no result."""

from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.corpus.doors import publishable_sources
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError


@pytest.fixture
def variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that is `demo`, so far."""
    folder = tmp_path / "recipes" / "mine"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("extends: demo\n")
    monkeypatch.setenv("OLMO_RECIPES", str(folder.parent))
    return folder


def test_nothing_is_publishable_unless_it_is_said(variant: Path) -> None:
    assert publishable_sources(load_recipe("mine")) == frozenset()


def test_what_is_named_is_publishable_and_makes_nothing_stale(variant: Path) -> None:
    before = fingerprints()
    (variant / "release.yaml").write_text("publishable_text: [licences, docstrings]\n")
    assert publishable_sources(load_recipe("mine")) == {"licences", "docstrings"}
    assert fingerprints() == before


def fingerprints() -> dict[str, str]:
    graph = build_graph(load_recipe("mine"))
    return {name: each.value for name, each in graph.fingerprints.items()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "publishable_text: [licenses]",
            "release.yaml:1: publishable_text: no source 'licenses'.*licences",
        ),
        ("publishable: [licences]", "publishable"),
        ("publishable_text: licences", "publishable_text"),
    ],
)
def test_a_wrong_name_is_refused(variant: Path, content: str, said: str) -> None:
    (variant / "release.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        publishable_sources(load_recipe("mine"))
