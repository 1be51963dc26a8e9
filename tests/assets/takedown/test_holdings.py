"""What is listed: where documents are in each asset of each version, and in files elsewhere."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from assets.takedown.affected import Affected
from assets.takedown.elsewhere import Needles
from assets.takedown.holdings import Holdings
from assets.takedown.records import read_records
from assets.takedown.search import corpora, search

Shown = dict[tuple[str, str], list[tuple[str, int]]]  # version, asset -> what it holds, of how many


def rows_of(made: Any, *asked: str) -> list[Affected]:
    records = read_records(made.path)
    found = corpora(records)
    search(found, asked)
    return [*Holdings(records=records, corpora=found, asked=asked, root=made.path).rows()]


def shown(rows: list[Affected]) -> Shown:
    found: Shown = {}
    for row in rows:
        if row.group == "corpus":
            assert row.record is not None
            key = (row.record.run.path.name, row.record.asset)
            found.setdefault(key, []).append((row.holds, row.documents))
    return found


def documents(text: Any) -> dict[str, list[dict[str, str]]]:
    return {
        "a": [{"id": "1", "text": text(1)}, {"id": "copy", "text": text(1)}],
        "b": [{"id": "near", "text": text(1, changed=1)}]
        + [{"id": str(n), "text": text(n)} for n in range(2, 9)],
    }


def test_every_asset_of_every_version_is_listed_with_what_it_holds(made: Any, text: Any) -> None:
    rows = documents(text)
    made.index("r", rows, dropped=["a/copy", "b/near"])
    made.index("r", {**rows, "a": [{"id": "5", "text": text(50)}]})  # the near copy is left in it
    listed = shown(rows_of(made, "a/1"))
    first = {
        "raw": [("text", 3)],
        "near_duplicates": [("names", 3)],
        "held_out": [("text", 3)],
        "filtered": [("text", 1), ("names", 2)],
        "tokenizer": [("saw", 1)],
        "tokens": [("text", 1)],
        "documents": [("names", 3)],
    }
    assert {asset: held for (version, asset), held in listed.items() if version == "0"} == first
    second = {asset for version, asset in listed if version == "1"}
    assert second == first.keys() - {"near_duplicates"}  # no near copy is in it with another
    assert all(held == [(held[0][0], 1)] for (v, _), held in listed.items() if v == "1")


def test_tokens_without_an_index_are_looked_through(made: Any, text: Any) -> None:
    runs = made.index("r", documents(text), dropped=["b/near"])
    shutil.rmtree(runs["documents"])
    listed = shown(rows_of(made, "a/1"))
    assert listed["0", "tokens"] == [("text", 2)]
    assert ("0", "documents") not in listed


def test_tokens_whose_text_is_gone_are_looked_into_by_their_index(made: Any, text: Any) -> None:
    runs = made.index("r", documents(text))
    made.index("other", {"c": [{"id": "9", "text": text(1)}, {"id": "8", "text": text(8)}]})
    for name in ("raw", "near_duplicates"):
        shutil.rmtree(runs[name])
    found = [row for row in rows_of(made, "c/9") if row.record and row.record.recipe == "r"]
    listed = shown(found)
    assert listed["0", "tokens"] == [("text", 2)]  # under other ids
    assert listed["0", "documents"] == [("names", 2)]
    assert listed["0", "held_out"] == listed["0", "filtered"] == [("text", 0)]


def test_what_is_not_finished_is_named(made: Any, text: Any) -> None:
    runs = made.index("r", documents(text))
    for name in ("raw", "tokens"):
        shutil.copytree(runs[name], runs[name].with_name("1"))
        (runs[name].with_name("1") / "result.json").unlink()
    listed = shown(rows_of(made, "a/1"))
    assert listed["1", "raw"] == listed["1", "tokens"] == [("text", 0)]


def test_a_list_that_excludes_them_is_seen(made: Any, text: Any, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("id: 1")
    rows = documents(text)
    rows["a"].append({"id": "stays", "text": text(70)})
    excluding = str(tmp_path / "list")
    made.index("r", rows, exclude_documents=excluding, bad_documents="fail")
    found = rows_of(made, "a/1")
    listed = shown(found)
    assert listed["0", "raw"] == [("text", 2), ("text", 1)]  # its copies, and itself, apart
    assert listed["0", "held_out"] == [("names", 2)]
    assert ("0", "tokens") not in listed
    assert ("0", "tokenizer") not in listed
    places = sorted(row.place for row in found if row.group == "sources")
    assert places == ["a: all.jsonl", "b: all.jsonl"]


def test_reports_caches_and_storage_that_name_them_are_listed(
    made: Any, text: Any, tmp_path: Path
) -> None:
    name = 'a "b"\né/../c'
    runs = made.index("r", {"s": [{"id": name, "text": text(1)}, {"id": "2", "text": text(2)}]})
    caches, storage = made.path / "cache" / "x", made.path / "dagster" / "history"
    for folder in (caches, storage):
        folder.mkdir(parents=True)
    (caches / "1.json").write_text(json.dumps({"sample": f"s/{name}\nand its text"}))
    (caches / "2.json").write_text(json.dumps({"sample": f"s/{name}x"}))
    (caches / "3.json.gz").write_bytes(gzip.compress(f"s/{name}".encode()))  # is not looked into
    (storage / "runs.db").write_bytes(b"\0" * 9 + f"s/{name}".encode() + b"\0")
    (storage / "other.db").write_bytes(b"\0s/2\0")
    quotes = made.path / "cache" / "quotes"
    digest = json.loads((runs["tokens"] / "result.json").read_text())["digest"]
    (quotes / digest).mkdir(parents=True)
    (quotes / "of other tokens").mkdir()
    of_index = json.loads((runs["documents"] / "result.json").read_text())["digest"]
    (made.path / "cache" / "places" / of_index).mkdir(parents=True)
    (made.path / ".trash" / "20261130").mkdir(parents=True)
    rows = [row for row in rows_of(made, f"s/{name}") if row.group == "elsewhere"]
    places = {str(Path(row.place).relative_to(made.path)): row.documents for row in rows}
    reports = {place for place in places if place.startswith("r/")}
    assert f"r/raw/{runs['raw'].name}" in reports
    assert {place: places[place] for place in places.keys() - reports} == {
        "cache/x/1.json": 1,
        "dagster/history/runs.db": 1,
        f"cache/quotes/{digest}": 1,
        f"cache/places/{of_index}": 1,
        ".trash": 0,
    }


def test_ids_are_found_across_pieces_of_a_file_and_only_whole(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("assets.takedown.elsewhere._CHUNK", 7)
    needles = Needles(["src/one", "src/one.two", "src/three four"])
    file = tmp_path / "file"
    for content, expected in (
        (b"xx src/one yy", {"src/one"}),
        (b"src/one.two", {"src/one.two"}),
        (b'"src/one\\nText"', {"src/one"}),
        (b"src/ones src/one-a mysrc/one /src/one", set()),
        (b"(src/three four)" * 3, {"src/three four"}),
        (b"", set()),
    ):
        file.write_bytes(content)
        assert needles.in_file(file) == expected, content
    assert Needles([]).in_file(file) == set()
