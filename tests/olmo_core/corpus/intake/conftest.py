"""Sources that are read by the asset `raw` in a folder of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.document import Document, read_documents
from olmo_core.corpus.intake import raw
from olmo_core.corpus.intake.raw import RawConfig
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.corpus.rows import read_rows
from olmo_core.files import read_json


@dataclass(frozen=True, kw_only=True)
class Read:
    documents: list[Document]  # in the order of their files
    shards: list[list[str]]  # ids
    row: dict[str, Any]  # of the table
    quarantined: list[dict[str, Any]]

    @property
    def texts(self) -> dict[str, str]:
        return {document.id: document.text for document in self.documents}


@pytest.fixture
def read(tmp_path_factory: pytest.TempPathFactory, run: Any) -> Callable[..., Read]:
    """A function that reads one source."""

    def read(source: SourceConfig, *, shard_bytes: int = 1_000_000, processes: int = 1) -> Read:
        config = RawConfig(sources=(source,), shard_bytes=shard_bytes)
        folder: Path = run(raw, tmp_path_factory.mktemp("raw"), config, {}, processes)
        files = sorted((folder / "documents" / source.name).iterdir())
        shards = [list(read_documents(path)) for path in files]
        quarantine = folder / "log" / "quarantine" / f"{source.name}.jsonl.gz"
        return Read(
            documents=[document for shard in shards for document in shard],
            shards=[[document.id for document in shard] for shard in shards],
            row=read_json(folder / "result.json")["report"]["tables"]["sources"][0],
            quarantined=list(read_rows(quarantine)) if quarantine.exists() else [],
        )

    return read


@pytest.fixture
def files() -> Callable[..., SourceConfig]:
    """A function that returns a source of a user's files."""

    def files(root: Path, **changes: Any) -> SourceConfig:
        settings = {"name": "mine", "reader": "files", "root": str(root), "min_document_bytes": 1}
        return SourceConfig(**(settings | changes))

    return files
