import csv
import gzip
import shutil
from pathlib import Path

import pytest

from olmo_core.corpus.document import Document, write_documents
from olmo_core.corpus.index import documents
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.corpus.tokens import tokens
from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import InputError
from olmo_core.files import read_json, write_json


def test_every_document_is_found_from_both_sides(tokens_run: Path, documents_run: Path) -> None:
    """Against a walk through the `.csv.gz` files themselves."""
    index = DocumentIndex(documents_run)
    count = 0
    for path in sorted((tokens_run / "tokens").rglob("*.csv.gz")):
        file = path.relative_to(tokens_run).as_posix().replace(".csv.gz", ".npy")
        with gzip.open(path, "rt", newline="") as lines:
            for start, end, doc_id, src, loc in csv.reader(lines):
                found = index.at(file, int(end) - 1)
                assert (found.start, found.end, found.id) == (int(start), int(end), doc_id)
                assert (found.src, found.loc) == (src, int(loc))
                assert index.of_id(doc_id) == [found]
                count += 1
    report = read_json(documents_run / "result.json")["report"]
    assert report["numbers"]["documents"] == count
    assert sum(row["documents"] for row in report["tables"]["tokens_per_document"]) == count


@pytest.fixture
def copied(tmp_path: Path, tokens_run: Path) -> Path:
    shutil.copytree(tokens_run / "tokens", tmp_path / "run" / "tokens")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "the token file has 10 documents"),
        (lambda rows: ["0,x,id,src,1"], r"\.csv\.gz: .*invalid value 'x'; expected rows start,end"),
        (lambda rows: rows[1:], r":1: tokens .* expected to start at 0"),
        (lambda rows: [*rows[:5], *rows[6:]], r":6: tokens .* expected to start at"),
        (lambda rows: [rows[0].replace('0"", é', '1"", é'), *rows[1:]], "given twice, in"),
    ],
)
def test_rows_that_do_not_fit_their_file(
    tmp_path: Path, copied: Path, run, change, message: str
) -> None:
    path = copied / "tokens" / "odd" / "part-0-00000.csv.gz"
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress(("\n".join(change(rows)) + "\n").encode()))
    with pytest.raises(InputError, match=message):
        run(documents, tmp_path / "index", DocumentsConfig(), {"tokens": copied})


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
    write_json(tmp_path / "filtered" / "result.json", {"digest": "of these texts"})
    inputs = {"filtered": tmp_path / "filtered", "tokenizer": tokenizer_run}
    made = run(tokens, tmp_path / "tokens", tokens.TokensConfig(), inputs)
    index = run(documents, tmp_path / "index", DocumentsConfig(), {"tokens": made})
    found = [DocumentIndex(index).of_id(name) for name in ids]
    assert [[span.loc for span in spans] for spans in found] == [[n] for n in range(1, 9)]


def test_no_token_file(tmp_path: Path, run) -> None:
    with pytest.raises(InputError, match="no token file"):
        run(documents, tmp_path / "index", DocumentsConfig(), {"tokens": tmp_path})
