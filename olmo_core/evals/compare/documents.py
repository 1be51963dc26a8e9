"""The documents of perplexity sets, as `documents.parquet` of an evaluation has them."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from olmo_core.errors import InputError

DOCUMENTS = "documents.parquet"
_FACTS = ("id", "source", "domain", "bytes")  # that two evaluations of one set agree on
_EQUAL = 1e-6  # relative: figures are sums of the same numbers, in another order perhaps


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What one model makes of the documents of a task, those without a byte left out."""

    facts: tuple[tuple[Any, ...], ...]  # of each document
    bytes: NDArray[np.float64]
    bits: NDArray[np.float64]


def read_scored(row: Mapping[str, Any]) -> Scored:
    """Return the documents behind a row of the store, of metric bits_per_byte.

    Raises:
        InputError: they are not there, or are not those that the figure is of.
    """
    path = Path(row["folder"]) / DOCUMENTS
    name, _, source = row["task"].partition("/")
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    if not changed:
        raise InputError(f"{path}: gone with its run folder")
    table = _read(path, changed, row["model"], name)
    rows = [each for each in table if not source or each["source"] == source]
    rows = [each for each in rows if each["bytes"]]
    sizes = np.array([each["bytes"] for each in rows], np.float64)
    bits = np.array([-each["log_likelihood"] / math.log(2) for each in rows], np.float64)
    if not rows or not math.isclose(bits.sum() / sizes.sum(), row["value"], rel_tol=_EQUAL):
        raise InputError(f"{path}: its documents do not make the figure {row['value']:.6g}")
    facts = tuple(tuple(each[name] for name in _FACTS) for each in rows)
    return Scored(facts=facts, bytes=sizes, bits=bits)


@functools.lru_cache(maxsize=16)
def _read(path: Path, changed: int, model: str, name: str) -> list[dict[str, Any]]:
    """Return a model's documents of a set; `changed` is the file's time."""
    filters = [("model", "=", model), ("set", "=", name)]
    columns = ["id", "source", "domain", "bytes", "log_likelihood"]
    return pq.read_table(path, columns=columns, filters=filters).to_pylist()
