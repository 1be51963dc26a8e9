"""Asset `documents`: the index of all tokenised documents; one row per document.

After it runs, `documents.parquet` and `ids.parquet` answer which document a token belongs to, and
where a document's tokens lie (`olmo_core.data.document_index`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.token_writer import read_rows
from olmo_core.data.format import open_token_file, rows_path
from olmo_core.errors import InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report


@dataclass(frozen=True, kw_only=True)
class DocumentsConfig:
    """Section `documents` of corpus.yaml: nothing to choose."""


def make(config: DocumentsConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Read the rows of every token file, check them against it, and write them sorted."""
    from olmo_core.data.document_index import write_index  # pyarrow: a plan needs no index

    root = inputs["tokens"]
    files = sorted((root / "tokens").rglob("*.npy"))
    if not files:
        raise InputError(f"{root / 'tokens'}: no token file")
    columns: dict[str, list[Any]] = {
        name: [] for name in ("file", "start", "end", "id", "src", "loc")
    }
    with job.timed("read"):
        for count, path in enumerate(files, start=1):
            add_file(columns, path, path.relative_to(root).as_posix())
            job.progress(count, len(files), unit="files")
    check_ids(columns)
    with job.timed("write"):
        write_index(job.folder, columns)
    lengths = np.asarray(columns["end"]) - np.asarray(columns["start"])
    sources = np.asarray([file.split("/")[1] for file in columns["file"]])
    return Report(
        numbers={"documents": len(lengths), "tokens": int(lengths.sum()), "files": len(files)},
        tables={
            "tokens_per_document": [
                _lengths(str(name), lengths[sources == name]) for name in np.unique(sources)
            ]
        },
    )


def add_file(columns: Mapping[str, list[Any]], path: Path, name: str) -> None:
    """Append the rows of one token file, which must cover it without a gap.

    Raises:
        InputError: rows and token file do not belong together.
    """
    file = open_token_file(path, need_header=True)
    position = count = 0
    for row in read_rows(rows_path(path)):
        if row.start != position or row.end <= row.start:
            raise InputError(
                f"{rows_path(path)}:{count + 1}: tokens [{row.start}, {row.end}), expected to "
                f"start at {position}"
            )
        position, count = row.end, count + 1
        for key, value in (
            ("file", name),
            ("start", row.start),
            ("end", row.end),
            ("id", row.id),
            ("src", row.src),
            ("loc", row.loc),
        ):
            columns[key].append(value)
    assert file.header is not None
    if (position, count) != (file.tokens, file.header.documents):
        raise InputError(
            f"{rows_path(path)}: {count} rows over {position} tokens; the token file has "
            f"{file.header.documents} documents and {file.tokens} tokens"
        )


def check_ids(columns: Mapping[str, Sequence[Any]]) -> None:
    """Refuse an id that two documents have: the way back would be lost.

    Raises:
        InputError: with both places.
    """
    seen: dict[str, int] = {}
    for number, document in enumerate(columns["id"]):
        other = seen.setdefault(document, number)
        if other != number:
            places = " and ".join(
                f"{columns['src'][n]}:{columns['loc'][n]}" for n in (other, number)
            )
            raise InputError(f"id {document!r} is given twice, in {places}")


def _lengths(source: str, lengths: "np.ndarray[Any, Any]") -> dict[str, int | str]:
    low, middle, high = (round(float(x)) for x in np.quantile(lengths, (0.1, 0.5, 0.9)))
    return {
        "source": source,
        "documents": len(lengths),
        "p10": low,
        "median": middle,
        "p90": high,
        "longest": int(lengths.max()),
    }


if __name__ == "__main__":
    run_job(DocumentsConfig, make)
