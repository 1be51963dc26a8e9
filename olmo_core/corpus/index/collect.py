"""What is known of documents: their places from token files, the rest from document files."""

import importlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import read_documents, text_facts
from olmo_core.corpus.rows import read_rows
from olmo_core.corpus.tokens.document_ends import require_joined
from olmo_core.data.format import open_token_file, rows_path
from olmo_core.errors import InputError


def place_documents(path: Path, out: Path) -> dict[str, Any]:
    """Write the places of a token file's documents.

    Returns:
        The number of documents by their tokens, to three digits; the number of tokens, and that of
        the longest document.
    """
    from olmo_core.data.document_index import ROW_GROUP, write_sorted

    rows = token_rows(path)
    write_sorted(out, rows, by="start", row_group=ROW_GROUP)
    lengths = np.subtract(rows["end"], rows["start"])
    unit = 10 ** np.maximum(0, np.floor(np.log10(lengths)).astype(int) - 2)
    rounded: list[int] = (lengths // unit * unit).tolist()
    return {
        "documents": Counter(rounded),
        "tokens": int(lengths.sum()),
        "longest": int(lengths.max()),
    }


def token_rows(path: Path) -> Any:
    """Return the rows of one token file, which must cover it without a gap, as an Arrow table.

    Raises:
        InputError: rows and token file do not belong together, or the rows cannot be read.
    """
    csv: Any = importlib.import_module("pyarrow.csv")
    from olmo_core.data.document_index import PLACE_SCHEMA

    file, rows = open_token_file(path, need_header=True), rows_path(path)
    types = {field.name: field.type for field in PLACE_SCHEMA}
    try:
        table = csv.read_csv(
            rows,
            read_options=csv.ReadOptions(column_names=list(types)),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=types),
        ).combine_chunks()
    except (OSError, ValueError) as error:
        raise InputError(f"{rows}: {error}; expected rows start,end,id,src,loc") from None
    starts, ends = table["start"].to_numpy(), table["end"].to_numpy()
    require_joined(rows, starts, ends)
    assert file.header is not None
    if (ends[-1], len(table)) != (file.tokens, file.header.documents):
        raise InputError(
            f"{rows}: {len(table)} rows over {ends[-1]} tokens; the token file has "
            f"{file.header.documents} documents and {file.tokens} tokens"
        )
    return _named(table, f"{path.parent.name}/{path.stem}")


def _named(rows: Any, file: str) -> Any:
    """Give documents without an id, which published rows may hold, that of their file and row."""
    compute: Any = importlib.import_module("pyarrow.compute")
    without = compute.equal(rows["id"], "")
    missing = np.flatnonzero(without.to_numpy())
    if not len(missing):
        return rows
    names = [f"{file}:{row + 1}" for row in missing.tolist()]
    named = compute.replace_with_mask(rows["id"].combine_chunks(), without.combine_chunks(), names)
    return rows.set_column(rows.schema.get_field_index("id"), "id", named)


def digest_places(places: Path, file: str, partitions: int, out: Path) -> None:
    """Write the places of a token file by the partition of each id's digest.

    Args:
        places: What `place_documents` wrote.
        file: The token file, relative to the tokens run folder.
        partitions: How many there are.
        out: The file to write (`write_partitioned`).
    """
    from olmo_core.data.document_index import key_of

    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(places)
    keys = np.array([key_of(name) for name in table["id"].to_pylist()], dtype=np.uint64)
    same = {"key": keys}
    for name, value in (("source", file.split("/")[1]), ("file", file)):
        same[name] = arrow.repeat(value, len(table))
    columns = {name: table[name] for name in table.column_names}
    write_partitioned(out, arrow.table(same | columns), partitions)


def digest_texts(shard: Path, partitions: int, out: Path) -> None:
    """Write what is known of the texts of a document file, by the digests of ids, URLs and texts.

    Args:
        shard: The document file.
        partitions: How many there are.
        out: The folder to write: a file for each kind of digest (`write_partitioned`).
    """
    from olmo_core.data import document_index as index

    rows = [
        {"id": each.id, **text_facts(each.text, each.metadata)} for each in read_documents(shard)
    ]
    write_digests(rows, index.KNOWN_SCHEMA, partitions, out)


def digest_dropped(path: Path, asset: str, partitions: int, out: Path) -> dict[str, int]:
    """Write what is known of the documents that an asset left out, as `digest_texts` does.

    Args:
        path: The file that tells of them: `EXCLUDED_FOLDER` of `raw` holds documents, `held_out`
            and `DROPPED_FOLDER` of `filtered` rows.
        asset: Which.
        partitions: How many there are.
        out: The folder to write.

    Returns:
        The number of documents by reason.
    """
    from olmo_core.data.document_index import DROPPED_SCHEMA

    if asset == "raw":
        file = path.relative_to(path.parents[2]).as_posix()
        found: Iterable[dict[str, Any]] = (
            {
                **{"id": each.id, "reason": "excluded", "src": file, "loc": line},
                **text_facts(each.text, each.metadata),
            }
            for line, each in enumerate(read_documents(path), start=1)
        )
    elif asset == "held_out":
        found = ({**row, "reason": row["role"]} for row in read_rows(path))
    else:
        found = read_rows(path)
    rows = [{**row, "source": row["id"].partition("/")[0], "asset": asset} for row in found]
    write_digests(rows, DROPPED_SCHEMA, partitions, out)
    return Counter(row["reason"] for row in rows)


def write_digests(
    rows: Sequence[Mapping[str, Any]], schema: Any, partitions: int, out: Path
) -> None:
    """Write rows by the digests of their ids, and the digests of their URLs and texts.

    Args:
        rows: Each with an `id`; others of the schema may be missing. SHA-1 in hexadecimal.
        schema: Of the rows, with their `key`.
        partitions: How many there are.
        out: The folder to write: a file for each kind of digest (`write_partitioned`).
    """
    from olmo_core.data import document_index as index

    arrow: Any = importlib.import_module("pyarrow")
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    keys = columns["key"] = [index.key_of(row["id"]) for row in rows]
    columns["sha1"] = [bytes.fromhex(each) if each else None for each in columns["sha1"]]
    out.mkdir()
    write_partitioned(out / "ids.arrow", arrow.table(columns, schema), partitions)
    urls = [(index.key_of(url), key) for url, key in zip(columns["url"], keys, strict=True) if url]
    sha1s = [
        (index.key_of_sha1(sha1), key)
        for sha1, key in zip(columns["sha1"], keys, strict=True)
        if sha1
    ]
    for kind, pairs in (("urls", urls), ("texts", sha1s)):
        halves = {name: [pair[n] for pair in pairs] for n, name in enumerate(("key", "id_key"))}
        table = arrow.table(halves, index.KEY_SCHEMA)
        write_partitioned(out / f"{kind}.arrow", table, partitions)


def write_partitioned(path: Path, table: Any, partitions: int) -> None:
    """Write a table as an Arrow file with a record batch per partition of its column `key`.

    Its footer has 24 bytes for each, so that a partition is read from thousands of files.
    """
    from olmo_core.data.document_index import partition_of

    arrow: Any = importlib.import_module("pyarrow")
    partition = partition_of(table["key"].to_numpy(), partitions)
    order = np.argsort(partition, kind="stable")
    bounds: Sequence[int] = np.searchsorted(partition[order], np.arange(partitions + 1)).tolist()
    columns = [column.combine_chunks() for column in table.take(order).columns]
    rows = arrow.RecordBatch.from_arrays(columns, schema=table.schema)
    options = arrow.ipc.IpcWriteOptions(compression="zstd")
    with arrow.ipc.new_file(path, table.schema, options=options) as file:
        for begin, end in pairwise(bounds):
            file.write_batch(rows.slice(begin, end - begin))
