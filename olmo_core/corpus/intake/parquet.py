"""Read a user's Parquet files as a stream of rows, whatever the size of their row groups.

A process holds some rows and one page of each column that it reads. A page, and a column's
dictionary, can only be decoded whole.
"""

import datetime
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from olmo_core.corpus.intake.passages import Refused
from olmo_core.errors import InputError

SUFFIXES = (".parquet",)
# Decoded at once, at most. The bytes are of rows of a mean size: in a row group of short rows all
# long ones may stand together, and the number of rows alone bounds these.
_BATCH_ROWS, _BATCH_BYTES = 16, 1 << 22
_READ_BYTES = 1 << 16  # at once of a column: without it, all that a row group has of it is read


def read(path: Path, required: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the number of each row, from 1, and its values by column, or what is refused of it.

    Args:
        path: The file.
        required: Columns that must be there.
        wanted: Further columns; they are read where the file has them.

    Raises:
        InputError: the file is damaged, lacks a required column, has two of one name, or gives
            fewer or more rows than its footer says.
    """
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    number = 0
    # Arrow's own file: it reads a page into one buffer, where Python's makes bytes first.
    with arrow.OSFile(str(path)) as content:
        try:
            file = parquet.ParquetFile(
                content,
                page_checksum_verification=True,
                pre_buffer=False,
                buffer_size=_READ_BYTES,
            )
            columns = _columns(path, file.schema_arrow.names, required, wanted)
            for batch in file.iter_batches(batch_size=_rows_at_once(file), columns=columns):
                batch.validate(full=False)
                for row in range(batch.num_rows):
                    number += 1
                    yield number, _row(batch, row, f"{path}:{number}")
            if number != file.metadata.num_rows:
                raise EOFError(f"its footer says {file.metadata.num_rows} rows")
        except (arrow.ArrowException, EOFError, UnicodeDecodeError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the system's, such as a disk that does not answer
            raise InputError(
                f"{path}: the Parquet file is truncated or damaged after row {number} ({error}); "
                "expected a whole file: copy or make it again"
            ) from None


def _columns(
    path: Path, names: Sequence[str], required: Sequence[str], wanted: Sequence[str]
) -> list[str]:
    """Return the columns that are read, each of which the file must have once, if at all."""
    missing = [name for name in required if name not in names]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}; found {sorted(names)}")
    columns = [name for name in dict.fromkeys((*required, *wanted)) if name in names]
    for name in columns:
        if (count := names.count(name)) > 1:
            raise InputError(
                f"{path}: {count} columns are named {name!r}; expected one: write the file again "
                "with names that differ"
            )
    return columns


def _rows_at_once(file: Any) -> int:
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    mean = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1, mean))))


def _row(batch: Any, row: int, where: str) -> dict[str, Any] | Refused:
    try:
        # Dates become text here: JSON has none.
        return {name: _plain(batch.column(name)[row].as_py()) for name in batch.schema.names}
    except (ValueError, OverflowError) as error:  # not UTF-8, or a date that Python does not have
        number = int(where.rpartition(":")[2])
        message = f"{where}: {error}; expected text in UTF-8, and dates of the years 1 to 9999"
        return Refused(error=InputError(message), place={"line": number})


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value
