"""Corpora of a root, made by the jobs themselves from texts of a test."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.reuse import location
from olmo_core.config.load import to_dict
from olmo_core.corpus.document import (
    DROPPED_FOLDER,
    Document,
    read_documents,
    shards,
    text_facts,
    write_documents,
)
from olmo_core.corpus.duplicates import held_out, near_duplicates
from olmo_core.corpus.index import documents
from olmo_core.corpus.intake import raw
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.corpus.rows import write_rows
from olmo_core.corpus.tokens import tokenizer, tokens
from olmo_core.files import read_json, write_json
from olmo_core.run.folder import SCHEMA_VERSION
from olmo_core.run.job import Job, Report

Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # documents as a person has them, by source


class Filtering:
    """In place of the job `filtered`, which needs dolma: drops the documents of these ids."""

    __name__ = "olmo_core.corpus.filters.filtered"

    def __init__(self, dropped: Collection[str], replaced: Mapping[str, str]) -> None:
        self.dropped, self.replaced = dropped, replaced

    def make(self, _: Any, inputs: Mapping[str, Path], job: Job) -> Report:
        """Write what stays as documents, and a row for each that goes."""
        gone: list[dict[str, Any]] = []
        count = 0
        for path in shards(inputs["held_out"] / "documents"):
            src = path.relative_to(inputs["held_out"]).as_posix()
            kept: list[Document] = []
            for line, each in enumerate(read_documents(path), start=1):
                facts = text_facts(each.text, each.metadata)
                if each.id in self.dropped:
                    gone.append({"id": each.id, "reason": "rule", "src": src, "loc": line, **facts})
                else:
                    kept.append(replace(each, text=self.replaced.get(each.id, each.text)))
            if kept:
                write_documents(job.folder / src, kept)
            count += len(kept)
        write_rows(job.folder / DROPPED_FOLDER / "a" / "part-00000.jsonl.gz", gone)
        return Report(numbers={"kept": count, "dropped": len(gone)})


class Root:
    """A root of results, to which corpora are added."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "root"
        self.texts = folder / "texts"

    def job(self, name: str, module: Any, config: Any, **inputs: Path) -> Path:
        """Run a job in the folder `name`, as recipe/asset/version."""
        folder = self.path / name
        recipe, asset, *_ = name.split("/")
        read = {
            key: {
                "fingerprint": "",
                "digest": read_json(path / "result.json")["digest"],
                **location(path, self.path),
            }
            for key, path in inputs.items()
        }
        launch = {
            "schema_version": SCHEMA_VERSION,
            "recipe": recipe,
            "asset": asset,
            "partition": None,
            "fingerprint": name,
            "parts": {
                "module": module.__name__,
                "config": config if isinstance(config, dict) else to_dict(config),
            },
            "inputs": read,
        }
        folder.mkdir(parents=True)
        write_json(folder / "launch.json", launch)
        with Job.open(folder) as job:
            job.finish(module.make(config, inputs, job))
        return folder

    def write_texts(self, rows: Rows) -> None:
        """Write the files of sources, one each."""
        for name, some in rows.items():
            (self.texts / name).mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{json.dumps(row)}\n" for row in some)
            (self.texts / name / "all.jsonl").write_text(lines)

    def sources(self, rows: Rows, **changes: Any) -> list[SourceConfig]:
        """Return the configuration of sources."""
        return [
            SourceConfig(
                **{
                    "name": name,
                    "reader": "files",
                    "root": str(self.texts / name),
                    "metadata_keys": ("url",),
                    "min_document_bytes": 1,
                    **changes,
                }
            )
            for name in rows
        ]

    def corpus(
        self, recipe: str, rows: Rows, earlier: Sequence[Path] = (), **changes: Any
    ) -> tuple[Path, Path]:
        """Make `raw` and `near_duplicates` of a recipe from documents; return their folders."""
        self.write_texts(rows)
        version = len([*self.path.glob(f"{recipe}/raw/*")])
        config = raw.RawConfig(sources=tuple(self.sources(rows, **changes)))
        made = self.job(f"{recipe}/raw/{version}", raw, config)
        near = near_duplicates.NearDuplicateConfig(earlier=tuple(map(str, earlier)))
        return made, self.job(
            f"{recipe}/near_duplicates/{version}", near_duplicates, near, raw=made
        )

    def index(
        self,
        recipe: str,
        rows: Rows,
        dropped: Collection[str] = (),
        replaced: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> dict[str, Path]:
        """Make a corpus up to its index; stand-ins for rules drop documents, or replace texts."""
        first, near = self.corpus(recipe, rows, **changes)
        version = first.name
        runs = {"raw": first, "near_duplicates": near}

        def job(name: str, module: Any, config: Any, *inputs: str) -> None:
            read = {each: runs[each] for each in inputs}
            runs[name] = self.job(f"{recipe}/{name}/{version}", module, config, **read)

        nothing = held_out.HeldOutConfig(share=0, min_documents=1, max_domain_bytes=1)
        job("held_out", held_out, nothing, "raw", "near_duplicates")
        masks = replaced or {}
        job("filtered", Filtering(dropped, masks), {"replacements": masks}, "held_out")
        job("tokenizer", tokenizer, tokenizer.TokenizerConfig(vocab_size=300), "filtered")
        job("tokens", tokens, tokens.TokensConfig(), "filtered", "tokenizer")
        inputs = ("tokens", "filtered", "held_out", "raw")
        job("documents", documents, documents.DocumentsConfig(), *inputs)
        return runs


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """A root without a result."""
    root = Root(tmp_path)
    root.path.mkdir()
    monkeypatch.setenv("OLMO_ROOT", str(root.path))
    return root


@pytest.fixture
def text() -> Callable[..., str]:
    """A function that returns a text of its own for each number, with some words changed."""

    def text(number: int, changed: int = 0, words: int = 60) -> str:
        found = [f"t{number}w{n * 7919 % 1000}" for n in range(words)]
        for n in range(changed):
            found[20 * n + 5] = f"other{n}"
        return " ".join(found)

    return text
