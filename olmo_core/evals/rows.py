"""The schema of evaluation rows, and their Parquet file: equal rows give equal bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.files import atomic_path
from olmo_core.run.folder import RunFolder

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("revision", pa.string()),
        ("step", pa.int64()),
        ("tokens", pa.int64()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),
        ("n", pa.int64()),  # documents
        ("task_version", pa.string()),
        ("num_fewshot", pa.int64()),
        ("limit", pa.int64()),
        ("split", pa.string()),
        ("data_sha256", pa.string()),
        ("model_sha256", pa.string()),
        ("library", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A model to evaluate, and what identifies it in its rows."""

    model: str
    revision: str | None
    step: int | None
    tokens: int | None
    sha256: str | None  # of its weights file
    path: Path | None = None  # Hugging Face folder

    def row(self, **figure: Any) -> dict[str, Any]:
        """Return one row of this model; the figure's fields are those of `SCHEMA`."""
        facts = asdict(self)
        facts["model_sha256"] = facts.pop("sha256")
        del facts["path"]
        return {**facts, **figure}


def exported_models(export: Path) -> list[EvaluatedModel]:
    """Return the models of a finished `export` run folder, in its order."""
    models = RunFolder(export).read_result()["report"]["data"]["models"]
    return [
        EvaluatedModel(
            model=model["model"],
            revision=model["revision"],
            step=model["step"],
            tokens=model["tokens"],
            sha256=model["sha256"],
            path=export / model["path"],
        )
        for model in models
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write evaluation rows atomically; absent fields become null, unknown ones are an error."""
    rows = list(rows)
    for row in rows:
        unknown = row.keys() - set(SCHEMA.names)
        if unknown:
            raise ValueError(f"{path.name}: no column {sorted(unknown)[0]!r}")
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    with atomic_path(path) as beside:
        pq.write_table(table, beside)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a file that `write_rows` wrote."""
    return pq.read_table(path, schema=SCHEMA).to_pylist()
