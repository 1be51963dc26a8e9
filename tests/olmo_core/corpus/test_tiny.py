"""The recipe `tiny` from raw text to filtered: the same bytes on one process and on two."""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.load import load
from olmo_core.files import read_json, write_json

ASSETS = ("raw", "near_duplicates", "held_out", "tagged", "deduplicated", "filtered")


def test_results_do_not_depend_on_the_number_of_processes(tiny: Any, corpus: Any) -> None:
    _, two = tiny
    one = corpus.run_tiny(processes=1)
    assert {asset: result["digest"] for asset, result in one.items()} == {
        asset: result["digest"] for asset, result in two.items()
    }
    assert [r["report"] for r in one.values()] == [r["report"] for r in two.values()]


def test_every_document_is_accounted_for(tiny: Any) -> None:
    corpus, results = tiny
    raw = {d["id"]: d["text"] for d in corpus.documents("raw")}
    rest = {d["id"]: d["text"] for d in corpus.documents("held_out")}
    kept = {d["id"]: d["text"] for d in corpus.documents("filtered")}
    numbers = {asset: result["report"]["numbers"] for asset, result in results.items()}
    held = numbers["held_out"]
    assert len(raw) == held["scored"] + held["set_aside"] + len(rest)
    assert len(rest) == numbers["filtered"]["kept"] + numbers["filtered"]["dropped"]
    assert len(kept) == numbers["filtered"]["kept"]
    assert kept.items() <= rest.items() <= raw.items()
    dropped = results["filtered"]["report"]["tables"]["dropped by rule"]
    assert sum(row["dropped"] for row in dropped) == numbers["filtered"]["dropped"] > 0


def test_outputs_name_no_place(tiny: Any) -> None:
    corpus, results = tiny
    for asset, result in results.items():
        assert str(corpus.root) not in str(result["report"]), asset
    for asset in ("raw", "held_out", "filtered"):
        for document in corpus.documents(asset):
            assert str(corpus.root) not in str(document["metadata"])


def test_no_source_is_emptied_and_the_perplexity_set_is_gone(tiny: Any) -> None:
    corpus, results = tiny
    for row in results["filtered"]["report"]["tables"]["sources"]:
        assert row["kept_share"] >= row["min_kept_share"]
    scored = [
        row["text"]
        for path in (corpus.folder("held_out") / "paloma").rglob("*.gz")
        for row in corpus.read_lines(path)
    ]
    kept = {d["text"] for d in corpus.documents("filtered")}
    assert scored
    assert not kept & set(scored)


def small_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


@pytest.mark.parametrize("asset", ["raw", "held_out", "tagged", "deduplicated", "filtered"])
def test_a_full_disk_fails_the_job_and_leaves_no_result(
    tiny: Any, tmp_path: Path, asset: str
) -> None:
    corpus, _ = tiny
    inputs = {name: str(corpus.folder(name)) for name in ASSETS[: ASSETS.index(asset)]}
    folder = tmp_path / "root" / "tiny" / asset / "0123456789ab"
    folder.mkdir(parents=True)
    section = load(corpus.recipe)[asset]
    write_json(folder / "config.yaml", {"config": section, "inputs": inputs})  # JSON is YAML
    command = [sys.executable, "-m", corpus.module(asset), str(folder / "config.yaml")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=small_disk
    )
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr
    assert not (folder / "result.json").exists()
    assert read_json(folder / "status.json")["state"] == "failed"
