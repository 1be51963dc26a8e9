"""What each model made of each document of each task, and its Parquet file. Free of torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.files import atomic_path

# One row per model, task, metric and document.
SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("document", pa.int64()),  # its number in the split that is scored, from 0 on
        ("value", pa.float64()),  # null: the metric is no mean of what documents have
        ("answer", pa.string()),  # that the metric takes for the model's; null: it takes none
        ("target", pa.string()),  # the right answer; null: there is no single one
        ("question", pa.string()),  # its beginning
        ("document_digest", pa.string()),  # of the row of the task's data
        ("prompt_digest", pa.string()),  # of all that the model was asked: prompts and choices
    ]
)


class TaskDocuments(TypedDict):
    """The documents of a task in the order in which they were asked, and what one model made of
    them; every list has an entry per document.
    """

    document: list[int]
    target: list[str | None]
    question: list[str]
    document_digest: list[str]
    prompt_digest: list[str]
    values: dict[str, list[float | None]]  # by metric
    answers: dict[str, list[str | None]]  # by metric


class TaskScores(TypedDict):
    """What one model gets on one task, as the cache keeps it: rows without their facts."""

    rows: list[dict[str, Any]]
    documents: TaskDocuments


def write_documents(path: Path, models: Iterable[tuple[str, Mapping[str, TaskDocuments]]]) -> None:
    """Write the documents of all models atomically, a row group per model; equal ones, equal bytes.

    Args:
        path: The file.
        models: Each with the documents of its tasks.
    """
    with (
        atomic_path(path) as beside,
        pq.ParquetWriter(beside, SCHEMA, compression="zstd") as writer,
    ):
        for model, tasks in models:
            tables = [
                _table(model, task, metric, documents)
                for task, documents in tasks.items()
                for metric in documents["values"]
            ]
            if tables:
                writer.write_table(pa.concat_tables(tables))


def _table(model: str, task: str, metric: str, documents: TaskDocuments) -> pa.Table:
    numbers = documents["document"]
    names = {"model": model, "task": task, "metric": metric}
    columns: dict[str, Any] = {
        **{name: [value] * len(numbers) for name, value in names.items()},
        "value": documents["values"][metric],
        "answer": documents["answers"][metric],
    }
    rest = {name: documents[name] for name in SCHEMA.names if name not in columns}
    return pa.Table.from_pydict({**columns, **rest}, schema=SCHEMA)
