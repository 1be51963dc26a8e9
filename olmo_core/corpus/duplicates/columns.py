"""Arrow columns as numpy arrays and back, and pyarrow's modules, imported when they are used.

Definitions load without pyarrow. Its own conversions import pandas where that is installed, which
is a quarter of a second in every process.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def arrow() -> Any:
    """Return pyarrow."""
    return importlib.import_module("pyarrow")


def ipc() -> Any:
    """Return pyarrow's module of Arrow files."""
    return importlib.import_module("pyarrow.ipc")


def parquet() -> Any:
    """Return pyarrow's module of Parquet files."""
    return importlib.import_module("pyarrow.parquet")


def read_batches(
    paths: Iterable[Path], rows: int, columns: Sequence[str] | None = None
) -> Iterator[Any]:
    """Yield what Parquet files hold in record batches of at most some rows, none of them empty.

    A row group is read at a time: pyarrow's own iterator may hold those that it has read.
    """
    for path in paths:
        with parquet().ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=columns).combine_chunks()
                yield from (batch for batch in table.to_batches(rows) if len(batch))


def as_array(column: Any) -> Array:
    """Return a column of numbers or bools, which has no nulls; the array may not be written to."""
    if column.type == arrow().bool_():
        return as_array(column.cast(arrow().uint8())).view(bool)
    kind = np.dtype(column.type.to_pandas_dtype())
    if not len(column):
        return np.zeros(0, kind)
    content = column.buffers()[1]
    return np.frombuffer(content, kind, len(column), column.offset * kind.itemsize)


def as_column(values: Any, kind: Any) -> Any:
    """Return numbers, bools or texts as a column of an Arrow type."""
    if kind == arrow().bool_():
        return as_column(values, arrow().uint8()).cast(kind)
    if kind == arrow().string():
        encoded = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
        buffers = [None, arrow().py_buffer(ends), arrow().py_buffer(b"".join(encoded))]
        return arrow().Array.from_buffers(kind, len(encoded), buffers)
    content = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return arrow().Array.from_buffers(kind, len(content), [None, arrow().py_buffer(content)])
