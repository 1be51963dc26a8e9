"""The documents behind a figure, as `documents.parquet` of its evaluation has them."""

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
_EQUAL = 1e-6  # relative: figures are sums of the same numbers, in another order perhaps


class NotKept(InputError):
    """A figure is there, and no documents that make it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What one model makes of the documents of a perplexity set, those without a byte left out."""

    facts: pa.Table  # of each document, on which evaluations of the same set agree
    bytes: NDArray[np.float64]
    bits: NDArray[np.float64]


def read_scored(row: Mapping[str, Any]) -> Scored:
    """Return the documents behind a row of the store, of metric bits_per_byte.

    Raises:
        NotKept: they are not there, or are not those that the figure is of.
    """
    path = _path(row)
    name, _, source = row["task"].partition("/")
    facts = ("id", "source", "domain", "bytes")
    of_set = (("model", row["model"]), ("set", name))
    table = _read(path, path.stat().st_mtime_ns, (*facts, "log_likelihood"), of_set)
    table = table.filter(pc.field("bytes") > 0)
    if source:
        table = table.filter(pc.field("source") == source)
    sizes = table["bytes"].to_numpy().astype(np.float64)
    bits = -table["log_likelihood"].to_numpy() / math.log(2)
    _require_figure(row, bits.sum() / sizes.sum() if len(table) else math.nan)
    return Scored(facts=table.select(facts), bytes=sizes, bits=bits)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What one model gets for each document of a downstream task, by one metric."""

    facts: pa.Table  # of each document: a task asks all models the same
    values: NDArray[np.float64]
    answers: pa.ChunkedArray
    questions: pa.ChunkedArray  # their beginnings


def read_answers(row: Mapping[str, Any]) -> Answers:
    """Return the documents behind a row of the store, of a task's own metric.

    Raises:
        NotKept: they are not there, or are not those that the figure is of.
    """
    path = _path(row)
    facts = ("document", "document_digest", "prompt_digest", "target")
    columns = (*facts, "metric", "value", "answer", "question")
    of_task = (("model", row["model"]), ("task", row["task"]))
    table = _read(path, path.stat().st_mtime_ns, columns, of_task)
    table = table.filter((pc.field("metric") == row["metric"]) & pc.field("value").is_valid())
    if not len(table):
        raise NotKept(f"{row['metric']} is no mean over documents")
    values = table["value"].to_numpy()
    _require_figure(row, float(values.mean()))
    return Answers(
        facts=table.select(facts),
        values=values,
        answers=table["answer"],
        questions=table["question"],
    )


def _path(row: Mapping[str, Any]) -> Path:
    path = Path(row["folder"]) / DOCUMENTS
    if not path.is_file():
        # An evaluation of before wrote no such file for its tasks.
        made = (path.parent / "result.json").is_file()
        raise NotKept(f"{path}: {'never written' if made else 'gone with its run folder'}")
    return path


def _require_figure(row: Mapping[str, Any], found: float) -> None:
    if not math.isclose(found, row["value"], rel_tol=_EQUAL):
        path = Path(row["folder"]) / DOCUMENTS
        raise NotKept(f"{path}: its documents do not make the figure {row['value']:.6g}")


@functools.lru_cache(maxsize=4)
def _read(
    path: Path, changed: int, columns: tuple[str, ...], equal: tuple[tuple[str, str], ...]
) -> pa.Table:
    """Return the columns of the rows whose fields are `equal`; `changed` is the file's time."""
    try:
        return pq.read_table(path, columns=[*columns], filters=[(k, "==", v) for k, v in equal])
    except (OSError, pa.ArrowException) as error:
        raise NotKept(f"{path}: not to be read: {error}") from None
