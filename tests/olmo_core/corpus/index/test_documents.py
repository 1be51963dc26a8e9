import csv
import gzip
import shutil
from pathlib import Path

import pytest

from olmo_core.corpus.index import documents
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import InputError
from olmo_core.files import read_json


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


def test_no_token_file(tmp_path: Path, run) -> None:
    with pytest.raises(InputError, match="no token file"):
        run(documents, tmp_path / "index", DocumentsConfig(), {"tokens": tmp_path})
