"""Results that have a row per document: of those that must leave, the documents they score."""

from collections.abc import Collection, Iterator

from assets.takedown.affected import Affected, of_run
from assets.takedown.records import Record
from olmo_core.corpus.duplicates.columns import parquet, read_batches

_ROWS = 1 << 16


def scored(record: Record, ids: Collection[str]) -> Iterator[Affected]:
    """Yield a run whose results have a row per document, where any of it is of these."""
    path = record.run.path / "documents.parquet"
    if not path.is_file() or not ids:
        return
    if "id" not in parquet().read_schema(path).names:
        return  # of tasks, whose documents are no corpus's
    found = {
        name
        for batch in read_batches([path], _ROWS, columns=["id"])
        for name in batch.column("id").to_pylist()
        if name in ids
    }
    if found:
        said = "their scores, in documents.parquet"
        yield of_run("evaluations", record, "names", len(found), said)
