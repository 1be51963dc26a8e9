"""The formats of a user's files: the same rows, however they are written."""

import datetime
import gzip
import json
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.corpus.intake.parquet import read as read_parquet
from olmo_core.errors import InputError

ROWS = [
    {"id": f"{n}", "text": f"Text {n} é\n", "metadata": {"n": n, "large": 2**70}}
    for n in range(600)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(content)
    return sink.getvalue().to_pybytes()


def parquet(rows: list[dict[str, Any]], path: Path, **options: Any) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl.gz", gzip.compress(LINES)),
        ("a.json.gz", gzip.compress(LINES[:1000]) + gzip.compress(LINES[1000:])),
        ("a.jsonl.zst", zstd(LINES)),
        ("a.json.zst", zstd(LINES[:1000]) + zstd(LINES[1000:])),
    ],
    ids=["plain", "BOM", "gzip", "two members", "zstd", "two frames"],
)
def test_json_lines(tmp_path: Path, files: Any, read: Any, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    documents = read(files(tmp_path)).documents
    assert [(d.id, d.text) for d in documents] == [(f"mine/{r['id']}", r["text"]) for r in ROWS]
    assert documents[5].metadata == {"file": name, "n": 5, "large": 2**70}


def test_parquet_rows_are_read_by_the_names_of_their_columns(
    tmp_path: Path, files: Any, read: Any
) -> None:
    day = datetime.date(2024, 2, 29)
    rows = [
        {"key": n, "body": f"Text {n} é", "url": "u", "day": day, "more": n, "metadata": {"m": n}}
        for n in range(600)
    ]
    parquet(rows, tmp_path / "a.parquet", row_group_size=100)
    keys = {"id_key": "key", "text_key": "body", "metadata_keys": ("url", "day")}
    one = read(files(tmp_path, **keys))
    assert [(d.id, d.text) for d in one.documents] == [
        (f"mine/{row['key']}", row["body"]) for row in rows
    ]
    expected = {"file": "a.parquet", "m": 7, "url": "u", "day": "2024-02-29"}
    assert one.documents[7].metadata == expected
    assert one.row["integer_ids"] == 600
    with pytest.raises(InputError, match=r"a\.parquet: no column 'text'; found \['body', 'day', "):
        read(files(tmp_path))


def test_keys_name_what_is_read_of_json_lines(tmp_path: Path, files: Any, read: Any) -> None:
    row = {
        "id": "x",
        "url": "u",
        "content": "A",
        "score": 0.5,
        "metadata": {"score": 1, "file": "f"},
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    keys = {"id_key": "url", "text_key": "content", "metadata_keys": ("score",)}
    [document] = read(files(tmp_path, **keys)).documents
    assert (document.id, document.text) == ("mine/u", "A")
    assert document.metadata == {"score": 0.5, "file": "f"}  # a user's own file stays


@pytest.mark.parametrize("bad_documents", ["fail", "quarantine"])
@pytest.mark.parametrize("kind", ["zst", "parquet"])
@pytest.mark.parametrize("kept", [0, 3, 0.5, -5])
def test_a_file_that_is_not_whole_ends_it(
    tmp_path: Path, files: Any, read: Any, kind: str, kept: float, bad_documents: str
) -> None:
    path = tmp_path / ("a.jsonl.zst" if kind == "zst" else "a.parquet")
    path.write_bytes(zstd(LINES))
    if kind == "parquet":
        parquet([{"id": row["id"], "text": row["text"]} for row in ROWS], path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(InputError, match=rf"{path.name}: the .* is truncated or damaged after"):
        read(files(tmp_path, bad_documents=bad_documents))


def test_a_row_group_is_not_held_in_memory(tmp_path: Path) -> None:
    """Of 32 MB in one row group, a part at a time; of long rows, few at once."""
    noise = random.Random(0)
    for rows, length in ((16_000, 2000), (32, 1_000_000)):
        table = [{"text": noise.randbytes(length // 2).hex()} for _ in range(rows)]
        options = {"compression": None, "use_dictionary": False, "write_batch_size": 1}
        parquet(table, tmp_path / "a.parquet", **options)
        pool = pa.proxy_memory_pool(pa.default_memory_pool())
        before = pa.default_memory_pool()
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            read = sum(1 for _ in read_parquet(tmp_path / "a.parquet", ("text",), ()))
            peaks = [tracemalloc.get_traced_memory()[1], pool.max_memory()]
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(before)
        assert read == rows
        assert sum(peaks) < 16_000_000, peaks


PEAK = """
import sys
from pathlib import Path
from olmo_core.corpus.intake.parquet import read

def most() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

path = Path(sys.argv[1])
next(iter(read(path, ("text",), ())))  # imports
before = most()
print(sum(len(row["text"]) for _, row in read(path, ("text",), ())), most() - before)
"""


@pytest.mark.parametrize("kind", ["long rows together", "many row groups"])
def test_the_memory_of_a_process_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    """256 MB of text: beside short rows 256 of a MB each, or in 64 row groups."""
    together = kind == "long rows together"
    short, long = ["short"] * (20_000 if together else 0), ["x" * 1_000_000] * 256
    texts = [*short, *long, *short]
    path = tmp_path / "a.parquet"
    options = {"compression": "zstd", "use_dictionary": False, "write_batch_size": 1}
    rows = len(texts) if together else 4
    pq.write_table(pa.table({"text": texts}), path, row_group_size=rows, **options)  # pyright: ignore[reportUnknownMemberType]
    command = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    characters, grown_kib = map(int, done.stdout.split())
    assert characters == sum(map(len, texts))
    assert grown_kib < 100_000


def test_rows_of_parquet_are_as_many_as_its_footer_says(
    tmp_path: Path, files: Any, read: Any
) -> None:
    path = tmp_path / "a.parquet"
    parquet([{"id": row["id"], "text": row["text"]} for row in ROWS], path)
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    place = content.index(b"\xb0\x09", footer)  # 600, as Thrift's compact protocol writes it
    path.write_bytes(content[:place] + b"\xb2\x09" + content[place + 2 :])
    assert pq.ParquetFile(path).metadata.num_rows == 601
    with pytest.raises(InputError, match=r"damaged after row 600 \(its footer says 601 rows\)"):
        read(files(tmp_path, bad_documents="quarantine"))


def test_two_columns_of_one_name_are_refused(tmp_path: Path, files: Any, read: Any) -> None:
    values = [pa.array(["a", "b"])] * 4
    table = pa.Table.from_arrays(values, names=["id", "text", "text", "other"])
    pq.write_table(table, tmp_path / "a.parquet")  # pyright: ignore[reportUnknownMemberType]
    for bad_documents in ("fail", "quarantine"):
        with pytest.raises(InputError, match=r"a\.parquet: 2 columns are named 'text'; expected"):
            read(files(tmp_path, bad_documents=bad_documents))
    one = read(files(tmp_path, text_key="other"))  # what is not read may be as it is
    assert list(one.texts.values()) == ["a", "b"]


def test_a_bad_row_of_parquet_is_named(tmp_path: Path, files: Any, read: Any) -> None:
    texts = pa.array([b"fine", b"caf\xe9", None, b" ", b"fine too"], pa.binary())
    odd = texts.view(pa.string())  # as a writer that does not look leaves it
    table = pa.table({"id": ["1", "2", "3", "4", "5"], "text": odd})
    pq.write_table(table, tmp_path / "a.parquet")  # pyright: ignore[reportUnknownMemberType]
    one = read(files(tmp_path, bad_documents="quarantine"))
    assert one.texts == {"mine/1": "fine", "mine/5": "fine too"}
    assert [row["line"] for row in one.quarantined] == [2, 3, 4]
    assert [row["error"].split(";")[0] for row in one.quarantined] == [
        "a.parquet:2: 'utf-8' codec can't decode byte 0xe9 in position 3: unexpected end of data",
        "a.parquet:3: key 'text' is a NoneType",
        "a.parquet:4: empty document (key 'text', id '4')",
    ]
    with pytest.raises(InputError, match=r"a\.parquet:2: 'utf-8' codec"):
        read(files(tmp_path))
