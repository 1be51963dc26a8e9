"""Readers of installed text and of a user's files: deterministic, bounded, and nothing silent."""

import gzip
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from olmo_core.corpus.intake.raw import read_source, split_text
from olmo_core.corpus.intake.readers import READERS
from olmo_core.corpus.intake.sources import SourceConfig, Unit, source_identity
from olmo_core.errors import ConfigError, InputError

MODULE = '''"""What the module is for."""

class Box:
    """A box.

        Indented more.

    Not indented.
    """

    if True:
        def open(self):
            """Open it."""

    def open(self):
        """Open it again."""

def bare(): pass
'''


def files(root: Path, **changes: object) -> SourceConfig:
    settings = {"name": "mine", "reader": "files", "root": str(root), "min_document_bytes": 1}
    return SourceConfig(**(settings | changes))  # pyright: ignore[reportArgumentType]


def test_docstrings_are_named_by_their_dotted_path(tmp_path: Path) -> None:
    path = tmp_path / "tool.py"
    path.write_text(MODULE)
    config = SourceConfig(name="docs", reader="docstrings", standard_library=True)
    _, read = READERS["docstrings"](config)
    passages: Iterable[Any] = read(Unit(name="pack/tool.py", path=path, origin={}))
    assert {p.name: p.text for p in passages} == {
        "pack.tool": "What the module is for.",
        "pack.tool.Box": "A box.\n\n    Indented more.\n\nNot indented.",
        "pack.tool.Box.open": "Open it.",
        "pack.tool.Box.open~2": "Open it again.",
    }


def test_topics_are_those_of_help() -> None:
    reading = read_source(SourceConfig(name="topics", reader="pydoc_topics"))
    by_name = {document.id: document.text for document in reading.documents}
    assert by_name["topics/lambda"] == topics["lambda"].strip()
    assert {name.split("/")[1].split("#")[0] for name in by_name} <= set(topics)


def test_code_is_the_file_and_pieces_join_to_it() -> None:
    config = SourceConfig(
        name="code", reader="python_code", packages=("mdurl",), max_document_bytes=1000
    )
    reading = read_source(config)
    import mdurl._parse

    whole = Path(mdurl._parse.__file__).read_text()
    pieces = [d for d in reading.documents if d.id.startswith("code/mdurl/_parse.py#")]
    assert len(pieces) > 5
    assert all(piece.text_bytes <= 1000 for piece in pieces)
    assert re.sub(r"\s+", "", "".join(p.text for p in pieces)) == re.sub(r"\s+", "", whole)
    assert pieces[0].metadata["package"] == "mdurl"
    assert pieces[0].metadata["version"] == source_identity([config])["packages"]["mdurl"]


def test_long_descriptions_and_licences_are_told_apart() -> None:
    prose = read_source(SourceConfig(name="text", reader="package_text", packages=("click",)))
    assert [d.id for d in prose.documents] == ["text/click/long-description"]
    assert prose.documents[0].text.startswith("<div") or "Click" in prose.documents[0].text
    licences = read_source(SourceConfig(name="legal", reader="licences", packages=("click",)))
    assert len(licences.documents) == 1
    assert "Redistribution and use in source and binary forms" in licences.documents[0].text


def test_the_bound_is_kept_by_a_choice_that_is_always_the_same() -> None:
    config = SourceConfig(name="code", reader="python_code", packages=("rich",), max_bytes=100_000)
    one, other = read_source(config), read_source(config)
    assert one.documents == other.documents
    assert 80_000 < sum(d.text_bytes for d in one.documents) <= 100_000
    assert one.left_out["beyond max_bytes (files)"] > 0
    assert [d.id for d in one.documents] == sorted({d.id for d in one.documents})
    # Chosen by a hash: neither the first nor the last files by name.
    names = [unit.name for unit in READERS["python_code"](config)[0]]
    taken = [names.index(name) for name in {str(d.metadata["file"]) for d in one.documents}]
    assert max(taken) - min(taken) > 2 * len(taken)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("short", ["short"]),
        ("aaaa\n\nbbbb\n\ncccc", ["aaaa\n\nbbbb", "cccc"]),
        ("aaaaaaaa\nbbbbbbbb", ["aaaaaaaa", "bbbbbbbb"]),
        ("x" * 24, ["x" * 6] * 4),
        ("ééééé\n\nééééé", ["ééééé", "ééééé"]),
    ],
)
def test_long_texts_are_cut_at_blank_lines_then_lines_then_anywhere(
    text: str, pieces: list[str]
) -> None:
    assert split_text(text, 10) == pieces


def test_a_users_files_become_documents(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "one.md").write_text("# One\r\n", newline="")
    (tmp_path / "two.txt").write_text("Two", encoding="utf-8-sig")
    rows = [{"id": "x", "text": "Row"}, {"id": "mine/y", "text": "Row 2", "added": "2020-01-01"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "ignored.pdf").write_bytes(b"%PDF")
    (tmp_path / "config-3.txt").write_text("A user's file may be called so.")
    (tmp_path / "draft.txt").write_text("Left out by the source.")
    documents = read_source(files(tmp_path, exclude=("draft*",))).documents
    assert {d.id: d.text for d in documents} == {
        "mine/config-3.txt": "A user's file may be called so.",
        "mine/notes/one.md": "# One\n",
        "mine/two.txt": "Two",
        "mine/x": "Row",
        "mine/y": "Row 2",
    }
    assert documents[-1].added == "2020-01-01"


BAD = {
    "row.jsonl": (b'{"id": "1", "text": "fine"}\n{"id": "2"}\n', r"row\.jsonl:2: key 'text' is mi"),
    "bytes.jsonl": (b'{"id": "1", "text": "caf\xe9"}\n', r"bytes\.jsonl:1: byte 0xe9 at column 25"),
    "json.jsonl": (b'{"id": "1", "text": \n', r"json\.jsonl:1: not valid JSON"),
    "empty.jsonl": (b'{"id": "1", "text": ""}\n', r"empty\.jsonl:1: empty document"),
    "blank.jsonl": (
        b'{"id": "2", "text": "fine"}\n \n{"id": "3", "text": "fine"}\n',
        r"blank\.jsonl:2: blank line; expected one JSON object",
    ),
    "deep.jsonl": (b"[" * 100_000 + b"\n", r"deep\.jsonl:1: lists or objects nested too deeply"),
    "metadata.jsonl": (
        b'{"id": "4", "text": "x", "metadata": "str"}\n',
        r"metadata\.jsonl:1: key 'metadata' is a str; expected an object",
    ),
    "nan.jsonl": (
        b'{"id": "4", "text": "x", "metadata": {"score": NaN}}\n',
        r"nan\.jsonl:1: not valid JSON \(found NaN",
    ),
    "infinity.jsonl": (
        b'{"id": "4", "text": "x", "metadata": {"score": -Infinity}}\n',
        r"infinity\.jsonl:1: not valid JSON \(found -Infinity",
    ),
    "overflow.jsonl": (
        b'{"id": "4", "text": "x", "metadata": {"score": 1e999}}\n',
        r"overflow\.jsonl:1: key 'metadata' cannot be written again \(Out of range",
    ),
    "surrogate.jsonl": (
        b'{"id": "4", "text": "x", "metadata": {"a": "\\ud800"}}\n',
        r"surrogate\.jsonl:1: key 'metadata' cannot be written again",
    ),
    "surrogate-id.jsonl": (
        b'{"id": "\\ud800", "text": "x"}\n',
        r"surrogate-id\.jsonl:1: key 'id' holds a lone surrogate",
    ),
    "nested.jsonl": (
        b'{"id": "4", "text": "x", "metadata": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}\n",
        r"nested\.jsonl:1: key 'metadata' is nested deeper than 100 levels",
    ),
    "empty.txt": (b" \n", r"empty\.txt: empty document"),
    "latin.txt": (b"one\ncaf\xe9\n", r"latin\.txt:2: byte 0xe9 at offset 7 is not UTF-8"),
}
WHOLE = gzip.compress(b'{"id": "1", "text": "fine"}\n{"id": "2", "text": "fine"}\n')


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_fails_with_its_place(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_source(files(tmp_path))


def test_bad_lines_can_be_quarantined_and_are_counted(tmp_path: Path) -> None:
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.txt").write_text("Good")
    reading = read_source(files(tmp_path, bad_documents="quarantine"))
    assert [d.id for d in reading.documents] == ["mine/1", "mine/2", "mine/3", "mine/good.txt"]
    lines = {name: 1 for name in BAD if name.endswith(".jsonl")}
    assert {row["file"]: row.get("line") for row in reading.quarantined} == {
        **lines,
        "blank.jsonl": 2,
        "row.jsonl": 2,
        "empty.txt": None,
        "latin.txt": None,
    }
    assert len(reading.quarantined) == len(BAD)


@pytest.mark.parametrize("bad_documents", ["fail", "quarantine"])
@pytest.mark.parametrize(
    "torn",
    [WHOLE[:-9], WHOLE[:20], b"", WHOLE[:-6] + b"??" + WHOLE[-4:]],
    ids=["trailer", "header", "nothing", "checksum"],  # the bytes hold the time they were made at
)
def test_a_file_that_is_not_whole_fails_also_under_quarantine(
    tmp_path: Path, torn: bytes, bad_documents: str
) -> None:
    (tmp_path / "good.txt").write_text("Good")
    (tmp_path / "half.jsonl.gz").write_bytes(torn)
    with pytest.raises(InputError, match=r"half\.jsonl\.gz: the gzip stream is truncated or damag"):
        read_source(files(tmp_path, bad_documents=bad_documents))


def test_blank_lines_may_end_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "text": "a", "metadata": null}\n\n \t\r\n ')
    assert [d.id for d in read_source(files(tmp_path)).documents] == ["mine/1"]


def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    (tmp_path / "good.txt").write_text("Good")
    for use in (read_source, lambda source: source_identity([source])):
        with pytest.raises(InputError, match=r"file b'caf\\xe9\.txt' \(source mine\): its name is"):
            use(files(tmp_path))
    assert len(read_source(files(tmp_path, exclude=("caf*",))).documents) == 1


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.txt", "", ".", "**.txt"])
def test_a_pattern_that_is_not_below_the_root_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match=rf"mine: include: pattern {re.escape(repr(pattern))}"):
        files(tmp_path, include=("*.md", pattern))


def test_an_id_given_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "text": "a"}\n' * 2)
    with pytest.raises(
        InputError, match=r"rows\.jsonl:2: id 'mine/1' .* first at .*rows\.jsonl:1;"
    ):
        read_source(files(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"id": "two.txt", "text": "a"}\n')
    (tmp_path / "two.txt").write_text("Two")
    with pytest.raises(InputError, match=r"is given twice") as raised:
        read_source(files(tmp_path))
    assert str(tmp_path / "rows.jsonl:1") in str(raised.value)
    assert str(tmp_path / "two.txt") in str(raised.value)


def test_identity_follows_a_users_files_and_not_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("A")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    config = files(Path("${MINE}"))
    monkeypatch.setenv("MINE", str(tmp_path / "one"))
    before = source_identity([config])
    assert before["files"]["mine"][0]["path"] == "a.txt"
    assert "python" not in before
    monkeypatch.setenv("MINE", str(tmp_path / "other"))
    assert source_identity([config]) == before
    (tmp_path / "other" / "a.txt").write_text("B")
    assert source_identity([config]) != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reader": "files"}, "`root` belongs to"),
        ({"reader": "licences"}, "`packages` is empty"),
        ({"reader": "docstrings"}, "nothing to read"),
        ({"reader": "pydoc_topics", "name": "a/b"}, "expected letters, digits"),
        ({"reader": "pydoc_topics", "bad_documents": "quarantine"}, "belong to reader files"),
        ({"reader": "pydoc_topics", "min_document_bytes": 0}, "above 0"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceConfig(**({"name": "s"} | settings))  # pyright: ignore[reportArgumentType]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    config = SourceConfig(name="s", reader="licences", packages=("no-such-package",))
    with pytest.raises(ConfigError, match="package 'no-such-package' is not installed"):
        source_identity([config])
    with pytest.raises(ConfigError, match="expected an existing folder"):
        read_source(files(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"no file in .* matches"):
        read_source(files(tmp_path))
