"""One partition of the index: what was collected of the documents whose digests begin alike."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.errors import InputError

WRITTEN = ("documents", "repeated_ids")  # what `write_ids` counts


def write_ids(
    places: Path, texts: Path, number: int, without_text: frozenset[str], out: Path
) -> dict[str, int]:
    """Join places and texts by id, and write the rows sorted by the digest of the id.

    Args:
        places: The folder of what `digest_places` wrote.
        texts: The folder of what `digest_texts` wrote.
        number: Of the partition.
        without_text: Sources of published token files: nothing but places is known of their
            documents, and several may have one id.
        out: The file to write.

    Returns:
        The number of documents, and of those without text whose id another has too.

    Raises:
        InputError: two documents have one id, or a document has a place and no text, or no place.
    """
    from olmo_core.data.document_index import KNOWN_SCHEMA, PLACED_SCHEMA, ROW_GROUP, write_sorted

    arrow: Any = importlib.import_module("pyarrow")
    everything = _sorted(sorted(places.glob("*.arrow")), number, PLACED_SCHEMA)
    placed, others = _parted(everything, without_text)
    known = _sorted(sorted(texts.glob("*/ids.arrow")), number, KNOWN_SCHEMA)
    require_unique(placed)
    if not placed["id"].equals(known["id"]):
        tokenised, read = (set(table["id"].to_pylist()) for table in (placed, known))
        missing = min(tokenised ^ read)
        place = "filtered" if missing in tokenised else "tokens"
        raise InputError(f"id {missing!r}: no such document in {place}; make both anew")
    columns = {name: placed[name] for name in placed.column_names}
    columns |= {name: known[name] for name in known.column_names}
    rows = _of_schema(columns)
    if len(others):
        unknown = arrow.nulls(len(others))
        found = {name: others[name] for name in others.column_names}
        found |= {name: unknown for name in known.column_names if name not in found}
        rows = arrow.concat_tables([rows, _of_schema(found)]).sort_by(
            [(name, "ascending") for name in ("key", "id", "file", "start")]
        )
    write_sorted(out, rows, by="key", row_group=ROW_GROUP)
    same = others["key"].to_numpy()[1:] == others["key"].to_numpy()[:-1]
    ids = others["id"]
    again = sum(ids[row] == ids[row + 1] for row in np.flatnonzero(same).tolist())
    return {"documents": len(everything), "repeated_ids": again}


def write_dropped(dropped: Path, number: int, out: Path) -> None:
    """Write one partition of what `digest_dropped` wrote, sorted by the digest of the id."""
    from olmo_core.data.document_index import DROPPED_SCHEMA, ROW_GROUP, write_sorted

    rows = _sorted(sorted(dropped.glob("*/ids.arrow")), number, DROPPED_SCHEMA)
    write_sorted(out, rows, by="key", row_group=ROW_GROUP)


def write_keys(folders: Sequence[Path], kind: str, number: int, out: Path) -> None:
    """Write one partition of digests, of `urls` or of `texts`, sorted.

    Args:
        folders: Of what `digest_texts` and `digest_dropped` wrote.
        kind: Which.
        number: Of the partition.
        out: The file to write.
    """
    from olmo_core.data.document_index import KEY_ROW_GROUP, KEY_SCHEMA, write_sorted

    files = [path for each in folders for path in sorted(each.glob(f"*/{kind}.arrow"))]
    table = _read(files, number, KEY_SCHEMA)
    order = np.lexsort([table[name].to_numpy() for name in ("id_key", "key")])
    write_sorted(out, table.take(order), by="key", row_group=KEY_ROW_GROUP)


def require_unique(rows: Any) -> None:
    """Refuse an id that two documents have: the way back would be lost.

    Args:
        rows: Sorted by id where their digests are equal.

    Raises:
        InputError: with both places.
    """
    keys = rows["key"].to_numpy()
    for row in np.flatnonzero(keys[1:] == keys[:-1]).tolist():
        one, other = rows.slice(row, 2).to_pylist()
        if one["id"] == other["id"]:
            places = " and ".join(f"{found['src']}:{found['loc']}" for found in (one, other))
            raise InputError(f"id {one['id']!r} is given twice, in {places}")


def _parted(rows: Any, without_text: frozenset[str]) -> tuple[Any, Any]:
    """Return the rows of sources that have text, and those of the others."""
    if not without_text:
        return rows, rows.slice(0, 0)
    arrow: Any = importlib.import_module("pyarrow")
    compute: Any = importlib.import_module("pyarrow.compute")
    published = compute.is_in(rows["source"], value_set=arrow.array(sorted(without_text)))
    return rows.filter(compute.invert(published)), rows.filter(published)


def _of_schema(columns: Mapping[str, Any]) -> Any:
    from olmo_core.data.document_index import ROW_SCHEMA

    arrow: Any = importlib.import_module("pyarrow")
    return arrow.table(
        [columns[name].cast(ROW_SCHEMA.field(name).type) for name in ROW_SCHEMA.names],
        schema=ROW_SCHEMA,
    )


def _read(files: Sequence[Path], number: int, schema: Any) -> Any:
    """Return a partition of all files; of none, a table of this schema without rows."""
    arrow: Any = importlib.import_module("pyarrow")
    batches: list[Any] = []
    for path in files:
        with arrow.memory_map(str(path)) as content:
            batches.append(arrow.ipc.open_file(content).get_batch(number))
    if not batches:
        return schema.empty_table()
    return arrow.Table.from_batches(batches).combine_chunks()


def _sorted(files: Sequence[Path], number: int, schema: Any) -> Any:
    """Return the rows of a partition by key, then by id and place."""
    table = _read(files, number, schema)
    keys = table["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():  # two ids of one digest, or one id twice
        names = [name for name in ("key", "id", "src", "loc") if name in table.column_names]
        return table.sort_by([(name, "ascending") for name in names])
    return table.take(order)
