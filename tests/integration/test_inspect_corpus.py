"""`olmo corpus inspect`: the rules as they stand, on what is there."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from olmo_core.errors import ConfigError
from pipelines.cli.main import app
from tests.integration.conftest import RECIPES, World


def olmo(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    if done.exception:
        raise done.exception
    return done.output


@pytest.fixture(scope="module")
def made(tiny: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, a copy of tiny, whose documents are judged: a root beside it, with tiny's."""
    folder = tmp_path_factory.mktemp("inspect")
    shutil.copytree(RECIPES / "tiny", folder / "recipes" / "mine")
    shutil.copytree(tiny.root, folder / "root", symlinks=True)
    return folder


@pytest.fixture(autouse=True)
def places(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(made / "recipes"))
    monkeypatch.setenv("OLMO_ROOT", str(made / "root"))


def counts(output: str) -> dict[tuple[str, str], int]:
    lines = [line.split() for line in output.splitlines() if line.strip()]
    return {(source, rule): int(number.replace(",", "")) for source, rule, number in lines[1:]}


def test_counts_are_those_of_the_job() -> None:
    result = json.loads(olmo("show", "mine", "filtered", "--json"))[0]
    found = counts(olmo("corpus", "inspect", "mine", "--limit", "0"))
    for row in result["metadata"]["tables"]["dropped by rule"]:
        assert found.get((row["source"], row["rule"]), 0) == row["dropped"]
    for row in result["metadata"]["tables"]["sources"]:
        assert found[row["source"], "kept"] == row["kept"]


def numbers(asset: str) -> dict[str, int]:
    return json.loads(olmo("show", "mine", asset, "--json"))[0]["metadata"]


def test_every_document_is_in_the_index_and_one_left_out_says_why() -> None:
    index = numbers("documents")
    assert index["documents"] + index["left_out"] == numbers("raw")["documents"]
    held_out = json.loads(olmo("show", "mine", "held_out", "--json"))[0]
    with gzip.open(Path(held_out["path"]) / "held_out.jsonl.gz", "rt") as lines:
        row = json.loads(next(lines))
    said = olmo("corpus", "inspect", "mine", "--id", row["id"])
    assert f"{row['id']}: left out by held_out: {row['role']}" in " ".join(said.split())
    [told] = json.loads(olmo("corpus", "inspect", "mine", "--id", row["id"], "--json"))
    assert (told["id"], told["left_out_by"], told["reason"]) == (row["id"], "held_out", row["role"])
    said = olmo("corpus", "inspect", "mine", "--id", "[bold]no such id[/bold]")
    assert "[bold]no such id[/bold]: no such document among" in " ".join(said.split())


def test_an_edited_rule_is_seen_before_it_is_run(made: Path) -> None:
    corpus = made / "recipes" / "mine" / "corpus.yaml"
    before = corpus.read_text()
    few = ("corpus", "inspect", "mine", "--dropped-by", "too_few_words", "--limit", "0")
    try:
        corpus.write_text(before.replace("word_count, below: 30}", "word_count, below: 60}"))
        edited = counts(olmo(*few))
    finally:
        corpus.write_text(before)
    key = ("docstrings", "too_few_words")
    assert edited[key] > counts(olmo(*few)).get(key, 0)


def test_a_document_that_replacements_leave_blank_is_dropped(made: Path) -> None:
    corpus = made / "recipes" / "mine" / "corpus.yaml"
    before = corpus.read_text()
    # The span of a count is the whole text.
    entry = '{name: long, attribute: tags__gopher_v2__word_count, min_score: 60, replacement: ""}'
    sources = ("corpus", "inspect", "mine", "--source", "docstrings", "--limit", "1000", "--json")
    kept = json.loads(olmo(*sources, "--kept"))
    long = [row["id"] for row in kept if row["measures"]["too_few_words"] >= 60]
    assert 0 < len(long) < len(kept)
    try:
        corpus.write_text(
            before.replace(
                "\nfiltered:\n", f"\nfiltered:\n  replacements: {{docstrings: [{entry}]}}\n"
            )
        )
        blank = json.loads(olmo(*sources, "--dropped-by", "left blank"))
        left = json.loads(olmo(*sources, "--kept"))
        whole = olmo("corpus", "inspect", "mine", "--source", "docstrings", "--limit", "0")
    finally:
        corpus.write_text(before)
    assert [row["id"] for row in blank] == long
    assert {row["dropped_by"] for row in blank} == {"left blank"}
    assert [row["id"] for row in left] == [row["id"] for row in kept if row["id"] not in long]
    assert ["docstrings", "left", "blank", str(len(long))] in [
        s.split() for s in whole.splitlines()
    ]


def test_what_is_asked_for_is_shown() -> None:
    rows = json.loads(olmo("corpus", "inspect", "mine", "--kept", "--grep", "(?i)graph", "--json"))
    assert len(rows) == 5
    assert all("graph" in row["text"].lower() and row["dropped_by"] is None for row in rows)
    [one] = json.loads(olmo("corpus", "inspect", "mine", "--id", rows[2]["id"], "--json"))
    assert one == rows[2]
    shown = olmo("corpus", "inspect", "mine", "--source", rows[0]["source"], "--limit", "1")
    assert "the first 1; --limit 0 counts all of them" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--source", "docstring"), "--source docstring: did you mean 'docstrings'"),
        (("--dropped-by", "too_few"), "--dropped-by too_few: did you mean"),
        (("--grep", "("), "expected a regular expression"),
    ],
)
def test_what_there_is_not_is_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        olmo("corpus", "inspect", "mine", *arguments)


def test_what_is_not_made_yet_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="held_out is not made yet; olmo run mine --select"):
        olmo("corpus", "inspect", "mine")
