"""Read a user's Parquet files as a stream of rows."""

import datetime
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from olmo_core.corpus.intake.passages import Refused
from olmo_core.errors import InputError

SUFFIXES = (".parquet",)
_BATCH = 256  # rows decoded at once


def read(path: Path, required: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the number of each row, from 1, and its values by column, or what is refused of it.

    Args:
        path: The file.
        required: Columns that must be there.
        wanted: Further columns; they are read where the file has them.

    Raises:
        InputError: the file is damaged, or lacks a required column.
    """
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    number = 0
    with path.open("rb") as content:
        try:
            file = parquet.ParquetFile(content, page_checksum_verification=True)
            names = file.schema_arrow.names
            missing = [name for name in required if name not in names]
            if missing:
                raise InputError(f"{path}: no column {missing[0]!r}; found {sorted(names)}")
            columns = [name for name in dict.fromkeys((*required, *wanted)) if name in names]
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                batch.validate(full=False)
                for row in range(batch.num_rows):
                    number += 1
                    yield number, _row(batch, row, f"{path}:{number}")
        except (arrow.ArrowException, UnicodeDecodeError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the system's, such as a disk that does not answer
            raise InputError(
                f"{path}: the Parquet file is truncated or damaged after row {number} ({error}); "
                "expected a whole file: copy or make it again"
            ) from None


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
