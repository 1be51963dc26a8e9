import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import InputError
from tests.olmo_core.documents import write_index


class Corpus:
    """Three token files of random documents; the rows are searched by walking through them."""

    def __init__(self, root: Path, write_tokens, group: int) -> None:
        rng = np.random.default_rng(3)
        self.rows: list[tuple[str, int, int, str]] = []
        rows: list[tuple[str, int, int, str, str, int]] = []
        for name in ("b/part-0-00000.npy", "a/part-0-00000.npy", "a/part-0-00001.npy"):
            documents = [rng.integers(1, 999, rng.integers(1, 60)).tolist() for _ in range(40)]
            path = write_tokens(name, documents)
            file = path.relative_to(root).as_posix()
            with gzip.open(path.with_suffix(".csv.gz"), "rt") as lines:
                for start, end, doc_id, src, loc in csv.reader(lines):
                    self.rows.append((file, int(start), int(end), doc_id))
                    rows.append((file, int(start), int(end), doc_id, src, int(loc)))
        write_index(root / "index", rows, group)
        self.index = DocumentIndex(root / "index")
        self.files = sorted({file for file, *_ in self.rows})


@pytest.fixture(params=[1, 7, 1 << 16])
def corpus(request, tmp_path: Path, write_tokens) -> Corpus:
    return Corpus(tmp_path, write_tokens, request.param)


def test_every_position_and_back(corpus: Corpus) -> None:
    for file, start, end, doc_id in corpus.rows:
        for position in {start, (start + end) // 2, end - 1}:
            found = corpus.index.at(file, position)
            assert (found.id, found.start, found.end) == (doc_id, start, end)
        spans = corpus.index.of_id(doc_id)
        assert [(s.file, s.start, s.end, s.id) for s in spans] == [(file, start, end, doc_id)]


def test_unknown_places(corpus: Corpus) -> None:
    last = max(end for file, _, end, _ in corpus.rows if file == corpus.files[0])
    for file, position in ((corpus.files[0], last), (corpus.files[0], -1), ("c.npy", 0)):
        with pytest.raises(KeyError, match="no document at token"):
            corpus.index.at(file, position)
    for doc_id in ("", "a", "zzz", corpus.rows[0][3] + "0000"):
        with pytest.raises(KeyError, match="no document"):
            corpus.index.of_id(doc_id)


def test_between_any_two_positions(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        file = str(rng.choice(corpus.files))
        start = int(rng.integers(0, 1200))
        stop = start + int(rng.integers(1, 300))
        expected = [
            doc_id
            for f, a, b, doc_id in sorted(corpus.rows)
            if f == file and a < stop and b > start
        ]
        assert [span.id for span in corpus.index.between(file, start, stop)] == expected


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a documents index"):
        DocumentIndex(tmp_path)
    (tmp_path / "places").mkdir()
    with pytest.raises(InputError, match=r"ids: not part of a documents index: 0 files"):
        DocumentIndex(tmp_path)
    for kind in ("ids", "urls", "texts", "dropped"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"ids/part-00000\.parquet: not part of a documents index"):
        DocumentIndex(tmp_path).of_id("a")
