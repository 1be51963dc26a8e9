"""Damaged files of every format: an error that names the file, or every row taken or refused."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.corpus.intake.exclusions import Exclusions, read_entries
from olmo_core.corpus.intake.pieces import Counts, documents_of
from olmo_core.corpus.intake.sources import Unit
from olmo_core.errors import InputError
from tests.olmo_core.corpus.intake.test_formats import zstd
from tests.olmo_core.corpus.intake.test_warc import archive, page

ROWS: list[dict[str, Any]] = [
    {"id": n, "text": f"Text {n} é\n" * (n % 7 + 1), "metadata": {"n": n}} for n in range(60)
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
RECORDS = [page(str(n), f"Page {n} \u00e9 of words") for n in range(20)]
ODD = (
    b"\0",
    b"\xff",
    b"\n",
    b'"',
    b"{",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"1e999",
    b"NaN",
    b"null",
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Cut off, change, put in or take out some bytes."""
    for _ in range(chance.choice((1, 1, 1, 5))):
        place = chance.randrange(len(content) + 1)
        content = chance.choice(
            (
                content[:place],
                content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :],
                content[:place] + chance.choice(ODD) + content[place:],
                content[:place] + content[place + chance.randrange(40) :],
            )
        )
    return content


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, sink, row_group_size=20, write_page_checksum=True)  # pyright: ignore[reportUnknownMemberType]
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lambda: LINES),
        ("a.jsonl.gz", lambda: gzip.compress(LINES, mtime=0)),
        ("a.jsonl.zst", lambda: zstd(LINES)),
        ("a.parquet", parquet),
        ("a.txt", lambda: LINES),
        ("a.warc", lambda: b"".join(RECORDS)),
        ("a.warc.gz", lambda: archive(RECORDS)),
    ],
)
def test_no_row_is_lost_in_silence(
    tmp_path: Path, files: Any, name: str, content: Callable[[], bytes]
) -> None:
    chance = random.Random(name)
    whole = content()
    path = tmp_path / name
    exclusions = Exclusions(read_entries(files(tmp_path)))
    between_records = 0
    outcomes = {"refused": 0, "read": 0, "quarantined": 0}
    for _ in range(1000):
        broken = mutated(whole, chance)
        path.write_bytes(broken)
        counts = Counts()
        source = files(tmp_path, bad_documents="quarantine")
        rows: list[dict[str, Any]] = []
        try:
            unit = Unit(name=name, path=path, origin={})
            found = documents_of(source, unit, counts, exclusions, rows.append)
            documents = [placed.document for placed in found]
        except InputError as error:
            outcomes["refused"] += str(path) in str(error)
            continue
        outcomes["read"] += 1
        outcomes["quarantined"] += counts.quarantined > 0
        assert len(rows) == counts.quarantined
        assert len(documents) == counts.ids.total()  # none is cut, none too short
        taken = len(documents) + counts.quarantined
        if name == "a.jsonl":
            lines = broken.rstrip().split(b"\n")
            assert taken == (len(lines) if lines != [b""] else 0)
        elif name == "a.txt":
            assert taken == 1
        elif name == "a.jsonl.gz":  # its checksum says that all is there
            assert taken == 60
        elif ".warc" in name:
            lost = len(RECORDS) - taken - counts.left_out.total()
            between_records += lost > 0  # it is cut off there, which nothing in it tells
            assert lost == 0 or len(broken) < len(whole) - 200
        json.dumps([rows, [dict(d.metadata) for d in documents]], allow_nan=False)
        "".join(document.text + document.id for document in documents).encode()
    assert outcomes["refused"] + outcomes["read"] == 1000
    assert between_records < 10
    expected = {"a.jsonl": "quarantined", "a.txt": "quarantined"}.get(name, "refused")
    assert outcomes[expected] > 50
