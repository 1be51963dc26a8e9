"""Sets of texts: named in a recipe, found on the disk, scored in one job, one after the other."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer

from olmo_core.config.load import build, parse
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.errors import ConfigError, InputError, Stopped
from olmo_core.evals.perplexity import perplexity, scoring, survey
from olmo_core.evals.perplexity.sets import find_sources, lacking, sets_identity
from olmo_core.evals.rows import exported_models, read_rows
from olmo_core.model.transformer import Transformer
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job

TEXTS = ["One plant, an oak.", "def mean(values):\n    return sum(values)\n", "naïve — “x”"]


def config(text: str) -> PerplexityConfig:
    return build(PerplexityConfig, parse(text, file="evals.yaml"), where="perplexity")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("[]", "evals.yaml:1: perplexity.sets: none given"),
        (
            "[{name: a, kind: paloma}, {name: a, kind: held_out}]",
            "evals.yaml:1: perplexity.sets: a is given twice",
        ),
        ("[{name: a, kind: palomas}]", "'palomas' is not one of 'held_out', 'paloma'"),
        (
            "\n- {name: a, kind: paloma, tokenizer: x}",
            "evals.yaml:2: perplexity.sets[0].tokenizer: no key of a set of kind paloma",
        ),
        (
            "[{name: a, kind: held_out, split: test}]",
            "perplexity.sets[0].split: no key of a set of kind held_out",
        ),
        ("[{name: a, kind: documents}]", "sources: missing in a; a set of kind documents has it"),
        (
            "[{name: a, kind: tokens, sources: {web: [/x.npy]}}]",
            "tokenizer: missing in a; a set of kind tokens has it",
        ),
        ("[{name: a, kind: documents, sources: {web: []}}]", "web: expected at least one path"),
        ("[{name: a/b, kind: paloma}]", "name 'a/b': expected letters, digits, . _ -"),
        ("[{name: a, kind: documents, sources: {w/b: [/x]}}]", "name 'w/b': expected letters"),
        ("[{name: a, kind: paloma, bytes_per_source: 0}]", "bytes_per_source is 0; expected 1 or"),
    ],
)
def test_sets_that_cannot_be_meant_are_refused(sets: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(f"sets: {sets}")
    assert message in str(refused.value)


def test_bytes_of_the_section_are_those_of_sets_that_say_none() -> None:
    made = config(
        "bytes_per_source: 9\nsets: [{name: a, kind: paloma}, "
        "{name: b, kind: paloma, bytes_per_source: 7}]"
    )
    assert [made.limit(each) for each in made.sets] == [9, 7]
    assert [each.kind for each in config("{}").sets] == ["held_out"]


def write_jsonl(path: Path, texts: list[str], **row: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": text, **row}) + "\n" for text in texts)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))
    return path


def write_paloma(folder: Path) -> Path:
    for split in ("val", "test"):
        for number, domain in enumerate(("py", "c")):
            row = {"subdomain": domain}
            write_jsonl(folder / "code" / split / f"{domain}.jsonl.gz", [TEXTS[number]], **row)
        write_jsonl(folder / "web" / split / "0.jsonl.gz", TEXTS[2:])
    return folder


def test_identity_is_the_content_and_not_the_place(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"documents": [TEXTS[0]], "tokens": [TEXTS[1]]}
    tokenizer = family.runs["tokenizer"] / "tokenizer.json"

    def identity(folder: Path, **others: Any) -> Any:
        write_paloma(folder / "paloma")
        monkeypatch.setenv("HERE", str(folder))
        sources = {name: [f"${{HERE}}/{name}*"] for name in files}
        for name, texts in files.items():
            write_jsonl(folder / f"{name}.jsonl.gz", texts)
        made_by = folder / "tokenizer.json"
        made_by.write_bytes(tokenizer.read_bytes())
        sets = [
            {"name": "held_out", "kind": "held_out"},
            {"name": "paloma", "kind": "paloma", "folder": "${HERE}/paloma", **others},
            {"name": "mine", "kind": "documents", "sources": sources},
            {"name": "ids", "kind": "tokens", "sources": sources, "tokenizer": str(made_by)},
        ]
        made = config(json.dumps({"sets": sets})).sets
        assert lacking(made) == []
        return sets_identity(made)

    first = identity(tmp_path / "a")
    assert "content" not in first["sets"][0]  # an input of the job
    assert str(tmp_path) not in json.dumps(first)
    assert "HERE" not in json.dumps(first)
    assert identity(tmp_path / "b") == first
    assert identity(tmp_path / "b", split="test") != first
    files["documents"].append("More.")
    other = identity(tmp_path / "b")
    assert [a == b for a, b in zip(first["sets"], other["sets"], strict=True)] == [
        True,
        True,
        False,
        False,
    ]


def test_what_is_not_there_is_said_and_refuses_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_PALOMA", raising=False)
    file = write_jsonl(tmp_path / "a.jsonl.gz", TEXTS)
    sets = config(
        json.dumps(
            {
                "sets": [
                    {"name": "held_out", "kind": "held_out"},
                    {"name": "paloma", "kind": "paloma"},
                    {"name": "mine", "kind": "documents", "sources": {"a": [str(file), "/no*"]}},
                    {"name": "relative", "kind": "documents", "sources": {"a": ["a.jsonl"]}},
                    {
                        "name": "ids",
                        "kind": "tokens",
                        "sources": {"a": [str(file)]},
                        "tokenizer": "/nowhere/tokenizer.json",
                    },
                ]
            }
        )
    ).sets
    said = lacking(sets)
    assert len(said) == 4
    assert said[0] == (
        "perplexity: sets: paloma: folder '${OLMO_PALOMA}' (not set: OLMO_PALOMA): expected "
        "<source>/val/*.jsonl.gz below an absolute path"
    )
    assert "mine: a: '/no*' (now /no*): expected a file" in said[1]
    assert "relative: a: 'a.jsonl'" in said[2]
    assert "ids: tokenizer '/nowhere/tokenizer.json'" in said[3]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenizer.json").touch()  # a job may run in another folder
    [said] = lacking([replace(sets[4], tokenizer="tokenizer.json")])
    assert said.endswith(
        "expected the tokenizer.json that made the token files, by an absolute path"
    )
    before = sets_identity(sets)
    monkeypatch.setenv("OLMO_PALOMA", str(write_paloma(tmp_path / "paloma")))
    assert sets_identity(sets) != before
    assert len(lacking(sets)) == 3
    with pytest.raises(ConfigError, match="held_out: the recipe holds nothing out"):
        find_sources(sets[0], None)


def evaluate(family: Any, sets: list[dict[str, Any]], *, mix: bool = True, **others: Any) -> Path:
    folder = family.new("perplexity")
    made = config(json.dumps({"sets": sets, **others}))
    with Job.open(folder) as job:
        if mix:
            names = ("export", "stage1_mix", "tokens", "held_out")
            inputs = {name: family.runs[name] for name in names}
            if all(each.kind != "held_out" for each in made.sets):
                del inputs["held_out"]
            job.finish(perplexity.make(made, inputs, job))
        else:
            models = exported_models(family.runs["export"])[:1]
            job.finish(perplexity.score_models(made, models, None, job))
    return folder


def write_sets(family: Any, tmp_path: Path) -> list[dict[str, Any]]:
    """Paloma's layout, and the same texts as JSON lines and as token files."""
    tokenizer = family.runs["tokenizer"] / "tokenizer.json"
    encoder = Tokenizer.from_file(str(tokenizer))
    ids = [encoder.encode(text).ids for text in TEXTS]
    for name, documents in (("a", ids[:2]), ("b", ids[2:])):
        stream = np.array([i for each in documents for i in [*each, 0]], "<u2")
        (tmp_path / f"{name}.npy").write_bytes(stream.tobytes())
    write_jsonl(tmp_path / "a.jsonl.gz", TEXTS[:2])
    write_jsonl(tmp_path / "b.jsonl.gz", TEXTS[2:])
    return [
        {
            "name": "paloma",
            "kind": "paloma",
            "folder": str(write_paloma(tmp_path / "paloma")),
            "split": "test",
        },
        {
            "name": "mine",
            "kind": "documents",
            "sources": {name: [f"{tmp_path}/{name}.jsonl.gz"] for name in "ab"},
        },
        {
            "name": "ids",
            "kind": "tokens",
            "sources": {name: [f"{tmp_path}/{name}.npy"] for name in "ab"},
            "tokenizer": str(tokenizer),
        },
    ]


def test_every_kind_of_set_in_one_job(family: Any, tmp_path: Path) -> None:
    sets = [{"name": "held_out", "kind": "held_out"}, *write_sets(family, tmp_path)]
    folder = evaluate(family, sets)
    rows = read_rows(folder / "rows.parquet")
    found = {(row["model"], row["task"], row["metric"]): row["value"] for row in rows}
    models = ("stage1", "stage2_ingredient1", "stage2_ingredient2", "soup", "unigram")
    assert {model for model, _, _ in found} == {*models}
    alike = [
        (found[model, task, metric], found[model, task.replace("mine", "ids"), metric])
        for model, task, metric in found
        if task.partition("/")[0] == "mine"
    ]
    # Token, word, character, byte, of all, the mean of sources, and of each: for five models.
    assert len(alike) == 5 * 6 * 4
    for texts, ids in alike:
        assert ids == pytest.approx(texts, rel=1e-6)
    documents = pq.read_table(folder / "documents.parquet").to_pylist()
    for model in models:
        values = {
            (row["set"], row["source"], row["domain"], row["id"]): row["log_likelihood"] / nats
            for row in documents
            if row["model"] == model
            for nats in [-math.log(2) * row["bytes"]]
        }
        code = [values["paloma", "code", each, f"{each}.jsonl.gz:1"] for each in ("py", "c")]
        assert found[model, "paloma/code", "bits_per_byte"] == pytest.approx(sum(code) / 2)
        web = values["paloma", "web", "web", "0.jsonl.gz:1"]
        assert found[model, "paloma", "macro_bits_per_byte"] == pytest.approx(
            (sum(code) / 2 + web) / 2
        )
    facts = {row["task"].partition("/")[0]: (row["split"], row["data_sha256"]) for row in rows}
    assert {name: split for name, (split, _) in facts.items()} == {
        "held_out": "val",
        "paloma": "test",
        "mine": None,
        "ids": None,
    }
    assert len({digest for _, digest in facts.values()}) == 4
    report = RunFolder(folder).read_result()["report"]
    assert report["numbers"]["documents"] == 5 + 3 + 3 + 3
    assert report["numbers"]["domains"] == 4 + 3 + 2 + 2
    notes = {row["set"]: row["note"] for row in report["tables"]["sets"]}
    assert notes.pop("paloma") == "3 domains in 2 sources; Paloma has 546 in 16 or 585 in 18"
    assert set(notes.values()) == {""}


def test_without_a_held_out_set(family: Any, tmp_path: Path) -> None:
    folder = evaluate(family, write_sets(family, tmp_path)[:1])
    assert {row["task"].partition("/")[0] for row in read_rows(folder / "rows.parquet")} == {
        "paloma"
    }


def test_the_report_keeps_sources_apart_from_means_and_names_empty_ones(
    family: Any, tmp_path: Path
) -> None:
    files = {"all": TEXTS[:1], "web": TEXTS[1:], "none": []}
    sources = {
        name: [str(write_jsonl(tmp_path / f"{name}.jsonl.gz", texts))]
        for name, texts in files.items()
    }
    sets = [{"name": "mine", "kind": "documents", "sources": sources}]
    folder = evaluate(family, sets, mix=False, max_window=21)
    tables = RunFolder(folder).read_result()["report"]["tables"]
    value = {
        (row["task"], row["metric"]): round(row["value"], 4)
        for row in read_rows(folder / "rows.parquet")
    }
    assert tables["bits_per_byte mine"] == [
        {
            "model": "stage1",
            "all documents": value["mine", "bits_per_byte"],
            "mean of sources": value["mine", "macro_bits_per_byte"],
            "all": value["mine/all", "bits_per_byte"],
            "web": value["mine/web", "bits_per_byte"],
        }
    ]
    assert tables["sets"][0]["note"] == "no documents in none"


def test_a_stopped_job_goes_on_with_the_next_source(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = write_sets(family, tmp_path)[:2]
    real, scored = scoring.score_documents, []

    def stopping(*arguments: Any, **others: Any) -> Any:
        if len(scored) == 3:
            raise Stopped
        scored.append(1)
        return real(*arguments, **others)

    monkeypatch.setattr(scoring, "score_documents", stopping)
    with pytest.raises(Stopped):
        evaluate(family, sets, mix=False, max_window=17)
    monkeypatch.setattr(scoring, "score_documents", real)
    folder = evaluate(family, sets, mix=False, max_window=17)
    numbers = RunFolder(folder).read_result()["report"]["numbers"]
    assert (numbers["scores_from_cache"], numbers["sources"]) == (3, 4)


def test_a_stop_is_heeded_within_a_source(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "FACTS_ROWS", 2)
    file = write_jsonl(tmp_path / "a.jsonl.gz", TEXTS * 9)
    sets = [{"name": "mine", "kind": "documents", "sources": {"a": [str(file)]}}]
    real, calls = Job.progress, []

    def progress(job: Job, *arguments: Any, **others: Any) -> None:
        calls.append(others["message"])
        job.stop_requests = len(calls) - 1  # asked to stop while the first documents are read
        real(job, *arguments, **others)

    monkeypatch.setattr(Job, "progress", progress)
    with pytest.raises(Stopped):
        evaluate(family, sets, mix=False)
    assert calls == ["reading mine/a"] * 2


def test_what_a_job_refuses(family: Any, tmp_path: Path) -> None:
    _, _, ids = write_sets(family, tmp_path)
    damaged = write_jsonl(tmp_path / "damaged.jsonl.gz", TEXTS)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    unread = {"name": "unread", "kind": "documents", "sources": {"a": [str(damaged)]}}
    other = tmp_path / "tokenizer.json"
    other.write_bytes((family.runs["tokenizer"] / "tokenizer.json").read_bytes() + b"\n")
    with pytest.raises(ConfigError, match=r"ids: its token files are of tokenizer .* but stage1"):
        # Before a set is read, which may take hours.
        evaluate(family, [unread, {**ids, "tokenizer": str(other)}], mix=False)
    empty = write_jsonl(tmp_path / "empty.jsonl.gz", ["", ""])
    sets = [{"name": "mine", "kind": "documents", "sources": {"a": [str(empty)]}}]
    with pytest.raises(InputError, match="mine: no text in its 2 documents; expected some"):
        evaluate(family, sets, mix=False)
    with pytest.raises(ConfigError, match=r"gone: a: '/gone\.jsonl' .* expected a file"):
        evaluate(
            family,
            [{"name": "gone", "kind": "documents", "sources": {"a": ["/gone.jsonl"]}}],
            mix=False,
        )


def test_a_model_that_has_diverged_has_no_figures(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = write_sets(family, tmp_path)[1:2]
    real = scoring.load_exported

    def diverged(folder: Path, device: torch.device) -> Transformer:
        model = real(folder, device)
        with torch.no_grad():
            model.lm_head.weight[5] = math.nan
        return model

    monkeypatch.setattr(scoring, "load_exported", diverged)
    with pytest.raises(InputError, match="stage1: log-likelihood nan of document 1 of a; expected"):
        evaluate(family, sets, mix=False, max_window=19)
    monkeypatch.setattr(scoring, "load_exported", real)
    folder = evaluate(family, sets, mix=False, max_window=19)
    assert RunFolder(folder).read_result()["report"]["numbers"]["scores_from_cache"] == 0
