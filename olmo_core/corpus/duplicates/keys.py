"""The shuffle of narrow keys: equal keys of all shards meet, at any size of the corpus.

A map over groups of shards writes rows of a key and a place to one Arrow file per group, cut by
partition; a reduce reads one partition of all files and queries it with DuckDB, which spills. So
there are as many files as groups and partitions, never their product, and a process holds a round
of rows, or DuckDB's limit. Text is never shuffled.

A place is a document: the number of its shard, in the order of their paths, and its line. The least
place is the first copy.
"""

import contextlib
import importlib
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.duplicates.columns import Array, arrow, as_array, as_column, ipc, parquet

LINE_BITS = 32  # of a place; the bits above are the shard's number
# Of one task that reads text. Few large files of keys: each holds every partition.
GROUP_SHARDS = 64
GROUP_BYTES = 2_000_000_000  # compressed
# Compressed text behind one partition: about 100 M keys of lines. It is queried in slices, since
# DuckDB may run out of memory over much more than its limit, though it spills.
PARTITION_BYTES = 2_000_000_000
SLICE_BYTES = 128_000_000  # of keys, at most
# A corpus below these sizes has groups and partitions all the same, for several processes to share.
GROUPS, PARTITIONS = 16, 8
LEAST_BYTES = 4_000_000  # of a group: less is not worth a task
BATCH_ROWS = 1 << 20  # held at a time by what makes keys, and of a query's answer
# Of one partition in one round of a file, on average. A reduce reads the footers of all files, 24
# bytes per round and partition: rounds of few rows would make that more than the rows.
PARTITION_ROWS = 1 << 12
ROUND_ROWS = 1 << 22  # at most: 100 MB of keys, once more while they are sorted
MEMORY_LIMIT = "400MB"  # of DuckDB in one process; beyond it, it spills


@dataclass(frozen=True, kw_only=True)
class Group:
    """Consecutive shards that one task reads."""

    number: int
    first: int  # number of its first shard
    paths: tuple[Path, ...]

    @property
    def numbered(self) -> Iterator[tuple[int, Path]]:
        """Yield the number and the path of each shard."""
        return enumerate(self.paths, start=self.first)


def shard_groups(paths: Sequence[Path], *, first: int = 0) -> list[Group]:
    """Return shards in groups of bounded number and size, in order, numbered from `first`."""
    cut: list[list[Path]] = []
    size = 0
    whole = sum(path.stat().st_size for path in paths)
    most = min(GROUP_BYTES, max(LEAST_BYTES, whole // GROUPS))
    for path in paths:
        if not cut or len(cut[-1]) == GROUP_SHARDS or size >= most:
            cut.append([])
            size = 0
        cut[-1].append(path)
        size += path.stat().st_size
    firsts = np.cumsum([first, *map(len, cut)]).tolist()
    return [
        Group(number=number, first=firsts[number], paths=tuple(found))
        for number, found in enumerate(cut)
    ]


def partition_count(paths: Sequence[Path]) -> int:
    """Return the number of partitions for the shards of a corpus, a power of two."""
    size = sum(path.stat().st_size for path in paths)
    least = min(PARTITIONS // 2, size // LEAST_BYTES)
    return 1 << max(least, size // PARTITION_BYTES).bit_length()


def place(shard: int, line: int) -> int:
    """Return the place of a document; lines count from 1."""
    return shard << LINE_BITS | line


def shard_numbers(places: Array) -> Array:
    """Return the shard's number of each place."""
    return (places >> np.uint64(LINE_BITS)).astype(np.int64)


def by_key(keys: Array, partitions: int) -> Array:
    """Return the partition of each 64-bit key: its leading bits."""
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    return (keys >> np.uint64(65 - partitions.bit_length())).astype(np.int64)


def by_group(places: Array, groups: Sequence[Group]) -> Array:
    """Return the number of the group that each place lies in."""
    firsts = np.array([group.first for group in groups])
    return np.searchsorted(firsts, shard_numbers(places), side="right") - 1


class PartitionedFile:
    """Write rows to one Arrow file in rounds, each with a record batch per partition.

    So batch n belongs to partition n modulo their number. A round is held until it is full.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], partitions: int) -> None:
        """Open `path`; `columns` names the type of each column in Arrow's words."""
        self.partitions = partitions
        self._round_rows = min(max(BATCH_ROWS, PARTITION_ROWS * partitions), ROUND_ROWS)
        self._held: list[tuple[Mapping[str, Array], Array]] = []
        self._held_rows = 0
        self._schema = arrow().schema(list(columns.items()))
        self._writer = ipc().new_file(path, self._schema)

    def __enter__(self) -> "PartitionedFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._held:
            self._write_round()
        self._writer.close()

    def write(self, rows: Mapping[str, Array], partition: Array) -> None:
        """Add rows, given the number of the partition of each."""
        if len(partition):
            self._held.append((rows, partition))
            self._held_rows += len(partition)
        if self._held_rows >= self._round_rows:
            self._write_round()

    def _write_round(self) -> None:
        partition = np.concatenate([numbers for _, numbers in self._held])
        # Of 16 bits, numpy's stable sort is its radix sort.
        narrow = np.uint16 if self.partitions <= 1 << 16 else np.int64
        order = np.argsort(partition.astype(narrow), kind="stable")
        bounds = np.searchsorted(partition[order], np.arange(self.partitions + 1)).tolist()
        columns = [
            as_column(
                np.concatenate([rows[field.name] for rows, _ in self._held])[order], field.type
            )
            for field in self._schema
        ]
        self._held, self._held_rows = [], 0
        batch = arrow().RecordBatch.from_arrays(columns, schema=self._schema)
        for begin, end in pairwise(bounds):
            self._writer.write_batch(batch.slice(begin, end - begin))


@contextlib.contextmanager
def table_file(
    path: Path, columns: Mapping[str, str]
) -> Generator[Callable[[Mapping[str, Any]], None]]:
    """Yield what adds rows to one Parquet file, a row group at a time."""
    schema = arrow().schema(list(columns.items()))
    # Digests and places do not compress, and nothing asks for their bounds, only for a source's.
    texts = [name for name, kind in columns.items() if kind == "string"]
    plain: Any = {"compression": "NONE", "use_dictionary": False, "write_statistics": texts}
    with parquet().ParquetWriter(path, schema, **plain) as writer:

        def add(rows: Mapping[str, Any]) -> None:
            columns = [as_column(rows[field.name], field.type) for field in schema]
            writer.write_table(arrow().table(columns, schema=schema))

        yield add


def read_partition(paths: Sequence[Path], number: int, partitions: int) -> Iterator[Any]:
    """Yield the Arrow record batches of one partition of all files."""
    return _read_partition(paths, number, partitions, None)


def read_column(paths: Sequence[Path], number: int, partitions: int, name: str) -> Array:
    """Return one column of one partition of all files; the others are not read."""
    schema = _schema(paths)
    options = ipc().IpcReadOptions(included_fields=[schema.get_field_index(name)])
    batches = _read_partition(paths, number, partitions, options)
    none = np.zeros(0, schema.field(name).type.to_pandas_dtype())
    return np.concatenate([none, *(as_array(batch.column(0)) for batch in batches)])


def _read_partition(
    paths: Sequence[Path], number: int, partitions: int, options: Any
) -> Iterator[Any]:
    for path in paths:
        with (
            arrow().OSFile(str(path)) as content,
            ipc().open_file(content, options=options) as file,
        ):
            for batch in range(number, file.num_record_batches, partitions):
                yield file.get_batch(batch)


def read_chunks(
    files: Sequence[Path], names: Sequence[str], number: int, partitions: int
) -> Iterator[tuple[Array, ...]]:
    """Yield columns of one partition of all files, `BATCH_ROWS` or a batch more at a time."""
    held: list[Any] = []
    rows = 0
    for batch in read_partition(files, number, partitions):
        held.append(batch)
        rows += len(batch)
        if rows >= BATCH_ROWS:
            yield columns_of(held, names)
            held, rows = [], 0
    if rows:
        yield columns_of(held, names)


def columns_of(batches: Sequence[Any], names: Sequence[str]) -> tuple[Array, ...]:
    """Return columns of record batches, each as one array."""
    columns = ([as_array(batch.column(name)) for batch in batches] for name in names)
    return tuple(map(np.concatenate, columns))


@contextlib.contextmanager
def query(beside: Path) -> Generator[Any]:
    """Yield a DuckDB connection of one thread and bounded memory, which spills beside a path."""
    duckdb: Any = importlib.import_module("duckdb")
    with tempfile.TemporaryDirectory(dir=beside.parent) as spill:
        settings = {"memory_limit": MEMORY_LIMIT, "temp_directory": spill, "threads": 1}
        with duckdb.connect(config={**settings, "preserve_insertion_order": False}) as connection:
            yield connection


def slices(
    files: Sequence[Path], number: int, partitions: int, scratch: Path
) -> Iterator[tuple[Sequence[Path], int, int]]:
    """Yield a partition in slices of bounded size, by further bits of `key`, for `give` to name.

    A partition of more than one slice is written again, to `scratch`, and removed in the end.
    """
    size = sum(path.stat().st_size for path in files) // partitions
    count = 1 << (size // SLICE_BYTES).bit_length()
    if count == 1:
        yield files, number, partitions
        return
    bits = np.uint64(partitions.bit_length() - 1)
    schema = _schema(files)
    with PartitionedFile(scratch, {each.name: str(each.type) for each in schema}, count) as out:
        for batch in read_partition(files, number, partitions):
            rows = {name: as_array(batch.column(name)) for name in schema.names}
            out.write(rows, by_key(rows["key"] << bits, count))
    for part in range(count):
        yield [scratch], part, count
    scratch.unlink()


def _schema(files: Sequence[Path]) -> Any:
    with arrow().OSFile(str(files[0])) as content, ipc().open_file(content) as file:
        return file.schema


def give(connection: Any, name: str, paths: Sequence[Path], number: int, partitions: int) -> None:
    """Name one partition of all files in a connection; a query can read it once."""
    batches = read_partition(paths, number, partitions)
    connection.register(name, arrow().RecordBatchReader.from_batches(_schema(paths), batches))


def quoted(path: Path) -> str:
    """Return a path as DuckDB writes a string, which it reads as a pattern."""
    literal = re.sub(r"[\[*?]", r"[\g<0>]", str(path))
    return "'" + literal.replace("'", "''") + "'"


def answers(connection: Any, query: str) -> Iterator[dict[str, Array]]:
    """Yield the rows of a query's result in batches, as arrays by column."""
    reader = connection.sql(query).to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        columns = zip(batch.schema.names, batch.columns, strict=True)
        yield {name: as_array(column) for name, column in columns}
