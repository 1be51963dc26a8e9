"""Results with a row per document, of which some must leave."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.takedown.records import Record
from assets.takedown.scored import scored
from olmo_core.run.folder import RunFolder


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """A run of an evaluation that has written nothing yet."""
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    folder = tmp_path / "demo" / "perplexity" / "0123456789ab"
    folder.mkdir(parents=True)
    return Record(
        run=RunFolder(folder),
        root=tmp_path,
        recipe="demo",
        asset="perplexity",
        partition=None,
        module="olmo_core.evals.perplexity",
        config={},
        content={},
        inputs={},
        steps={},
    )


def test_documents_that_have_scores_are_counted_once(record: Record) -> None:
    rows = {"id": ["a", "b", "a", "c"], "model": ["soup", "soup", "stage1", "soup"]}
    pq.write_table(pa.table(rows), record.run.path / "documents.parquet")
    [row] = scored(record, {"a", "c", "not there"})
    assert (row.group, row.holds, row.documents) == ("evaluations", "names", 2)
    assert row.place == str(record.run.path)
    assert [*scored(record, {"not there"})] == []
    assert [*scored(record, ())] == []


def test_a_run_without_rows_per_document_of_a_corpus_has_none(record: Record) -> None:
    assert [*scored(record, {"a"})] == []
    pq.write_table(pa.table({"task": ["copa"]}), record.run.path / "documents.parquet")
    assert [*scored(record, {"a"})] == []
