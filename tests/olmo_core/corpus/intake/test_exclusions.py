"""Lists of excluded documents: what they name leaves, with its near copies; misses are shown."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.intake.readers import source_identity
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.errors import ConfigError, InputError


def text(seed: int, words: int = 80) -> str:
    noise = random.Random(seed)
    return " ".join(f"w{noise.randrange(5000)}" for _ in range(words))


def sha1(content: str) -> str:
    return hashlib.sha1(content.encode()).hexdigest()


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def excluding(tmp_path: Path, files: Any) -> Any:
    """A function that returns a source with a list of these lines."""

    def excluding(*lines: str, **changes: Any) -> SourceConfig:
        listed = tmp_path / "takedown.txt"
        listed.write_text("\n".join(lines))
        return files(tmp_path / "texts", exclude_documents=str(listed), **changes)

    return excluding


@pytest.mark.parametrize("shard_bytes", [1, 1_000_000])
def test_every_kind_of_entry_leaves_documents_out(
    tmp_path: Path, corpus: Any, excluding: Any, shard_bytes: int
) -> None:
    rows = [{"id": str(n), "text": text(n), "metadata": {"url": f"u{n}"}} for n in range(6)]
    write(tmp_path / "texts", "a.jsonl", rows[:3])
    write(tmp_path / "texts", "b.jsonl", [*rows[3:], {"text": "no id"}])
    source = excluding(
        "# case 17, a comment",
        "id: 0",
        "",
        "id:mine/1",
        "url: u1",
        "url: u3",
        f"sha1: {sha1(text(4)).upper()}",
        "id: b.jsonl:4",
        "url: https://example.org/nowhere",
        "id: 77",
    )
    settings = {
        name: getattr(source, name)
        for name in ("name", "reader", "root", "exclude_documents", "min_document_bytes")
    }
    report = corpus.run("raw", {"sources": [settings], "shard_bytes": shard_bytes})["report"]
    assert [row["id"] for row in corpus.documents("raw")] == ["mine/2", "mine/5"]
    excluded = sorted((corpus.folder("raw") / "excluded" / "mine").iterdir())
    ids = [row["id"] for path in excluded for row in corpus.read_lines(path)]
    assert ids == ["mine/0", "mine/1", "mine/3", "mine/4", "mine/b.jsonl:4"]
    assert len(excluded) == (2 if shard_bytes == 1 else 1)
    assert report["numbers"]["documents"] + report["numbers"]["excluded"] == 7
    assert report["tables"]["excluded"] == [
        {"source": "mine", "kind": "id", "entries": 4, "matched_nothing": 1, "documents": 3},
        {"source": "mine", "kind": "url", "entries": 3, "matched_nothing": 1, "documents": 1},
        {"source": "mine", "kind": "sha1", "entries": 1, "matched_nothing": 0, "documents": 1},
    ]
    missed = corpus.folder("raw") / "log" / "matched_nothing" / "mine.txt"
    assert missed.read_text() == "id: mine/77\nurl: https://example.org/nowhere\n"


def test_a_text_that_is_split_leaves_whole_or_by_piece(
    tmp_path: Path, excluding: Any, read: Any
) -> None:
    pages = {"a": ["one", "two", "three"], "b": ["four", "five"], "c": ["six", "seven"]}
    rows = [{"id": name, "text": "\n\n".join(parts)} for name, parts in pages.items()]
    write(tmp_path / "texts", "rows.jsonl", rows)
    lines = ["id: a", "id: b#001", f"sha1: {sha1('six')}", f"sha1: {sha1(rows[0]['text'])}"]
    reading = read(excluding(*lines, max_document_bytes=6))
    assert list(reading.texts) == ["mine/b#000", "mine/c#001"]
    assert reading.row["excluded"] == 5


def test_one_of_several_documents_of_an_id_can_be_named(
    tmp_path: Path, files: Any, excluding: Any, read: Any
) -> None:
    write(tmp_path / "texts", "rows.jsonl", [{"id": "x", "text": text} for text in "abc"])
    _, second, _ = read(files(tmp_path / "texts")).documents
    reading = read(excluding(f"id: {second.id}"))
    assert list(reading.texts.values()) == ["a", "c"]


def test_excluded_documents_make_no_room_for_others(
    tmp_path: Path, excluding: Any, read: Any
) -> None:
    rows = [{"id": str(n), "text": "12345"} for n in range(5)]
    write(tmp_path / "texts", "rows.jsonl", rows)
    assert list(read(excluding("id: 1", max_bytes=15)).texts) == ["mine/0", "mine/2"]
    # Beyond the bound as well: its near copies leave other sources.
    reading = read(excluding("id: 4", max_bytes=15))
    assert list(reading.texts) == ["mine/0", "mine/1", "mine/2"]
    assert reading.row["excluded"] == 1
    assert reading.row["left_out"] == "1 beyond max_bytes (texts)"


def test_near_copies_leave_in_all_sources(tmp_path: Path, corpus: Any) -> None:
    rows = [{"id": str(n), "text": text(n)} for n in range(12)]
    write(tmp_path / "books", "rows.jsonl", rows)
    copies = [{"id": f"{n}", "text": f"{text(n)} and some more"} for n in range(12)]
    # Nothing but the words of an excluded text says that these two are alike.
    write(tmp_path / "pages", "rows.jsonl", [*copies, {"id": "again", "text": text(3).upper()}])
    listed = tmp_path / "takedown.txt"
    listed.write_text("id: 3\nid: 5\n")
    sources = [
        {"name": name, "reader": "files", "root": str(tmp_path / name), "min_document_bytes": 1}
        for name in ("books", "pages")
    ]
    sources[0]["exclude_documents"] = str(listed)
    corpus.run("raw", {"sources": sources})
    near = corpus.run("near_duplicates", {})["report"]
    assert (near["numbers"]["documents"], near["numbers"]["excluded"]) == (23, 2)
    config = {"share": 0.1, "min_documents": 2, "max_cluster_share": 1.0}
    report = corpus.run("held_out", config)["report"]
    gone = {f"{source}/{n}" for source in ("books", "pages") for n in (3, 5)} | {"pages/again"}
    left = corpus.read_lines(corpus.folder("held_out") / "held_out.jsonl.gz")
    assert {row["id"] for row in left if row["role"] == "near excluded"} == {
        "pages/3",
        "pages/5",
        "pages/again",
    }
    everywhere = {row["id"] for row in corpus.documents("held_out")}
    everywhere |= {row["id"] for row in left if row["role"] != "near excluded"}
    assert len(everywhere) == 20
    assert not everywhere & gone
    numbers = report["numbers"]
    parts = ("scored", "set_aside", "near_excluded", "remaining")
    assert numbers["documents"] == sum(numbers[part] for part in parts) == 23
    by_source = {row["source"]: row["near_excluded"] for row in report["tables"]["sources"]}
    assert by_source == {"books": 0, "pages": 3}


def test_a_source_of_which_all_are_near_excluded_is_refused(tmp_path: Path, corpus: Any) -> None:
    for name in ("books", "pages"):
        write(tmp_path / name, "rows.jsonl", [{"id": str(n), "text": text(n)} for n in range(2)])
    write(tmp_path / "books", "more.jsonl", [{"id": "2", "text": text(2)}])
    (tmp_path / "takedown.txt").write_text("id: 0\nid: 1\n")
    sources = [
        {"name": name, "reader": "files", "root": str(tmp_path / name)}
        for name in ("books", "pages")
    ]
    sources[0]["exclude_documents"] = str(tmp_path / "takedown.txt")
    corpus.run("raw", {"sources": sources})
    corpus.run("near_duplicates", {})
    with pytest.raises(InputError, match=r"all 2 documents of source pages .* \(2 are near copies"):
        corpus.run("held_out", {"share": 0})


@pytest.mark.parametrize(
    "line", ["mine/3", "uri: x", "id:", "sha1: abc", "sha1: " + "g" * 40, "id : \t"]
)
def test_a_line_that_is_no_entry_is_refused(
    tmp_path: Path, excluding: Any, read: Any, line: str
) -> None:
    write(tmp_path / "texts", "rows.jsonl", [{"id": "1", "text": "a"}])
    with pytest.raises(InputError, match=r"takedown\.txt:2: found .* expected 'id: ', 'url: ' or"):
        read(excluding("id: 1", line))


def test_the_list_is_part_of_the_identity(tmp_path: Path, files: Any, excluding: Any) -> None:
    write(tmp_path / "texts", "rows.jsonl", [{"id": "1", "text": "a"}])
    without = source_identity([files(tmp_path / "texts")])
    one, other = (source_identity([excluding(line)]) for line in ("id: 1", "id: 2"))
    assert one.pop("exclude_documents") != other.pop("exclude_documents")
    assert one == other == without
    with pytest.raises(ConfigError, match=r"mine: exclude_documents 'gone\.txt' .* expected an"):
        source_identity([files(tmp_path / "texts", exclude_documents="gone.txt")])
