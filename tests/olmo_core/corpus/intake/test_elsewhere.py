"""Attributes made elsewhere follow their documents, row for row, or are refused by their place."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.intake.readers import source_identity
from olmo_core.errors import ConfigError, InputError

TAGS = "exp__tagger__"


def write(path: Path, *rows: dict[str, Any] | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode()))


def said(name: Any, **spans: Any) -> dict[str, Any]:
    return {"id": name, "attributes": {TAGS + key: value for key, value in spans.items()}}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two files of documents, with attributes of two names."""
    root = tmp_path / "tree"
    write(
        root / "documents" / "a" / "0.jsonl.gz",
        {"id": "1", "text": "one"},
        {"id": 2, "text": "two"},
        {"text": "without an id"},
    )
    write(root / "documents" / "b.jsonl.gz", {"id": "1", "text": "again"})
    write(
        root / "attributes" / "exp" / "a" / "0.jsonl.gz",
        said("1", length=[[0, 3, 3]]),
        said("2", length=[[0, 3, 3.0]], bad=[]),
        said(None),
    )
    write(root / "attributes" / "exp" / "b.jsonl.gz", said("1", length=[[0, 5, 5]]))
    write(root / "attributes" / "lang" / "a" / "0.jsonl.gz", said("1", en=[]), said("2"), said(""))
    write(root / "attributes" / "lang" / "b.jsonl.gz", said("1"))
    return root


def source(root: Path, *names: str, **changes: Any) -> dict[str, Any]:
    settings = {"name": "mine", "reader": "files", "root": str(root), "min_document_bytes": 1}
    return settings | {"attributes": list(names)} | changes


def brought(corpus: Any, asset: str = "raw") -> dict[str, dict[str, Any]]:
    """Attributes by id, which stand row for row beside the documents."""
    folder = corpus.folder(asset)
    found: dict[str, dict[str, Any]] = {}
    files = sorted((folder / "documents").rglob("*.gz"))
    for path in files:
        beside = folder / "attributes" / "elsewhere" / path.relative_to(folder / "documents")
        documents, rows = corpus.read_lines(path), corpus.read_lines(beside)
        assert [row["id"] for row in rows] == [row["id"] for row in documents]
        found |= {row["id"]: row["attributes"] for row in rows}
    assert len([*(folder / "attributes").rglob("*.gz")]) == len(files)
    return found


@pytest.mark.parametrize("shard_bytes", [1, 1_000_000])
def test_attributes_stand_beside_documents_of_changed_ids(
    tree: Path, corpus: Any, shard_bytes: int
) -> None:
    write(tree / "attributes" / "other" / "a" / "0.jsonl.gz", "not asked for")
    result = corpus.run(
        "raw", {"sources": [source(tree, "exp", "lang")], "shard_bytes": shard_bytes}
    )
    length = TAGS + "length"
    [again] = {row["id"] for row in corpus.documents("raw") if row["text"] == "again"}
    assert again.startswith("mine/1~")
    assert brought(corpus) == {
        "mine/1": {length: [[0, 3, 3]], TAGS + "en": []},
        "mine/2": {length: [[0, 3, 3.0]], TAGS + "bad": []},
        "mine/documents/a/0.jsonl.gz:3": {},
        again: {length: [[0, 5, 5]]},
    }
    [row] = result["report"]["tables"]["sources"]
    assert row["left_out"] == "1 attributes beside Dolma documents (files)"


def test_quarantined_split_short_and_excluded_documents_take_theirs_along(
    tree: Path, corpus: Any
) -> None:
    text = "first\n\nsecond one\n\nx"
    write(
        tree / "documents" / "b.jsonl.gz",
        '{"id": "bad", "text": ',
        {"id": "gone", "text": "leave me out"},
        {"id": "long", "text": text},
        {"id": "end", "text": "end of it"},
    )
    write(
        tree / "attributes" / "exp" / "b.jsonl.gz",
        said("whatever"),
        said("gone", word=[[0, 5, 1]]),
        said("long", word=[[0, 5, 1], [3, 9, 0.5], [14, 17, 2], [5, 7, 9]], all=[[0, 20, 7]]),
        said("end", word=[[0, 3, 4], [2, 2, 1]]),
    )
    (tree.parent / "out.txt").write_text("id: gone\nid: 1")
    settings = source(
        tree,
        "exp",
        bad_documents="quarantine",
        exclude=["*a/0*"],
        max_document_bytes=12,
        min_document_bytes=2,
        exclude_documents=str(tree.parent / "out.txt"),
    )
    numbers = corpus.run("raw", {"sources": [settings]})["report"]["numbers"]
    assert (numbers["quarantined"], numbers["excluded"], numbers["documents"]) == (1, 1, 3)
    # `second one` begins at character 7, behind the blank line, which is in no piece.
    assert brought(corpus) == {
        "mine/long#000": {TAGS + "word": [[0, 5, 1], [3, 5, 0.5]], TAGS + "all": [[0, 5, 7]]},
        "mine/long#001": {TAGS + "word": [[0, 2, 0.5], [7, 10, 2]], TAGS + "all": [[0, 10, 7]]},
        "mine/end": {TAGS + "word": [[0, 3, 4], [2, 2, 1]]},
    }


def test_held_out_documents_take_theirs_along(tmp_path: Path, corpus: Any) -> None:
    rows = [{"id": str(n), "text": f"The text {n}, of {n * 7} words"} for n in range(40)]
    write(tmp_path / "mine" / "documents" / "0.jsonl.gz", *rows)
    write(
        tmp_path / "mine" / "attributes" / "exp" / "0.jsonl.gz",
        *(said(str(n), number=[[0, 1, n]]) for n in range(40)),
    )
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = source(tmp_path / "plain", name="other")
    sources = [source(tmp_path / "mine", "exp"), other]
    corpus.run("raw", {"sources": sources, "shard_bytes": 300})
    corpus.run("near_duplicates", {})
    numbers = corpus.run("held_out", {"share": 0.2, "max_cluster_share": 1.0})["report"]["numbers"]
    folder = corpus.folder("held_out")
    assert {path.name for path in (folder / "attributes" / "elsewhere").iterdir()} == {"mine"}
    documents = [row for row in corpus.documents("held_out") if row["source"] == "mine"]
    found = corpus.attributes("held_out", "elsewhere")
    assert list(found) == [row["id"] for row in documents]
    assert 20 < len(documents) < 40
    assert len(corpus.documents("held_out")) == numbers["remaining"]
    for name, attributes in found.items():
        assert attributes == {TAGS + "number": [[0, 1, int(name.removeprefix("mine/"))]]}


@pytest.mark.parametrize("bad_documents", ["fail", "quarantine"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([said("1"), said("2")], r"0\.jsonl\.gz: ends before row 3 of .*documents/a/0\.jsonl\.gz"),
        ([said("1"), said("2"), said(""), said("4")], r"0\.jsonl\.gz:4: more rows than .*docum"),
        ([said("2"), said("1"), said("")], r"gz:1: id '2'; expected '1', as in .*0\.jsonl\.gz:1$"),
        ([said("1"), said("2"), said("3")], r"gz:3: id '3'; expected None, as in .*gz:3$"),
        ([said("1"), {"id": "2"}, said("")], r"gz:2: found keys \['id'\]; expected an object"),
        ([said("1"), '{"id": ', said("")], r"gz:2: not valid JSON"),
        ([said("1", x=[[0, 1]]), said("2"), said("")], r"gz:1: attribute 'exp__tagger__x' is \[\["),
        (
            [said("1", x=[[3, 1, 1]]), said("2"), said("")],
            r"gz:1: attribute .*; expected a list of",
        ),
        ([said("1", x=[[0, 1, "?"]]), said("2"), said("")], r"gz:1: attribute .*; expected a list"),
        (
            [said("1", x=[[0, 1, True]]), said("2"), said("")],
            r"gz:1: attribute .*; expected a list",
        ),
        (
            [said("1", x=[[0, 4, 1], [4, 6, 1]]), said("2"), said("")],
            r"gz:1: attribute 'exp__tagger__x' has a span \[4, 6, 1\], and .*gz:1 has a text of 3",
        ),
        (
            ['{"id": "1", "attributes": {"x": [[0, 1, 1e999]]}}'],
            r"gz:1: attribute 'x' is \[\[0, 1, ",
        ),
        ([], r"a/0\.jsonl\.gz: ends before row 1"),
    ],
)
def test_what_does_not_stand_row_for_row_is_refused(
    tree: Path, files: Any, read: Any, bad_documents: str, rows: list[Any], message: str
) -> None:
    write(tree / "attributes" / "exp" / "a" / "0.jsonl.gz", *rows)
    with pytest.raises(InputError, match=rf"attributes/exp/.*{message}"):
        read(files(tree, attributes=("exp",), bad_documents=bad_documents))


def test_a_missing_file_and_a_name_given_twice_are_refused(
    tree: Path, files: Any, read: Any
) -> None:
    write(tree / "attributes" / "lang" / "b.jsonl.gz", said("1", length=[]))
    with pytest.raises(
        InputError, match=r"lang/b\.jsonl\.gz:1: attribute 'exp__tagger__length' st"
    ):
        read(files(tree, attributes=("exp", "lang")))
    (tree / "attributes" / "exp" / "b.jsonl.gz").unlink()
    with pytest.raises(
        InputError, match=r"attributes/exp/b\.jsonl\.gz: missing; expected the attr"
    ):
        read(files(tree, attributes=("exp",)))
    (tree / "more.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(ConfigError, match=r"mine: more\.jsonl: has no attributes beside it; expec"):
        read(files(tree, attributes=("lang",)))
    with pytest.raises(ConfigError, match=r"attributes: '\.\./x'; expected the name of a folder"):
        files(tree, attributes=("../x",))


def test_a_root_may_be_the_folder_of_documents(tree: Path, files: Any, read: Any) -> None:
    assert len(read(files(tree / "documents", attributes=("exp",))).documents) == 4


def test_attributes_are_part_of_the_identity(tree: Path, files: Any) -> None:
    config = files(tree, attributes=("exp",))
    before = source_identity([config])
    names = [file["path"] for file in before["files"]["mine"]]
    assert "documents/a/0.jsonl.gz (attributes exp)" in names
    assert len(names) == 4
    write(tree / "attributes" / "lang" / "b.jsonl.gz", said("1", other=[]))
    assert source_identity([config]) == before
    write(tree / "attributes" / "exp" / "b.jsonl.gz", said("1", other=[]))
    assert source_identity([config]) != before
