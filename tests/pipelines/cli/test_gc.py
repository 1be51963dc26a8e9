"""`olmo gc`, `olmo pin`, `olmo unpin` as they are typed."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assets.launcher import Refused
from assets.paths import CHECKOUT
from olmo_core.errors import ConfigError, InputError
from pipelines.cli.main import app
from pipelines.collect import collection
from tests.pipelines.collect.roots import LONG_AGO, Made, version

OLD, NEW = version(1), version(2)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Two versions of tokens, each made from one of raw."""
    root = tmp_path / "root"
    monkeypatch.setenv("OLMO_ROOT", str(root))
    (tmp_path / "recipes").mkdir()
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    made = Made(root)
    for number, when in ((OLD, LONG_AGO), (NEW, LONG_AGO + 1)):
        made.run(f"a/raw/{number}", ended=when, files={"data": b"x" * 100_000})
        made.run(f"a/tokens/{number}", [f"a/raw/{number}"], ended=when)
    return made


def olmo(*arguments: str) -> Result:
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def names(output: str, *, stays: bool) -> set[str]:
    return {row["name"] for row in json.loads(output) if row["stays"] is stays}


def test_it_shows_what_would_go_and_changes_nothing(made: Made) -> None:
    said = olmo("gc").output
    assert "a/raw" in said
    assert "superseded" in said
    assert "May go: 2 versions" in said
    assert "Nothing was changed; olmo gc --delete" in said
    assert made.there() == set(made.inputs)
    said = olmo("gc", "--verbose").output
    assert f"a/raw/{NEW}" in said
    assert "the newest" in said
    rows = olmo("gc", "--json").stdout
    assert names(rows, stays=False) == {f"a/raw/{OLD}", f"a/tokens/{OLD}"}
    [row] = [row for row in json.loads(rows) if row["name"] == f"a/raw/{OLD}"]
    assert row["why"] == f"superseded by {NEW}"
    assert row["path"] == str(made.root / "a/raw" / OLD)
    assert 100_000 < row["frees_bytes"] < 200_000


def test_it_deletes_when_told(made: Made) -> None:
    assert "Deleted: 2 versions" in olmo("gc", "--delete").output
    assert made.there() == {f"a/raw/{NEW}", f"a/tokens/{NEW}"}
    assert "Deleted: 0 versions" in olmo("gc", "--delete").output


def test_it_moves_and_puts_back(made: Made) -> None:
    said = olmo("gc", "--delete", "--keep-trash").output
    assert "In the trash: 2 versions" in said
    assert made.there() == {f"a/raw/{NEW}", f"a/tokens/{NEW}"}
    assert "In the trash: 2 versions" in olmo("gc").output
    assert f"a/raw/{OLD}: is back" in olmo("gc", "--restore").output
    assert made.there() == set(made.inputs)
    assert "nothing that can be put back" in olmo("gc", "--restore").output


def test_a_pinned_version_stays_until_it_is_unpinned(made: Made) -> None:
    assert "Nothing is pinned" in olmo("pin").output
    olmo("pin", f"a/tokens/{OLD}", "--because", "the paper's")
    assert "the paper's" in olmo("pin").output
    assert names(olmo("gc", "--json").stdout, stays=False) == set()
    olmo("unpin", f"a/tokens/{OLD}")
    assert len(names(olmo("gc", "--json").stdout, stays=False)) == 2
    refused("is not pinned", "unpin", f"a/tokens/{OLD}")
    refused(f"did you mean.*a/tokens/{OLD}", "pin", f"a/tokens/{OLD}1")


def test_a_named_version_goes_though_it_is_the_newest(made: Made) -> None:
    raw = f"a/raw/{NEW}"
    refused(f"these 1 were made from it:\n  a/tokens/{NEW}\n", "gc", "--only", raw, kind=Refused)
    olmo("gc", "--only", raw, "--dependents", "--delete")
    assert made.there() == {f"a/raw/{OLD}", f"a/tokens/{OLD}"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--older-than", "week"], "--older-than: found 'week'; expected a number"),
        (["--dependents"], "--dependents: only with --only"),
        (["--released"], "--released: only with --only"),
        (["--keep-trash"], "--keep-trash: only with --delete"),
        (["--only", "a/raw/../../x"], "no version of this root; expected RECIPE/ASSET/VERSION"),
    ],
)
def test_what_makes_no_sense_is_refused(made: Made, arguments: Sequence[str], said: str) -> None:
    refused(said, "gc", *arguments)
    assert made.there() == set(made.inputs)


def test_a_record_that_cannot_be_read_is_named(made: Made) -> None:
    olmo("pin", f"a/tokens/{OLD}")
    (made.root / f".pinned/a/tokens/{OLD}.json").write_text("{")
    for more in ([], ["--delete"]):
        refused(r"\.pinned/a/tokens/.*nothing was taken away", "gc", *more, kind=InputError)


def test_what_comes_back_is_not_counted_as_deleted(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = collection.take_away

    def moved(root: Path, name: str, bin: Path) -> None:
        move(root, name, bin)
        if name == f"a/raw/{OLD}":
            made.run(f"b/tokens/{version(3)}", [name], ended=None)

    monkeypatch.setattr(collection, "take_away", moved)
    said = olmo("gc", "--delete").output
    assert f"a/raw/{OLD}: put back: something depends on it" in said
    assert "Deleted: 0 versions" in said  # what has its fingerprint came back too


def test_a_recipe_that_cannot_be_read_is_said_if_something_here_is_of_it(
    made: Made, tmp_path: Path
) -> None:
    for name in ("a", "other"):
        (tmp_path / "recipes" / name).mkdir()
        (tmp_path / "recipes" / name / "corpus.yaml").write_text("raw: {sources: 3")
    done = olmo("gc", "--json")
    assert "olmo: a: all of its own stays: " in done.stderr
    assert "other" not in done.stderr
    assert names(done.stdout, stays=False) == set()


def test_an_acceptance_that_cannot_be_read_is_named_though_there_are_recipes(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(CHECKOUT / "tests/recipes"))
    (made.root / ".accepted").mkdir()
    (made.root / ".accepted/0123456789ab.json").write_text("{")
    refused(r"\.accepted/0123456789ab\.json.*nothing was taken away", "gc", kind=InputError)


def refused(said: str, *arguments: str, kind: type[Exception] = ConfigError) -> None:
    with pytest.raises(kind, match=said):
        CliRunner().invoke(app, [*arguments], catch_exceptions=False)
