"""Asset `documents`: the index of all tokenised documents; one row per document.

After it runs, `documents.parquet` and `ids.parquet` answer which document a token belongs to, and
where a document's tokens lie (`olmo_core.data.document_index`).
"""

import importlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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

    arrow: Any = importlib.import_module("pyarrow")
    root = inputs["tokens"]
    files = sorted((root / "tokens").rglob("*.npy"))
    if not files:
        raise InputError(f"{root / 'tokens'}: no token file")
    tables: list[Any] = []
    lengths: dict[str, list[np.ndarray]] = defaultdict(list)  # by source
    with job.timed("read"):
        for count, path in enumerate(files, start=1):
            rows = read_rows(path)
            name = arrow.array([path.relative_to(root).as_posix()] * len(rows))
            tables.append(rows.append_column("file", name))
            lengths[path.parent.name].append(np.subtract(rows["end"], rows["start"]))
            job.progress(count, len(files), unit="files")
    index = arrow.concat_tables(tables).combine_chunks()
    check_ids(index)
    with job.timed("write"):
        write_index(job.folder, {name: index[name] for name in index.column_names})
    by_source = {name: np.concatenate(parts) for name, parts in sorted(lengths.items())}
    return Report(
        numbers={
            "documents": len(index),
            "tokens": sum(int(found.sum()) for found in by_source.values()),
            "files": len(files),
        },
        tables={"tokens_per_document": [_row(name, found) for name, found in by_source.items()]},
    )


def read_rows(path: Path) -> Any:
    """Return the rows of one token file, which must cover it without a gap, as an Arrow table.

    Raises:
        InputError: rows and token file do not belong together, or the rows cannot be read.
    """
    csv: Any = importlib.import_module("pyarrow.csv")
    file, rows = open_token_file(path, need_header=True), rows_path(path)
    types = {"start": "int64", "end": "int64", "id": "string", "src": "string", "loc": "int64"}
    try:
        table = csv.read_csv(
            rows,
            read_options=csv.ReadOptions(column_names=list(types)),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=types),
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{rows}: {error}; expected rows start,end,id,src,loc") from None
    starts, ends = table["start"].to_numpy(), table["end"].to_numpy()
    expected = np.append(0, ends[:-1])
    wrong = np.flatnonzero((starts != expected) | (ends <= starts))
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"{rows}:{row + 1}: tokens [{starts[row]}, {ends[row]}), expected to start at "
            f"{expected[row]}"
        )
    assert file.header is not None
    if (ends[-1], len(table)) != (file.tokens, file.header.documents):
        raise InputError(
            f"{rows}: {len(table)} rows over {ends[-1]} tokens; the token file has "
            f"{file.header.documents} documents and {file.tokens} tokens"
        )
    return table


def check_ids(index: Any) -> None:
    """Refuse an id that two documents have: the way back would be lost.

    Raises:
        InputError: with both places.
    """
    seen: dict[str, int] = {}
    for number, document in enumerate(index["id"].to_pylist()):
        other = seen.setdefault(document, number)
        if other != number:
            places = " and ".join(f"{index['src'][n]}:{index['loc'][n]}" for n in (other, number))
            raise InputError(f"id {document!r} is given twice, in {places}")


def _row(source: str, lengths: np.ndarray) -> dict[str, int | str]:
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
