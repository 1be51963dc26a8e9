"""Read the files of a store: each is checked against its name, and read once.

What has been read is kept in one file below the root's `cache`, which may be deleted at any time,
so that a store of thousands of files is read as fast as one.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from olmo_core.errors import InputError
from olmo_core.evals.store.schema import ADDED_COLUMNS, FOLDER, SCHEMA
from olmo_core.evals.store.write import SEPARATOR, content_digest
from olmo_core.files import atomic_path

MOST_UNCACHED = 16  # files that are read one by one, before what has been read is written anew
STAMPS = b"stamps"  # in the cache's metadata: of which files it is, as they were

# Texts repeat: a hundred thousand rows with all their facts are 20 MB.
COMPACT = pa.schema(
    [
        (
            field.name,
            pa.dictionary(pa.int32(), pa.string()) if field.type == pa.string() else field.type,
        )
        for field in SCHEMA
    ]
)

ADDED = """
select * from read_parquet(
    $1, filename = true, file_row_number = true, union_by_name = true
)
where evaluation not in (from known)
qualify 1 = dense_rank() over (partition by evaluation order by filename)
order by filename, file_row_number
"""

Stamps = dict[str, list[int]]  # name below the store -> size, time of change (ns)


def read_store(root: Path, cache: Path) -> tuple[pa.Table, dict[Path, str]]:
    """Return the rows of a root's store, each evaluation once, and the files that are damaged.

    Args:
        root: Whose store it is.
        cache: Folder for what has been read.

    Returns:
        The rows; what is wrong with each damaged file.
    """
    store = root / FOLDER
    stamps: Stamps = {}
    for path in sorted(store.glob("*/*/*.parquet")):
        found = path.stat()
        stamps[str(path.relative_to(store))] = [found.st_size, found.st_mtime_ns]
    kept = cache / "results" / f"{hashlib.sha256(str(store).encode()).hexdigest()[:16]}.arrow"
    table, known = _cached(kept)
    if any(stamps.get(name) != stamp for name, stamp in known.items()):  # changed, or taken away
        table, known = COMPACT.empty_table(), {}
    new = [store / name for name in stamps if name not in known]
    damaged = {path: why for path in new if (why := damage(path)) is not None}
    whole = [path for path in new if path not in damaged]
    if whole:
        table = _added(table, whole)
    if len(whole) > MOST_UNCACHED:
        names = {str(path.relative_to(store)) for path in whole} | known.keys()
        with contextlib.suppress(OSError):  # a full disk, a root that is only read: read again
            _write_cache(kept, table, {name: stamps[name] for name in names})
    return table, damaged


def damage(path: Path) -> str | None:
    """Return what is wrong with a file of the store; None if it is what was written."""
    try:
        digest = content_digest(path.read_bytes())
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    if path.stem.rpartition(SEPARATOR)[2] == digest:
        return None
    return (
        f"{path}: damaged: its SHA-256 begins with {digest}, which is not what it is named for; "
        "copy it back from elsewhere, or delete it: it is written anew if its run folder is there"
    )


def _added(table: pa.Table, paths: Sequence[Path]) -> pa.Table:
    """Return a table with the rows of further files, but no evaluation twice.

    Two versions of the library may have written other bytes, and so two files, of equal rows.
    """
    with duckdb.connect() as connection:
        connection.execute("create table known (evaluation varchar)")
        known = table["evaluation"].unique().to_pylist()
        if known:
            connection.executemany("insert into known values (?)", [[name] for name in known])
        found = connection.sql(ADDED, params=[[str(path) for path in paths]]).to_arrow_table()
    missing = sorted({*COMPACT.names} - {*found.column_names})
    if unknown := [name for name in missing if name not in ADDED_COLUMNS]:
        raise InputError(f"{paths[0].parents[2]}: rows of another version, without {unknown[0]!r}")
    for name in missing:
        column = pa.nulls(len(found), SCHEMA.field(name).type)
        found = found.append_column(name, column)
    return pa.concat_tables([table, compacted(found)]).unify_dictionaries().combine_chunks()


def compacted(table: pa.Table) -> pa.Table:
    """Return a table with the columns of `COMPACT`, each different text once."""
    columns = [table[name] for name in COMPACT.names]
    texts = [pa.types.is_string(column.type) for column in columns]
    encoded = [
        column.dictionary_encode() if text else column
        for column, text in zip(columns, texts, strict=True)
    ]
    return pa.table(encoded, names=COMPACT.names).cast(COMPACT)


def _cached(path: Path) -> tuple[pa.Table, Stamps]:
    """Return what has been kept of the store, and of which files that is; of none if damaged."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        if table.schema.names != COMPACT.names:  # an earlier version has kept it
            return COMPACT.empty_table(), {}
        stamps: Mapping[str, Any] = json.loads((table.schema.metadata or {})[STAMPS])
    except (OSError, ValueError, KeyError):  # pa.ArrowInvalid is a ValueError
        return COMPACT.empty_table(), {}
    return table, dict(stamps)


def _write_cache(path: Path, table: pa.Table, stamps: Stamps) -> None:
    noted = table.replace_schema_metadata({STAMPS: json.dumps(stamps)})
    with atomic_path(path) as beside, pa.ipc.new_file(beside, noted.schema) as file:
        file.write_table(noted)
