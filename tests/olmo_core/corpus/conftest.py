"""A small filtered corpus of the standard library, and jobs of the corpus run on small texts."""

import gzip
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.load import build, load
from olmo_core.corpus.document import Document, write_shards
from olmo_core.corpus.duplicates.components import CLUSTERS
from olmo_core.corpus.duplicates.keys import table_file
from olmo_core.corpus.index import documents
from olmo_core.corpus.tokens import tokenizer, tokens
from olmo_core.files import read_json, write_json
from olmo_core.run.job import Job

MODULES = ("argparse", "json.decoder", "dataclasses", "textwrap", "inspect", "typing", "ast")

NOTHING_DROPPED = {"report": {"numbers": {"dropped": 0}}}  # of a result of `filtered`

# What byte-level tokenizers stumble over.
ODD = [
    "a",
    " \t\n  x\r\n\r\n  ",
    "\n" * 700 + "end   ",
    "<|endoftext|> within <|padding|> a text",
    "naïve café, Ærøskøbing, Straße, 北京大学, こんにちは, ١٢٣, ½ ² Ⅷ",
    "🙂👩‍👩‍👧 e\u0301 \u200b\u00a0\u3000\u0085\u2028x \ufeff \x00\x1c\x1d end",
    "we've I'LL don't 's 'S it's'd",
    "abc123def456  789 -- == !!! ...",
    "acgt" * 900,
    "aaaa" * 50 + " " * 33 + "bbb",
]


@pytest.fixture(scope="session")
def run() -> Callable[..., Path]:
    """A function that runs a job in a folder as its frame would, and returns the folder."""

    def run(
        module: Any, folder: Path, config: Any, inputs: Mapping[str, Path], processes: int = 1
    ) -> Path:
        with Job.open(folder) as job:
            job.processes = processes
            job.finish(module.make(config, inputs, job))
        return folder

    return run


@pytest.fixture(scope="session")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources: modules of the standard library, in several files, and odd texts, in one."""
    folder = tmp_path_factory.mktemp("filtered")
    code = []
    for name in MODULES:
        __import__(name)
        text = Path(str(sys.modules[name].__file__)).read_text(encoding="utf-8")
        for number, part in enumerate(text.split("\n\n\n")):
            if part.strip():
                code.append(Document(id=f"code/{name}#{number}", text=part, source="code"))
    write_shards(folder / "documents" / "code", code, shard_bytes=100_000)
    odd = [Document(id=f'odd/"{n}", é', text=text, source="odd") for n, text in enumerate(ODD)]
    write_shards(folder / "documents" / "odd", odd, shard_bytes=1 << 30)
    write_json(folder / "result.json", {"digest": "of the two sources", **NOTHING_DROPPED})
    return folder


@pytest.fixture(scope="session")
def tokenizer_run(tmp_path_factory: pytest.TempPathFactory, filtered: Path, run) -> Path:
    config = tokenizer.TokenizerConfig(vocab_size=900)
    folder = tmp_path_factory.mktemp("run") / "tokenizer"
    return run(tokenizer, folder, config, {"filtered": filtered})


@pytest.fixture(scope="session")
def tokens_run(
    tmp_path_factory: pytest.TempPathFactory, filtered: Path, tokenizer_run: Path, run
) -> Path:
    config = tokens.TokensConfig(max_tokens_per_file=50_000, document_order="as_read")
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    return run(tokens, tmp_path_factory.mktemp("run") / "tokens", config, inputs)


@pytest.fixture(scope="session")
def documents_run(
    tmp_path_factory: pytest.TempPathFactory, tokens_run: Path, filtered: Path, run
) -> Path:
    folder = tmp_path_factory.mktemp("run") / "documents"
    return run(
        documents, folder, documents.DocumentsConfig(), {"tokens": tokens_run, "filtered": filtered}
    )


TINY = Path(__file__).parents[2] / "recipes" / "tiny" / "corpus.yaml"
# asset -> its folder of the corpus, the class of its configuration, its inputs
TEXT_JOBS = {
    "raw": ("intake", "RawConfig", ()),
    "near_duplicates": ("duplicates", "NearDuplicateConfig", ("raw",)),
    "held_out": ("duplicates", "HeldOutConfig", ("raw", "near_duplicates")),
    "tagged": ("filters", "TaggedConfig", ("held_out",)),
    "deduplicated": ("duplicates", "DeduplicatedConfig", ("held_out",)),
    "decontaminated": ("duplicates", "DecontaminatedConfig", ("held_out",)),
    "filtered": (
        "filters",
        "FilteredConfig",
        ("held_out", "tagged", "deduplicated", "decontaminated"),
    ),
}


class Corpus:
    """A root with one run folder per asset, from raw to filtered."""

    recipe = TINY

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, asset: str) -> Path:
        return self.root / "recipe" / asset / ("0" * 12)

    @staticmethod
    def module(asset: str) -> str:
        return f"olmo_core.corpus.{TEXT_JOBS[asset][0]}.{asset}"

    def run(self, asset: str, config: Mapping[str, Any], *, processes: int = 2) -> dict[str, Any]:
        """Run one job in this process; returns its result.json."""
        _, name, inputs = TEXT_JOBS[asset]
        module = importlib.import_module(self.module(asset))
        settings = build(getattr(module, name), config, where=asset)
        with Job.open(self.folder(asset)) as job:
            job.processes = processes
            folders = {name: self.folder(name) for name in inputs}
            # A recipe may do without one.
            found = {name: folder for name, folder in folders.items() if folder.exists()}
            job.finish(module.make(settings, found, job))
        return read_json(self.folder(asset) / "result.json")

    def run_tiny(self, *, processes: int) -> dict[str, dict[str, Any]]:
        """Run the five jobs of the recipe `tiny`."""
        recipe = load(TINY)
        return {
            asset: self.run(asset, recipe[asset], processes=processes)
            for asset in TEXT_JOBS
            if asset in recipe
        }

    def write_raw(self, **sources: Mapping[str, str]) -> None:
        """Write documents as the asset `raw` leaves them: source -> name -> text."""
        for source, texts in sources.items():
            rows = [self.document(source, name, text) for name, text in texts.items()]
            path = self.folder("raw") / "documents" / source / "part-00000.jsonl.gz"
            self.write_lines(path, rows)
        write_json(self.folder("raw") / "result.json", {"digest": "of these texts"})

    def write_held_out(
        self, documents: Mapping[str, Mapping[str, str]], **paloma: Sequence[str]
    ) -> None:
        """Write what the asset `held_out` leaves: source -> name -> text, and domain -> texts."""
        folder = self.folder("held_out")
        folder.mkdir(parents=True)
        write_json(folder / "result.json", {"digest": "of these texts"})
        with table_file(folder / "clusters.parquet", CLUSTERS):
            pass  # no near copies
        for source, texts in documents.items():
            rows = [self.document(source, name, text) for name, text in texts.items()]
            self.write_lines(folder / "documents" / source / "part-00000.jsonl.gz", rows)
        for domain, texts in (
            paloma or {"prose": ["A line that no document has anywhere."]}
        ).items():
            rows = [
                {"text": text, "id": f"{domain}/held-{n}", "added": "", "source": domain}
                for n, text in enumerate(texts)
            ]
            self.write_lines(folder / "paloma" / domain / "val" / "part-00000.jsonl.gz", rows)

    def attributes(self, asset: str, experiment: str) -> dict[str, dict[str, Any]]:
        """All attributes of an experiment: document id -> attributes."""
        folder = self.folder(asset) / "attributes" / experiment
        rows = [row for path in sorted(folder.rglob("*.gz")) for row in self.read_lines(path)]
        return {row["id"]: row["attributes"] for row in rows}

    def documents(self, asset: str) -> list[dict[str, Any]]:
        """All documents of an asset, in the order of their files."""
        folder = self.folder(asset) / "documents"
        return [row for path in sorted(folder.rglob("*.gz")) for row in self.read_lines(path)]

    @staticmethod
    def document(source: str, name: str, text: str) -> dict[str, Any]:
        times = dict.fromkeys(("added", "created"), "2024-01-01T00:00:00.000Z")
        return {"id": f"{source}/{name}", "text": text, "source": source, **times, "metadata": {}}

    @staticmethod
    def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    @staticmethod
    def read_lines(path: Path) -> list[dict[str, Any]]:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, dict[str, dict[str, Any]]]:
    """The recipe `tiny` from raw text to filtered, on two processes, and its results."""
    corpus = Corpus(tmp_path_factory.mktemp("tiny"))
    return corpus, corpus.run_tiny(processes=2)
