"""`olmo takedown`: what it prints and refuses, and what its exit code says."""

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from olmo_core.errors import ConfigError
from pipelines.cli.takedown import take_down
from tests.assets.recipe_files import TINY
from tests.assets.takedown.conftest import Root

ODD = 'red\x1b[31m\n"b" = $(x)'


def text(number: int) -> str:
    return " ".join(f"t{number}w{n * 7919 % 1000}" for n in range(60))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """The corpus of the recipe `mine`, made up to its index."""
    root = Root(tmp_path)
    root.path.mkdir()
    monkeypatch.setenv("OLMO_ROOT", str(root.path))
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    recipe = shutil.copytree(TINY, tmp_path / "recipes" / "mine")
    rows = {name: [{"id": f"{name}{n}", "text": text(n + k)} for n in range(4)]
            for k, name in ((0, "docstrings"), (100, "licences"), (200, "package_text"),
                            (300, "python_code"))}  # fmt: skip
    rows["docstrings"].append({"id": ODD, "text": text(50)})
    sources = "".join(
        f"    - {{name: {name}, reader: files, root: {root.texts / name}}}  # mine\n"
        for name in rows
    )
    rest = (recipe / "corpus.yaml").read_text()
    rest = rest[rest.index("near_duplicates:") :]
    (recipe / "corpus.yaml").write_text(f"raw:\n  sources:\n{sources}\n{rest}")
    root.index("mine", rows)
    return root


def run(docs: Path | str | None, **options: Any) -> int:
    given = {"write": False, "proves": False, "as_json": False} | options
    return take_down("mine", None if docs is None else Path(docs), **given)


def request(tmp_path: Path, *lines: str) -> Path:
    docs = tmp_path / "docs.txt"
    docs.write_text("".join(f"{line}\n" for line in lines))
    return docs


def test_what_is_shown_is_never_obeyed_and_nothing_is_written(
    root: Root, tmp_path: Path, capfd: Any
) -> None:
    sha1 = hashlib.sha1(text(50).encode()).hexdigest()
    recipe = tmp_path / "recipes" / "mine"
    before = {path: path.read_bytes() for path in recipe.rglob("*") if path.is_file()}
    assert run(request(tmp_path, "licences/licences0", sha1)) == 0
    said = capfd.readouterr().out
    assert "\x1b" not in said
    assert "red\\x1b[31m" in said
    assert "mine: 2 documents must leave: 2 asked for" in said
    assert "To be written by --write" in said
    assert "Nothing is deleted;" in said
    assert said.count("olmo gc --only mine/raw/0 --dependents --delete") == 1
    assert {path: path.read_bytes() for path in recipe.rglob("*") if path.is_file()} == before


def test_json_has_every_list_and_the_cost_of_a_rebuild(
    root: Root, tmp_path: Path, capfd: Any
) -> None:
    assert run(request(tmp_path, "licences/licences0"), as_json=True, write=True) == 0
    entry = json.loads(capfd.readouterr().out)
    [document] = entry["documents"]
    assert (document["id"], document["why"]) == ("licences/licences0", "asked for")
    [listed] = entry["lists"]
    folder = tmp_path / "recipes" / "mine"
    assert listed["path"] == str(folder / "takedown" / "licences.txt")
    assert listed["recipe_line"] == "exclude_documents: takedown/licences.txt"
    assert listed["written"]
    assert "raw" in {each["asset"] for each in entry["rebuild"]["assets"]}
    text_of_it = (folder / "corpus.yaml").read_text()
    assert "{name: licences, exclude_documents: takedown/licences.txt, reader: files" in text_of_it
    assert text_of_it.count("# mine") == 4
    places = {row["place"] for row in entry["affected"] if row["group"] == "corpus"}
    assert str(root.path / "mine" / "tokens" / "0") in places


def test_unknown_lines_are_refused_before_anything_is_written(
    root: Root, tmp_path: Path, monkeypatch: Any
) -> None:
    docs = request(tmp_path, "licences/licences0", "licences/none", "https://example.org")
    with pytest.raises(ConfigError) as caught:
        run(docs, write=True)
    assert str(caught.value).startswith(
        f"{docs}:2: 'licences/none'\n{docs}:3: 'https://example.org'\n"
    )
    assert not (tmp_path / "recipes" / "mine" / "takedown").exists()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"nobody\n")))
    with pytest.raises(ConfigError, match=r"^standard input:1: 'nobody'"):
        run("-")
    with pytest.raises(ConfigError, match="No such file"):
        run(tmp_path / "absent")
    with pytest.raises(ConfigError, match="--docs: missing"):
        run(None)


def test_runs_that_are_not_made_are_no_proof(root: Root, tmp_path: Path, capfd: Any) -> None:
    assert run(None, proves=True) == 1
    said = capfd.readouterr().out
    assert "nothing was taken down" in said
    assert "not made; olmo run mine --select stage1" in said
    assert run(request(tmp_path, "licences/licences0"), proves=True, as_json=True) == 1
    entry = json.loads(capfd.readouterr().out)
    assert not entry["passed"]
    assert [each["asset"] for each in entry["runs"]] == [
        "stage1",
        "stage2_ingredient1",
        "stage2_ingredient2",
    ]
