"""One partition of the index: what was collected of the documents whose digests begin alike."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.errors import InputError


def write_ids(places: Path, texts: Path, number: int, out: Path) -> int:
    """Join places and texts by id, and write the rows sorted by the digest of the id.

    Args:
        places: The folder of what `digest_places` wrote.
        texts: The folder of what `digest_texts` wrote.
        number: Of the partition.
        out: The file to write.

    Returns:
        The number of documents.

    Raises:
        InputError: two documents have one id, or a document has a place and no text, or no place.
    """
    from olmo_core.data.document_index import ROW_GROUP, ROW_SCHEMA, write_sorted

    arrow: Any = importlib.import_module("pyarrow")
    placed = _sorted(sorted(places.glob("*.arrow")), number)
    known = _sorted(sorted(texts.glob("*/ids.arrow")), number)
    require_unique(placed)
    if not placed["id"].equals(known["id"]):
        tokenised, read = (set(table["id"].to_pylist()) for table in (placed, known))
        missing = min(tokenised ^ read)
        place = "filtered" if missing in tokenised else "tokens"
        raise InputError(f"id {missing!r}: no such document in {place}; make both anew")
    columns = {name: placed[name] for name in placed.column_names}
    columns |= {name: known[name] for name in known.column_names}
    write_sorted(
        out,
        arrow.table([columns[name] for name in ROW_SCHEMA.names], schema=ROW_SCHEMA),
        by="key",
        row_group=ROW_GROUP,
    )
    return len(placed)


def write_keys(texts: Path, kind: str, number: int, out: Path) -> None:
    """Write one partition of digests, of `urls` or of `texts`, sorted."""
    from olmo_core.data.document_index import KEY_ROW_GROUP, write_sorted

    table = _read(sorted(texts.glob(f"*/{kind}.arrow")), number)
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


def _read(files: Sequence[Path], number: int) -> Any:
    arrow: Any = importlib.import_module("pyarrow")
    batches: list[Any] = []
    for path in files:
        with arrow.memory_map(str(path)) as content:
            batches.append(arrow.ipc.open_file(content).get_batch(number))
    return arrow.Table.from_batches(batches).combine_chunks()


def _sorted(files: Sequence[Path], number: int) -> Any:
    """Return the rows of a partition by key, then by id and place."""
    table = _read(files, number)
    keys = table["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():  # two ids of one digest, or one id twice
        names = [name for name in ("key", "id", "src", "loc") if name in table.column_names]
        return table.sort_by([(name, "ascending") for name in names])
    return table.take(order)
