"""Documents of made-up tokens with their index, and an exact search for what a batch holds."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.data import document_index
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.files import write_json
from olmo_core.lineage.document_batches import BatchedDocumentIndex

Row = tuple[str, int, int, str, str, int]  # file, start, end, id, src, loc
Found = tuple[str, int, int]  # id, its tokens [start, stop)
VOCABULARY, EOS = 100, 0


def sha1_of(doc_id: str) -> bytes:
    """What the index has as the digest of a made-up document's text."""
    return hashlib.sha1(doc_id.encode()).digest()


def write_index(folder: Path, rows: Sequence[Row], group: int) -> None:
    """Write an index of documents, as the asset does."""
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
        row.update(key=document_index.key_of(row["id"]), source="s", sha1=sha1_of(row["id"]))
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


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Token files, a mix of them and their index, on the disk."""

    folder: Path
    rows: Sequence[Row]
    streams: Sequence[tuple[np.ndarray, Sequence[Found]]]  # ids, and whose token each is

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def index(self) -> BatchedDocumentIndex:
        return BatchedDocumentIndex(self.folder / "index")

    def search(self, ids: np.ndarray) -> list[Found]:
        """Find the tokens of an instance in the mix, to the letter; return whose they are."""
        wanted = ids.astype("<u2").tobytes()
        for joined, owners in self.streams:
            content, at = joined.tobytes(), -1
            while (at := content.find(wanted, at + 1)) >= 0:
                if at % 2 == 0:
                    return _merged(owners[at // 2 : at // 2 + len(ids)])
        raise AssertionError("no such tokens in the mix")


def write_corpus(folder: Path) -> Corpus:
    """Write two files of documents, some of which repeat themselves; a part of one twice."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    files: dict[str, np.ndarray] = {}
    for name in ("a/part-0-00000.npy", "b/part-0-00000.npy"):
        path = folder / "tokens" / name
        path.parent.mkdir(parents=True)
        parts: list[int] = []
        for number in range(60):
            length = int(rng.integers(1, 90))
            ids = rng.integers(2, VOCABULARY, length).tolist()
            if number % 9 == 4:  # one that repeats itself, in tokens of its own
                own = 2 + number // 9 + 20 * len(files)
                ids = [own, own + 50] * 70
            start = len(parts)
            parts += [*ids, EOS]
            rows.append(
                (f"tokens/{name}", start, len(parts), f"{name}:{number}", "s.gz", number + 1)
            )
        files[f"tokens/{name}"] = np.array(parts, dtype="<u2")
        files[f"tokens/{name}"].tofile(path)
        header = {
            "schema_version": 1,
            "dtype": "uint16",
            "tokens": len(parts),
            "documents": 60,
            "vocab_size": VOCABULARY,
            "tokenizer_sha256": "ab" * 32,
            "eos_token_id": EOS,
        }
        write_json(path.with_suffix(".json"), header)
    a, b = files
    ends = {file: len(ids) for file, ids in files.items()}
    ranges = {"a": [(a, 0, ends[a])], "b": [(b, 100, ends[b]), (b, 0, 900), (a, 5, 700)]}
    Manifest(
        dtype="uint16",
        vocab_size=VOCABULARY,
        tokenizer_sha256="ab" * 32,
        eos_token_id=EOS,
        root=folder,
        streams=tuple(
            Stream(
                name=name,
                ranges=tuple(Range(path=path, start=start, stop=stop) for path, start, stop in of),
            )
            for name, of in ranges.items()
        ),
    ).write(folder / "manifest.json")
    write_index(folder / "index", rows, group=7)
    owners = {file: [(r[3], at, at + 1) for r in rows if r[0] == file for at in range(r[2] - r[1])]
              for file in files}  # fmt: skip
    streams = [
        (
            np.concatenate([files[path][start:stop] for path, start, stop in of]),
            [owner for path, start, stop in of for owner in owners[path][start:stop]],
        )
        for of in ranges.values()
    ]
    return Corpus(folder=folder, rows=rows, streams=streams)


def _merged(owners: Sequence[Found]) -> list[Found]:
    """Join the tokens of a document that follow each other."""
    found: list[Found] = []
    for doc_id, start, stop in owners:
        if found and found[-1][0] == doc_id and found[-1][2] == start:
            found[-1] = (doc_id, found[-1][1], stop)
        else:
            found.append((doc_id, start, stop))
    return found
