"""Documents that are in no token file: the index says which asset left them out, and why."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.document import Document, text_facts, write_documents
from olmo_core.corpus.index import documents
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.corpus.rows import write_rows
from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import InputError
from olmo_core.files import read_json, write_json

LEFT_OUT = 25  # documents of each asset


def document(asset: str, number: int) -> Document:
    url = {"url": f"https://{asset}/{number % 2}"}
    return Document(id=f"a/{asset}-{number}", text=f"½ {number}", source="a", metadata=url)


def dropped_row(number: int) -> dict[str, Any]:
    place = {"src": "documents/a/part-00000.jsonl.gz", "loc": number + 1}
    found = document("filtered", number)
    rule = ("short", "left blank")[number % 2]
    return {"id": found.id, "reason": rule, **place, **text_facts(found.text, found.metadata)}


def held_row(number: int) -> dict[str, Any]:
    found = document("held_out", number)
    place = {"src": "documents/a/part-00000.jsonl.gz", "loc": number + 1}
    facts = text_facts(found.text, found.metadata)
    return {"id": found.id, "cluster": number, "role": "scored", **place, **facts}


@pytest.fixture
def inputs(tmp_path: Path, tokens_run: Path, filtered: Path) -> Mapping[str, Path]:
    """Runs that left documents out, beside the tokens of another corpus."""
    folders = {name: tmp_path / name for name in ("raw", "held_out", "filtered")}
    numbers = range(LEFT_OUT)
    path = folders["raw"] / "excluded" / "a" / "part-00000.jsonl.gz"
    write_documents(path, [document("raw", number) for number in numbers])
    rows = [held_row(number) for number in numbers]
    write_rows(folders["held_out"] / "held_out.jsonl.gz", rows)
    for part in (0, 1):
        path = folders["filtered"] / "dropped" / "a" / f"part-{part:05d}.jsonl.gz"
        write_rows(path, [dropped_row(number) for number in numbers if number % 2 == part])
    (folders["filtered"] / "documents").symlink_to(filtered / "documents")
    for name, folder in folders.items():
        report = {"report": {"numbers": {"dropped": LEFT_OUT}}}
        write_json(folder / "result.json", {"digest": f"of {name}", **report})
    return {"tokens": tokens_run, **folders}


def test_they_are_found_from_all_sides(
    tmp_path: Path, inputs: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PARTITION_DOCUMENTS", 10)
    folder = run(documents, tmp_path / "index", DocumentsConfig(), inputs, 2)
    index = DocumentIndex(folder)
    for number in range(LEFT_OUT):
        reason = ("short", "left blank")[number % 2]
        place = ("documents/a/part-00000.jsonl.gz", number + 1)
        for asset, why, (src, loc) in (
            ("filtered", reason, place),
            ("raw", "excluded", ("excluded/a/part-00000.jsonl.gz", number + 1)),
            ("held_out", "scored", place),
        ):
            made = document(asset, number)
            [found] = index.dropped_of_id(made.id)
            assert (found.asset, found.reason, found.source) == (asset, why, "a")
            assert (found.src, found.loc) == (src, loc)
            assert (found.characters, found.text_bytes) == (len(made.text), made.text_bytes)
            sha1 = hashlib.sha1(made.text.encode()).digest()
            assert found.sha1 == sha1
            same = sorted(f"a/{each}-{number}" for each in inputs if each != "tokens")
            assert [row.id for row in index.dropped_of_sha1(sha1)] == same
            assert found in index.dropped_of_url(made.metadata["url"])
            with pytest.raises(KeyError):
                index.of_id(made.id)
    assert len(index.dropped_of_url("https://filtered/1")) == LEFT_OUT // 2
    assert index.dropped_of_id("a/nothing") == []
    report = read_json(folder / "result.json")["report"]
    assert report["numbers"]["left_out"] == 3 * LEFT_OUT
    assert report["tables"]["left_out"] == [
        {"asset": "raw", "reason": "excluded", "documents": 25},
        {"asset": "held_out", "reason": "scored", "documents": 25},
        {"asset": "filtered", "reason": "short", "documents": 13},
        {"asset": "filtered", "reason": "left blank", "documents": 12},
    ]
    alone = run(documents, tmp_path / "alone", DocumentsConfig(), inputs, 1)
    for path in folder.rglob("*.parquet"):
        assert path.read_bytes() == (alone / path.relative_to(folder)).read_bytes()


def test_dropped_documents_without_a_name_are_refused(
    tmp_path: Path, inputs: Any, run: Any
) -> None:
    (inputs["filtered"] / "dropped" / "a" / "part-00001.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"dropped 25 documents, and dropped/ names 13"):
        run(documents, tmp_path / "index", DocumentsConfig(), inputs)
