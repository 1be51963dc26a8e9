import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from olmo_core.data import document_index
from olmo_core.data.document_index import DocumentIndex
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.data.provenance import document_steps, step_documents
from olmo_core.errors import InputError


def write_index(folder: Path, rows: list[tuple[str, int, int, str, str, int]], group: int) -> None:
    """Write an index of rows (file, start, end, id, src, loc), as the asset does."""
    names = ("file", *document_index.PLACE_SCHEMA.names)
    named: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in sorted(rows)]
    for file in {row["file"] for row in named}:
        path = document_index.places_path(folder / "places", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(
            [row for row in named if row["file"] == file], document_index.PLACE_SCHEMA
        )
        document_index.write_sorted(path, table, by="start", row_group=group)
    for row in named:
        row.update(key=document_index.key_of(row["id"]), source="s", sha1=b"0" * 20)
    named.sort(key=lambda row: row["key"])
    for kind, schema in (
        ("ids", document_index.ROW_SCHEMA),
        ("urls", document_index.KEY_SCHEMA),
        ("texts", document_index.KEY_SCHEMA),
        ("dropped", document_index.DROPPED_SCHEMA),
    ):
        (folder / kind).mkdir()
        table = pa.Table.from_pylist(named if kind == "ids" else [], schema)
        path = folder / kind / "part-00000.parquet"
        document_index.write_sorted(path, table, by="key", row_group=group)


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
        self.manifest = Manifest(
            dtype="uint16",
            vocab_size=1000,
            tokenizer_sha256="ab" * 32,
            eos_token_id=0,
            root=root,
            streams=(
                Stream(name="a", ranges=(self.part(0, 0, 500), self.part(1, 100, 900))),
                Stream(name="b", ranges=(self.part(2, 30, 700), self.part(0, 200, 400))),
            ),
        )

    def part(self, file: int, start: int, stop: int) -> Range:
        return Range(path=self.files[file], start=start, stop=stop)


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


@pytest.mark.parametrize("order", ["olmo", "feistel"])
def test_both_questions_agree(corpus: Corpus, order) -> None:
    """What each step saw, found by walking all rows; and the way back from every document."""
    loader = Loader(
        manifest=corpus.manifest, sequence_length=32, global_batch_size=5, seed=1, order=order
    )
    saw: dict[str, set[int]] = {}
    for step in range(2 * loader.batching.per_epoch):
        expected = []
        for instance in loader.instances(step).tolist():
            ids = [
                doc_id
                for piece in loader.data.pieces(instance)
                for file, start, end, doc_id in sorted(corpus.rows)
                if file == piece.path and start < piece.stop and end > piece.start
            ]
            expected.append(ids)
            for doc_id in ids:
                saw.setdefault(doc_id, set()).add(step)
        found = step_documents(loader, corpus.index, step)
        assert [[span.id for span in spans] for spans in found] == expected
    for _, _, _, doc_id in corpus.rows:
        steps = document_steps(loader, corpus.index, doc_id, epochs=2)
        assert steps == sorted(saw.get(doc_id, set()))


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
