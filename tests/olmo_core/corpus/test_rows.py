"""JSON lines are read as the standard library would read them, by faster decoders."""

import contextlib
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.document import REQUIRED_KEYS, Document, read_documents
from olmo_core.corpus.rows import check_row, decoder, parse_row, read_lines, read_rows, row_line
from olmo_core.errors import InputError

VALUES = [
    *map(str, (2**63, 2**64 - 1, 2**64, 2**70, -(2**63), -(2**63) - 1, 10**300)),
    *("-0", "-0.0", "0.1", "1E+5", "5e-324", "1e-400", "1e400", "-1.7976931348623159e308"),
    *("123456789012345678901234567890.5e-10", "NaN", "Infinity", "-Infinity", "01", "1.", "+1"),
    *(r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', r'"\ud83dx"', r'"\u0000"', r'"\/"'),
    *('"\x7f"', '"\x01"', '"\t"', "'a'", '"', "[1,]", "{,}", "{}", "null", "true", "tru", ""),
    *('{"a": 1, "b": 0, "a": 2}', '{"": {}}', "[" * 90 + "]" * 90, "[" * 5000 + "]" * 5000),
]
BYTES = [
    *(value.encode() for value in VALUES),
    *(b'"\xff"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xc0\x80"', b'"\xe2\x82\xac"'),
    *(b"\xef\xbb\xbf1", b"\xc2\xa01", b"1\x00", b"1 // one", b"1 2"),
]


def by_the_standard_library(line: bytes) -> Any:
    """The object of a line; None where it is refused."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return json.loads(line.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def outcome(call: Any) -> tuple[Any, str]:
    """What a call returns, or the message of its InputError. Compared by repr: -0.0 is not 0."""
    try:
        return repr(call()), ""
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("value", BYTES, ids=lambda value: repr(value[:40]))
def test_each_value_is_the_standard_librarys_or_refused_with_its_place(value: bytes) -> None:
    for line in (b'{"id": "x", "m": ' + value + b"}\n", b' {"m": [' + value + b'], "m": 1}\r\n'):
        expected = by_the_standard_library(line)
        found, message = outcome(lambda line=line: parse_row(line, "a.jsonl:7"))
        if expected is None:
            assert message.startswith("a.jsonl:7: ")
        else:
            assert found == repr(expected)


@pytest.mark.parametrize("key", ["id", "text", "source", "added", "metadata"])
@pytest.mark.parametrize("value", BYTES, ids=lambda value: repr(value[:40]))
def test_a_document_is_what_its_row_says(tmp_path: Path, key: str, value: bytes) -> None:
    row: dict[str, bytes] = {"id": b'"s/1"', "text": b'"Text"', "source": b'"s"', key: value}
    line = b"{%s}\n" % b", ".join(b'"%s": %s' % (k.encode(), v) for k, v in row.items())
    path = tmp_path / "part.jsonl.gz"
    path.write_bytes(gzip.compress(line))

    def by_its_row() -> Document:
        row = parse_row(line, f"{path}:1")
        check_row(row, f"{path}:1", REQUIRED_KEYS)
        row["metadata"] = row.get("metadata") or {}
        return Document(**row)

    assert outcome(lambda: next(read_documents(path))) == outcome(by_its_row)


def mutations(count: int, chance: random.Random) -> Iterator[bytes]:
    metadata = {"n": [1, 2.5, -3e10, True, None, {}], "large": 2**70}
    row = {"id": "a/é😀", "text": 'A "line"\n\ttwo \\ / é 😀 \x7f', "metadata": metadata}
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode() for ascii_only in (True, False)]
    odd = [b'"', b"\\", b"\\u", b"{", b"}", b",", b"\xed\xa0\x80", b"NaN", rb"\ud800", b"9" * 20]
    for _ in range(count):
        line = bytearray(chance.choice(lines))
        for _ in range(chance.choice((1, 1, 3))):
            place = chance.randrange(len(line))
            match chance.randrange(3):
                case 0:
                    line[place] = chance.randrange(256)
                case 1:
                    del line[place : place + chance.randint(1, 4)]
                case _:
                    line[place:place] = chance.choice(odd)
        yield bytes(line)


def test_mutated_lines_are_read_as_the_standard_library_reads_them() -> None:
    fast = taken = 0
    for line in mutations(10_000, random.Random(0)):
        expected = by_the_standard_library(line)
        found = decoder(dict[str, Any])(line)
        if found is not None:
            assert repr(found) == repr(expected), line
            fast += 1
        taken += isinstance(expected, dict)
    assert 0.9 * taken < fast <= taken > 1000


def test_rows_are_written_in_the_standard_librarys_bytes() -> None:
    characters = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    values: list[Any] = [
        *("".join(characters[n : n + 4096]) for n in range(0, len(characters), 4096)),
        *(2**63, 2**64, 10**400, -(2**63) - 1, 0, True, None, "", {}, [], [[]], {"a": [None, "b"]}),
        *(1e16, 1e-7, -0.0, 0.1, 5e-324, [1, 2, 0.5], {"a": {"b": 1e22}}, float("nan")),
    ]
    for value in values:
        row = {"id": "x", "metadata": value, "a": {"b": 2, "a": 1}}
        expected = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        assert row_line(row) == expected
    for value, error in (("\ud800", UnicodeEncodeError), (b"bytes", TypeError)):
        with pytest.raises(error):
            row_line({"id": value})


def members(content: bytes) -> list[bytes]:
    """The same lines as gzip files of several kinds."""
    header = b"\x1f\x8b\x08\x1e" + bytes(5) + b"\xff\x04\x00abcdname\0comment\0"
    header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    packed = gzip.compress(content)
    return [
        packed,
        gzip.compress(content[:2000]) + gzip.compress(content[2000:]),
        packed + bytes(20),
        gzip.compress(content, 0),
        header + packed[10:],
    ]


def damage(packed: bytes, kind: int, chance: random.Random) -> bytes:
    """Cut off, change or add some bytes."""
    if kind == 0:
        return packed[: chance.randrange(len(packed))]
    if kind == 1:
        place = chance.randrange(len(packed))
        return (
            packed[:place]
            + bytes([packed[place] ^ (1 << chance.randrange(8))])
            + packed[place + 1 :]
        )
    return packed + chance.choice((b"", b"\n", b"x", b"\x1f\x8b", packed[:30]))


def lines_of(path: Path) -> tuple[list[bytes], str]:
    """The lines that the standard library finds, and what it says of the file."""
    found: list[bytes] = []
    try:
        with gzip.open(path) as lines:
            found.extend(lines)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return found, f"after line {len(found)} ({error or '0 bytes'})"
    return found, ""


def test_damaged_gzip_files_give_the_same_lines_and_the_same_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    chance = random.Random(0)
    content = b"".join(b'{"id": "%s"}\n' % chance.randbytes(20).hex().encode() for _ in range(90))
    damaged = 0
    for packed in members(content):
        for number in range(200):
            path.write_bytes(damage(packed, number % 3, chance) or packed)
            expected, said = lines_of(path)
            found: list[bytes] = []
            with pytest.raises(InputError) if said else contextlib.nullcontext() as raised:
                found.extend(line for _, line in read_lines(path))
            damaged += bool(raised)
            assert not raised or said in str(raised.value)
            assert found == [line if line.strip() else b"" for line in expected]
    assert damaged > 500


def test_a_file_that_may_not_be_read_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl\.gz"):
        list(read_rows(tmp_path / "none.jsonl.gz"))
    with pytest.raises(IsADirectoryError):
        list(read_rows(tmp_path))


def test_blank_lines_may_end_a_file_however_many(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' + b" \r\n" * 2 + b"\n" * 100_000))
    tracemalloc.start()
    assert list(read_rows(path)) == [{"a": 1}]
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    path.write_bytes(gzip.compress(b'{"a": 1}\n\n \n{"a": 2}\n'))
    assert [number for number, line in read_lines(path) if not line] == [2, 3]
    with pytest.raises(InputError, match=r"a\.jsonl\.gz:2: blank line"):
        list(read_rows(path))
