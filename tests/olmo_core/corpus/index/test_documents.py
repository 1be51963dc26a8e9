import csv
import gzip
import hashlib
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from re import sub

import pytest

from olmo_core.corpus.document import Document, read_folder, write_documents, write_shards
from olmo_core.corpus.index import documents
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.corpus.tokens import tokens
from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import InputError
from olmo_core.files import read_json, write_json
from tests.olmo_core.corpus.conftest import NOTHING_DROPPED


def test_every_document_is_found_from_all_sides(
    tokens_run: Path, filtered: Path, documents_run: Path
) -> None:
    """Against a walk through the `.csv.gz` files and the documents themselves."""
    index = DocumentIndex(documents_run)
    count = 0
    longest: Counter[str] = Counter()
    texts = {document.id: document for document in read_folder(filtered / "documents")}
    for path in sorted((tokens_run / "tokens").rglob("*.csv.gz")):
        file = path.relative_to(tokens_run).as_posix().replace(".csv.gz", ".npy")
        with gzip.open(path, "rt", newline="") as lines:
            for start, end, doc_id, src, loc in csv.reader(lines):
                found = index.at(file, int(end) - 1)
                assert (found.start, found.end, found.id) == (int(start), int(end), doc_id)
                assert (found.src, found.loc) == (src, int(loc))
                (row,) = index.of_id(doc_id)
                assert asdict(found).items() <= asdict(row).items()
                text = texts[doc_id].text
                assert (row.source, row.url) == (texts[doc_id].source, None)
                assert (row.characters, row.text_bytes) == (len(text), len(text.encode()))
                sha1 = hashlib.sha1(text.encode()).digest()
                assert row.sha1 == sha1
                same = sorted(name for name, other in texts.items() if other.text == text)
                assert [each.id for each in index.of_sha1(sha1)] == same
                source = texts[doc_id].source
                longest[source] = max(longest[source], int(end) - int(start))
                count += 1
    assert count == len(texts)
    assert max(longest.values()) > 1000  # of four digits: rounded elsewhere in the table
    report = read_json(documents_run / "result.json")["report"]
    assert report["numbers"]["documents"] == count
    table = report["tables"]["tokens_per_document"]
    assert sum(row["documents"] for row in table) == count
    assert {row["source"]: row["longest"] for row in table} == longest


@pytest.fixture
def copied(tmp_path: Path, tokens_run: Path) -> Path:
    shutil.copytree(tokens_run / "tokens", tmp_path / "run" / "tokens")
    shutil.copy(tokens_run / "result.json", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "the token file has 10 documents"),
        (lambda rows: ["0,x,id,src,1"], r"\.csv\.gz: .*invalid value 'x'; expected rows start,end"),
        (lambda rows: rows[1:], r":1: tokens .* expected to start at 0"),
        (lambda rows: [*rows[:5], *rows[6:]], r":6: tokens .* expected to start at"),
        (lambda rows: [sub(r'\d"", é', '1"", é', row) for row in rows], "given twice, in"),
        (lambda rows: [rows[0].replace("odd/", "new/"), *rows[1:]], "no such document in filtered"),
    ],
)
def test_rows_that_do_not_fit_their_file(
    tmp_path: Path, copied: Path, filtered: Path, run, change, message: str
) -> None:
    path = copied / "tokens" / "odd" / "part-0-00000.csv.gz"
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress(("\n".join(change(rows)) + "\n").encode()))
    inputs = {"tokens": copied, "filtered": filtered}
    with pytest.raises(InputError, match=message):
        run(documents, tmp_path / "index", DocumentsConfig(), inputs)


def test_ids_with_line_breaks_and_control_characters(
    tmp_path: Path, tokenizer_run: Path, run
) -> None:
    ids = [
        f"a/x{odd}{place}"
        for odd in ("\r", "\n", "\r\n", "\0\x1b\x85\u2028")
        for place in ("y", "")
    ]
    shard = tmp_path / "filtered" / "documents" / "a" / "part-00000.jsonl.gz"
    write_documents(shard, [Document(id=name, text="A text.", source="a") for name in ids])
    write_json(
        tmp_path / "filtered" / "result.json", {"digest": "of these texts", **NOTHING_DROPPED}
    )
    inputs = {"filtered": tmp_path / "filtered", "tokenizer": tokenizer_run}
    made = run(tokens, tmp_path / "tokens", tokens.TokensConfig(), inputs)
    index = run(documents, tmp_path / "index", DocumentsConfig(), inputs | {"tokens": made})
    found = [DocumentIndex(index).of_id(name) for name in ids]
    assert [[span.loc for span in spans] for spans in found] == [[n] for n in range(1, 9)]


def test_no_token_file(tmp_path: Path, filtered: Path, run) -> None:
    inputs = {"tokens": tmp_path, "filtered": filtered}
    with pytest.raises(InputError, match="no token file"):
        run(documents, tmp_path / "index", DocumentsConfig(), inputs)


@pytest.mark.parametrize("processes", [1, 2])
def test_many_partitions(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run, processes: int, monkeypatch
) -> None:
    """Three documents of one URL, two of another, some without; texts in pairs."""
    monkeypatch.setattr(documents, "PARTITION_DOCUMENTS", 10)
    made = [
        Document(
            id=f"a/{number}",
            text=f"Text {number // 2}, ½.",
            source="a",
            metadata={"url": f"https://a/{number % 40}"} if number % 3 else {"url": 3},
        )
        for number in range(100)
    ]
    folder = tmp_path / "filtered"
    write_shards(folder / "documents" / "a", made, shard_bytes=400)
    write_json(folder / "result.json", {"digest": "of these texts", **NOTHING_DROPPED})
    inputs = {"filtered": folder, "tokenizer": tokenizer_run}
    config = tokens.TokensConfig(max_tokens_per_file=100)
    inputs["tokens"] = run(tokens, tmp_path / "tokens", config, inputs)
    index_run = run(documents, tmp_path / "index", DocumentsConfig(), inputs, processes)
    assert len(list((index_run / "ids").iterdir())) == 16
    index = DocumentIndex(index_run)
    for document in made:
        assert [row.id for row in index.of_id(document.id)] == [document.id]
        sha1 = hashlib.sha1(document.text.encode()).digest()
        assert len(index.of_sha1(sha1)) == 2
    for number in range(40):
        url = f"https://a/{number}"
        expected = sorted(each.id for each in made if each.metadata["url"] == url)
        assert [row.id for row in index.of_url(url)] == expected
    assert index.of_url("https://b") == []
    assert index.of_sha1(b"0" * 20) == []
