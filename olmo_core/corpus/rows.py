"""Gzipped JSON lines: read strictly, naming file and line of a fault; written reproducibly."""

import contextlib
import gzip
import json
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from olmo_core.errors import InputError
from olmo_core.files import atomic_path

COMPRESSION = 5  # two thirds of level 6's time, 3% more bytes

OnBadLine = Callable[[int, bytes, InputError], None]


def _refuse(line_number: int, line: bytes, error: InputError) -> None:
    raise error


def read_rows(
    path: Path, *, on_bad_line: OnBadLine = _refuse
) -> Generator[tuple[int, dict[str, Any]]]:
    """Yield `(line number from 1, JSON object)` of a gzipped (by name) JSON-lines file.

    Args:
        path: The file.
        on_bad_line: Takes the number, the bytes and the error of a line that cannot be read;
            raises by default.

    Raises:
        InputError: a truncated or damaged gzip, a line that is not UTF-8 or not a JSON object, a
            blank line before another; the message names file and line.
    """
    line_number = 0
    blank: list[int] = []  # allowed at the end of a file only
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as lines:
            for line_number, line in enumerate(lines, start=1):
                if not line.strip():
                    blank.append(line_number)
                    continue
                for number in blank:
                    error = InputError(
                        f"{path}:{number}: blank line; expected one JSON object per line (blank "
                        "lines may only end a file)"
                    )
                    on_bad_line(number, b"", error)
                blank.clear()
                try:
                    row = _parse_row(path, line_number, line)
                except InputError as error:
                    on_bad_line(line_number, line, error)
                    continue
                yield line_number, row
        if path.suffix == ".gz" and line_number == 0 and path.stat().st_size == 0:
            raise EOFError("0 bytes")  # what gzip takes for an empty file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: the gzip stream is truncated or damaged after line {line_number} ({error}); "
            "expected a whole file: copy or make it again"
        ) from None


def _parse_row(path: Path, line_number: int, line: bytes) -> dict[str, Any]:
    where = f"{path}:{line_number}"
    try:
        row = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8; "
            "expected JSON lines in UTF-8"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{where}: not valid JSON ({error}); expected one object per line"
        ) from None
    except RecursionError:
        raise InputError(
            f"{where}: lists or objects nested too deeply to be read; expected one JSON object a "
            "line"
        ) from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: found {type(row).__name__}; expected one JSON object per line")
    return row  # pyright: ignore[reportUnknownVariableType]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"found {name}, which JSON does not have")


def check_row(row: Mapping[str, Any], where: str, required: Iterable[str]) -> None:
    """Refuse a document without its keys, without text, or with keys that cannot be written.

    Raises:
        InputError: with `where` (file:line), the key and what would be right.
    """
    for key in required:
        if key not in row:
            raise InputError(
                f"{where}: key {key!r} is missing; found {sorted(row)}, expected at least "
                f"{list(required)}"
            )
        if not isinstance(row[key], str):
            found = type(row[key]).__name__
            raise InputError(f"{where}: key {key!r} is a {found}; expected a string")
    if not row["text"].strip():
        raise InputError(
            f"{where}: empty document (key 'text', id {row.get('id')!r}); expected text, remove "
            "the line"
        )
    for key in required:
        try:
            row[key].encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: key {key!r} holds a lone surrogate at character {error.start}; expected "
                "text that can be written as UTF-8"
            ) from None
    if not isinstance(row.get("metadata"), dict | None):
        found = type(row["metadata"]).__name__
        raise InputError(f"{where}: key 'metadata' is a {found}; expected an object, or no key")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write gzipped JSON lines whole or not at all; the same rows give the same bytes.

    Returns:
        The number of rows.

    Raises:
        OSError: the disk is full, or the file cannot be written; the error names the file.
    """
    count = 0
    with packed(path) as out:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
            out.write(line.encode() + b"\n")
            count += 1
    return count


@contextlib.contextmanager
def packed(path: Path) -> Generator[gzip.GzipFile]:
    """Open a gzip file that is written whole or not at all; equal content gives equal bytes."""
    with (
        atomic_path(path) as beside,
        beside.open("wb") as raw,
        # Neither the time nor the temporary name may get into the bytes.
        gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as out,
    ):
        yield out
