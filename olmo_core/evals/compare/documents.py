"""The documents of perplexity sets, as `documents.parquet` of an evaluation has them."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from olmo_core.errors import InputError

DOCUMENTS = "documents.parquet"
_FACTS = ["id", "source", "domain", "bytes"]  # that two evaluations of one set agree on
_EQUAL = 1e-6  # relative: figures are sums of the same numbers, in another order perhaps


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What one model makes of the documents of a task, those without a byte left out."""

    facts: pa.Table  # of each document
    bytes: NDArray[np.float64]
    bits: NDArray[np.float64]


def read_scored(row: Mapping[str, Any]) -> Scored:
    """Return the documents behind a row of the store, of metric bits_per_byte.

    Raises:
        InputError: they are not there, or are not those that the figure is of.
    """
    path = Path(row["folder"]) / DOCUMENTS
    name, _, source = row["task"].partition("/")
    if not path.is_file():
        raise InputError(f"{path}: gone with its run folder")
    table = _read(path, path.stat().st_mtime_ns, row["model"], name)
    if source:
        table = table.filter(pc.field("source") == source)
    sizes = table["bytes"].to_numpy().astype(np.float64)
    bits = -table["log_likelihood"].to_numpy() / math.log(2)
    if not len(table) or not math.isclose(bits.sum() / sizes.sum(), row["value"], rel_tol=_EQUAL):
        raise InputError(f"{path}: its documents do not make the figure {row['value']:.6g}")
    return Scored(facts=table.select(_FACTS), bytes=sizes, bits=bits)


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int, model: str, name: str) -> pa.Table:
    """Return a model's documents of a set; `changed` is the file's time."""
    chosen = (pc.field("model") == model) & (pc.field("set") == name) & (pc.field("bytes") > 0)
    return pq.read_table(path, columns=[*_FACTS, "log_likelihood"], filters=chosen)
