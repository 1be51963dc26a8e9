"""Asset `raw`: a source a folder, the same bytes however it is run."""

import time
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.load import build, load
from olmo_core.corpus.intake.raw import RawConfig
from olmo_core.corpus.intake.readers import source_identity
from olmo_core.errors import ConfigError, InputError

DEMO = Path(__file__).parents[4] / "pipelines" / "recipes" / "demo" / "corpus.yaml"


def test_rows_and_documents_agree(tiny: Any) -> None:
    corpus, results = tiny
    report = results["raw"]["report"]
    documents = corpus.documents("raw")
    assert report["numbers"]["documents"] == len(documents)
    for row in report["tables"]["sources"]:
        mine = [d for d in documents if d["source"] == row["source"]]
        assert (row["documents"], row["text_bytes"]) == (
            len(mine),
            sum(len(d["text"].encode()) for d in mine),
        )
        assert all(d["id"].startswith(f"{row['source']}/") for d in mine)
    assert len({d["id"] for d in documents}) == len(documents)
    assert 500_000 < report["numbers"]["text_bytes"] < 2_000_000


def test_the_identity_is_known_before_the_job_and_is_its_data(tiny: Any) -> None:
    _, results = tiny
    config = build(RawConfig, load(DEMO)["raw"], where="raw")
    start = time.perf_counter()
    identity = source_identity(config.sources)
    assert time.perf_counter() - start < 2.0  # 0.12 s on a quiet machine
    assert set(identity) == {"packages", "python"}
    assert identity["packages"]["numpy"]
    data = results["raw"]["report"]["data"]
    assert data["packages"].items() <= identity["packages"].items()


def test_quarantined_lines_are_kept_beside(corpus: Any, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"id": "1", "text": "fine"}\n{"id": "2", "text": \n')
    source = {"name": "mine", "reader": "files", "root": str(folder), "min_document_bytes": 1}
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not valid JSON"):
        corpus.run("raw", {"sources": [source]})
    result = corpus.run("raw", {"sources": [source | {"bad_documents": "quarantine"}]})
    assert result["report"]["numbers"] == {
        "sources": 1,
        "documents": 1,
        "text_bytes": 4,
        "missing_ids": 0,
        "repeated_ids": 0,
        "quarantined": 1,
    }
    kept = corpus.read_lines(corpus.folder("raw") / "log" / "quarantine" / "mine.jsonl.gz")
    assert [(row["file"], row["line"]) for row in kept] == [("rows.jsonl", 2)]


def test_two_sources_of_one_name_are_refused() -> None:
    source = {"name": "topics", "reader": "pydoc_topics"}
    with pytest.raises(ConfigError, match="each name once"):
        build(RawConfig, {"sources": [source, source]}, where="raw")
