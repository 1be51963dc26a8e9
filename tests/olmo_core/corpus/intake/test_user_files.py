"""A user's files: every document is taken, refused by its place, or counted."""

import gzip
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.intake.readers import source_identity
from olmo_core.errors import ConfigError, InputError


def test_a_users_files_become_documents(tmp_path: Path, files: Any, read: Any) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "one.md").write_text("# One\r\n", newline="")
    (tmp_path / "two.txt").write_text("Two", encoding="utf-8-sig")
    rows = [{"id": "x", "text": "Row"}, {"id": "mine/y", "text": "Row 2", "added": "2020-01-01"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "ignored.pdf").write_bytes(b"%PDF")
    (tmp_path / "config-3.txt").write_text("A user's file may be called so.")
    (tmp_path / "draft.txt").write_text("Left out by the source.")
    documents = read(files(tmp_path, exclude=("draft*",))).documents
    assert {d.id: d.text for d in documents} == {
        "mine/config-3.txt": "A user's file may be called so.",
        "mine/notes/one.md": "# One\n",
        "mine/two.txt": "Two",
        "mine/x": "Row",
        "mine/y": "Row 2",
    }
    files_read = [str(d.metadata["file"]) for d in documents]
    assert files_read == sorted(files_read)  # not by their ids
    assert documents[-2].added == "2020-01-01"


BAD = {
    "date.jsonl": (
        b'{"id": "1", "text": "a", "added": {"$date": 5}}\n',
        r"date\.jsonl:1: key 'added' is a dict; expected a date",
    ),
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
def test_a_bad_file_fails_with_its_place(tmp_path: Path, name: str, files: Any, read: Any) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(files(tmp_path))


def test_bad_lines_can_be_quarantined_and_are_counted(
    tmp_path: Path, files: Any, read: Any
) -> None:
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.txt").write_text("Good")
    reading = read(files(tmp_path, bad_documents="quarantine"))
    assert [d.id for d in reading.documents] == ["mine/2", "mine/3", "mine/good.txt", "mine/1"]
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
    tmp_path: Path, torn: bytes, bad_documents: str, files: Any, read: Any
) -> None:
    (tmp_path / "good.txt").write_text("Good")
    (tmp_path / "half.jsonl.gz").write_bytes(torn)
    with pytest.raises(InputError, match=r"half\.jsonl\.gz: the gzip stream is truncated or damag"):
        read(files(tmp_path, bad_documents=bad_documents))


def test_blank_lines_may_end_a_file(tmp_path: Path, files: Any, read: Any) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "text": "a", "metadata": null}\n\n \t\r\n ')
    assert [d.id for d in read(files(tmp_path)).documents] == ["mine/1"]


def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path, files: Any, read: Any) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    (tmp_path / "good.txt").write_text("Good")
    for use in (read, lambda source: source_identity([source])):
        with pytest.raises(InputError, match=r"file b'caf\\xe9\.txt' \(source mine\): its name is"):
            use(files(tmp_path))
    assert len(read(files(tmp_path, exclude=("caf*",))).documents) == 1


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.txt", "", ".", "**.txt"])
def test_a_pattern_that_is_not_below_the_root_is_refused(
    tmp_path: Path, pattern: str, files: Any
) -> None:
    with pytest.raises(ConfigError, match=rf"mine: include: pattern {re.escape(repr(pattern))}"):
        files(tmp_path, include=("*.md", pattern))


def test_identity_follows_a_users_files_and_not_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Any
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


def test_what_is_not_read_is_counted(tmp_path: Path, files: Any, read: Any) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("a.txt", "draft.txt", "b.pdf", "deep/c.pdf", "deep/er/LICENCE", "d.json"):
        (tmp_path / name).write_text("Text")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nothing")
    (tmp_path / "ring.txt").symlink_to(tmp_path / "ring.txt")
    one = read(files(tmp_path, exclude=("draft*",)))
    assert list(one.texts) == ["mine/a.txt"]
    assert one.row["left_out"] == (
        "1 excluded (files); 2 links to nothing, pipes and devices (files); "
        "1 that no pattern includes, .json (files); 2 that no pattern includes, .pdf (files); "
        "1 that no pattern includes, without a suffix (files)"
    )
    every = read(files(tmp_path, include=("**/*.pdf", "deep/**", "?.txt"), max_bytes=4))
    assert "3 beyond max_bytes (files)" in every.row["left_out"]
    many = tmp_path / "many"
    many.mkdir()
    for number in range(20):
        (many / f"x.{number}").write_text("Text")
    found = read(files(tmp_path)).row["left_out"]
    assert "that no pattern includes, of further kinds (files)" in found


def test_linked_folders_are_followed_and_circles_refused(
    tmp_path: Path, files: Any, read: Any
) -> None:
    for name in ("one", "other", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "a.txt").write_text("A")
    (tmp_path / "root" / "b.txt").symlink_to(tmp_path / "one" / "a.txt")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "one")
    assert read(files(tmp_path / "root")).texts == {"mine/b.txt": "A", "mine/linked/a.txt": "A"}
    (tmp_path / "one" / "other").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "one").symlink_to(tmp_path / "one")
    with pytest.raises(InputError, match=r"linked/other/one: a link to a folder that it lies in"):
        read(files(tmp_path / "root"))


def test_attributes_beside_documents_are_no_documents(
    tmp_path: Path, files: Any, read: Any
) -> None:
    rows = {
        "documents": '{"id": "1", "text": "A"}',
        "attributes/x": '{"id": "1", "attributes": {}}',
    }
    for place, row in rows.items():
        (tmp_path / "v1" / place).mkdir(parents=True)
        (tmp_path / "v1" / place / "0.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    one = read(files(tmp_path))
    assert one.texts == {"mine/1": "A"}
    assert one.row["left_out"] == "1 attributes beside Dolma documents (files)"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, files: Any, read: Any) -> None:
    with pytest.raises(ConfigError, match="expected an existing folder"):
        read(files(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"no file in .* matches"):
        read(files(tmp_path))
