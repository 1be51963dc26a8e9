"""Asset `raw`: a source a folder, the same bytes however it is run."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.load import build, load
from olmo_core.corpus.intake import raw
from olmo_core.corpus.intake.raw import RawConfig
from olmo_core.corpus.intake.readers import source_identity
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json

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
        "excluded": 0,
    }
    kept = corpus.read_lines(corpus.folder("raw") / "log" / "quarantine" / "mine.jsonl.gz")
    assert [(row["file"], row["line"]) for row in kept] == [("rows.jsonl", 2)]


def test_two_sources_of_one_name_are_refused() -> None:
    source = {"name": "topics", "reader": "pydoc_topics"}
    with pytest.raises(ConfigError, match="each name once"):
        build(RawConfig, {"sources": [source, source]}, where="raw")


def test_an_ended_job_goes_on_where_it_was(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in "abc":
        lines = [f'{{"id": "{name}{n % 30}", "text": "Text {name} {n}"}}\n' for n in range(40)]
        (texts / f"{name}.jsonl").write_text("".join(lines))
    source = SourceConfig(name="mine", reader="files", root=str(texts), min_document_bytes=1)
    config = RawConfig(sources=(source,), shard_bytes=100)
    whole = run(raw, tmp_path / "whole", config, {}, processes=2)
    link = os.link
    links: list[Path] = []

    def failing(written: Path, target: Path) -> None:
        links.append(target)
        if len(links) == 3:
            raise OSError("the disk went away")
        link(written, target)

    monkeypatch.setattr(os, "link", failing)
    with pytest.raises(OSError, match="went away"):
        run(raw, tmp_path / "ended", config, {})

    def again(*_: Any) -> None:
        raise AssertionError("a finished task is done again")

    monkeypatch.setattr(raw, "read_group", again)
    ended = run(raw, tmp_path / "ended", config, {})
    files = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*.jsonl.gz")}
    assert len(files) > 9
    assert files == {path.relative_to(ended): path.read_bytes() for path in ended.rglob("*.gz")}
    assert read_json(ended / "result.json")["report"]["tables"]["sources"][0]["repeated_ids"] == 30


@pytest.mark.parametrize("left", [1, 4], ids=["fewer files", "other files"])
def test_an_ended_job_whose_files_have_changed_takes_nothing_of_before(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()

    def write(names: str, ids: str) -> None:
        for name, own in zip(names, ids, strict=True):
            lines = [f'{{"id": "{own}{n}", "text": "Text {name} {n}"}}\n' for n in range(20)]
            (texts / f"{name}.jsonl").write_text("".join(lines))

    write("abcd", "xyyy")  # c and d are written anew, with other ids
    source = SourceConfig(name="mine", reader="files", root=str(texts), min_document_bytes=1)
    config = RawConfig(sources=(source,), shard_bytes=1000)

    def failing(*_: Any) -> None:
        raise OSError("the disk went away")

    monkeypatch.setattr(raw.Reading, "row", failing)  # all tasks are finished, no result is there
    with pytest.raises(OSError, match="went away"):
        run(raw, tmp_path / "ended", config, {})
    monkeypatch.undo()
    for path in sorted(texts.iterdir())[left:]:
        path.unlink()
    write("abcd"[:left], "xxyz"[:left])  # now it is b that has repeated ids
    ended = run(raw, tmp_path / "ended", config, {})
    whole = run(raw, tmp_path / "whole", config, {})
    files = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*.jsonl.gz")}
    assert files == {path.relative_to(ended): path.read_bytes() for path in ended.rglob("*.gz")}


def test_documents_stand_in_order_beyond_the_digits_of_the_first_names(
    tmp_path: Path, files: Any, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olmo_core.corpus.document.LEAST_DIGITS", 1)
    texts = [f"Text number {n}." for n in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    found = read(files(tmp_path), shard_bytes=1)
    assert len(found.shards) == 12
    assert [document.text for document in found.documents] == texts
