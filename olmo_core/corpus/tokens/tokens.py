"""Asset `tokens`: every kept document as token ids, in dolma's layout; one row per document.

After it runs, `tokens/<source>/part-0-NNNNN.npy` hold the ids of each document as Hugging Face
tokenizers encode it, a BOS before where there is one, an EOS after, in the order that the section
says; beside them stand their rows and headers. The bytes do not depend on the number of processes.
Token files that others have published stand there too, by reference.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import shards, totals
from olmo_core.corpus.tokens.encode import Encoding, encode_file, join_files, require_equal
from olmo_core.corpus.tokens.pack import link_files, pieces_of
from olmo_core.corpus.tokens.published import PublishedSource, published_dtype
from olmo_core.corpus.tokens.reference import add_published
from olmo_core.corpus.tokens.tokenizer import TOKENIZER
from olmo_core.data.format import Header, dtype_for
from olmo_core.errors import ConfigError
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks


@dataclass(frozen=True, kw_only=True)
class TokensConfig(Bounded):
    """Section `tokens` of corpus.yaml.

    Raises:
        ValueError: no room in a file, or two published sources of one name.
    """

    # a longer document has a file of its own
    max_tokens_per_file: int = at_least(1, default=1 << 30)
    # shuffled: by a hash of seed and document id, over the whole source; as_read: by file and line
    document_order: Literal["shuffled", "as_read"] = "shuffled"
    seed: int = at_least(0, default=0, at_most=(1 << 64) - 1)
    # what a text that spells a special token becomes: its id, or the ids of its letters
    special_tokens: Literal["encode", "escape"] = "encode"
    strip: bool = False  # without the blanks around it, as dolma encodes a text
    published: tuple[PublishedSource, ...] = ()  # token files of others, beside or in place of text

    def __post_init__(self) -> None:
        names = [source.source for source in self.published]
        if len(set(names)) != len(names):
            raise ValueError(f"published: {names}: expected each source once")
        super().__post_init__()


def encoding(config: TokensConfig, tokenizer: Path) -> Encoding:
    """Return how texts are encoded by the tokenizer of a finished run folder."""
    data = read_json(tokenizer / "result.json")["report"]["data"]
    header = Header(
        dtype=dtype_for(data["vocab_size"]).name,
        tokens=0,
        documents=0,
        vocab_size=data["vocab_size"],
        tokenizer_sha256=data["sha256"],
        eos_token_id=data["eos_token_id"],
    )
    return Encoding(
        tokenizer=tokenizer / TOKENIZER,
        header=header,
        bos_token_id=data.get("bos_token_id"),  # results before there was one lack it
        seed=config.seed if config.document_order == "shuffled" else None,
        escape=config.special_tokens == "escape",
        strip=config.strip,
        max_tokens_per_file=config.max_tokens_per_file,
    )


def make(config: TokensConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Encode the kept documents, if there are any, and add the token files of others."""
    how = encoding(config, inputs["tokenizer"])
    header = how.header
    if config.published:
        header = replace(header, dtype=published_dtype(config.published, header.dtype))
        if "filtered" in inputs and header.dtype != how.header.dtype:
            raise ConfigError(
                f"tokens: published: {header.dtype}; a mix has one dtype, and texts become "
                f"{how.header.dtype} with {header.vocab_size} entries"
            )
    rows: list[dict[str, Any]] = []
    figures: dict[str, int | float | str] = {}
    if "filtered" in inputs:
        encoded, reasons = encode(inputs["filtered"], how, job)
        rows += [text_row(name, counts) for name, counts in encoded.items()]
        figures = text_figures(rows, reasons, seconds=job.timings["encode"])
    if config.published:
        rows += add_published(config.published, header, job)
    return report(rows, figures, header, config)


def encode(
    filtered: Path, how: Encoding, job: Job
) -> tuple[dict[str, Mapping[str, int]], set[str]]:
    """Encode the document files side by side, then write the token files side by side.

    Returns:
        The figures of each source, and why Hugging Face encoded what tiktoken did not.
    """
    reads = f"{read_json(filtered / 'result.json')['digest']} {how.header.tokenizer_sha256}"
    files: dict[str, list[Path]] = defaultdict(list)  # by source
    for shard in shards(filtered / "documents"):
        files[shard.relative_to(filtered).parts[1]].append(shard)
    with job.timed("encode"):
        tasks = {
            shard: Task(
                name=f"encode {shard.relative_to(filtered)}",
                reads=reads,
                output=job.scratch / "ids" / name / f"{number:06d}",
                call=partial(encode_file, shard, how),
            )
            for name, found in files.items()
            for number, shard in enumerate(found)
        }
        results = dict(zip(tasks, map_tasks([*tasks.values()], job, unit="files"), strict=True))
    encoded = {
        name: totals([results[shard] for shard in found], "documents", "tokens", "text_bytes")
        for name, found in files.items()
    }
    with job.timed("write"):
        joins = {
            name: _joins(filtered / "documents" / name, encoded[name]["tokens"], how, job, reads)
            for name in files
        }
        each = [task for group in joins.values() for task in group]
        counts = iter(map_tasks(each, job, unit="files"))
        for name, group in joins.items():
            written = totals([*islice(counts, len(group))], "documents", "tokens", "files")
            require_equal(name, encoded[name], written)
            encoded[name]["files"] = written["files"]
            link_files((task.output for task in group), job.folder / "tokens" / name)
    return {**encoded}, {found["slow_reason"] for found in results.values()}


def _joins(source: Path, tokens: int, how: Encoding, job: Job, reads: str) -> list[Task]:
    """Return the tasks that write the token files of a source from the folders of its shards."""
    name = source.name
    # As read, where a file ends is known when the one before has ended.
    shuffled = how.seed is not None
    files, pieces = pieces_of(tokens, how.max_tokens_per_file) if shuffled else (1, 1)
    return [
        Task(
            name=f"join {name} {number} of {files}",
            reads=reads,
            output=job.scratch / "files" / name / f"{number:06d}",
            call=partial(
                join_files,
                source,
                job.scratch / "ids" / name,
                range(number * pieces, (number + 1) * pieces),
                files * pieces,
                how,
            ),
        )
        for number in range(files)
    ]


def text_row(name: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the figures of a source whose documents were encoded."""
    return {
        "source": name,
        "documents": counts["documents"],
        "tokens": counts["tokens"],
        "text_bytes": counts["text_bytes"],
        "bytes_per_token": round(counts["text_bytes"] / counts["tokens"], 3),
        "files": counts["files"],
    }


def text_figures(
    rows: Sequence[Mapping[str, Any]], reasons: set[str], *, seconds: float
) -> dict[str, int | float | str]:
    """Return the figures of all that was encoded."""
    total = totals(rows, "tokens", "text_bytes")
    return {
        "text_bytes": total["text_bytes"],
        "bytes_per_token": round(total["text_bytes"] / total["tokens"], 3),
        "tokens_per_second": round(total["tokens"] / seconds),
        "encoded_by": "tiktoken" if reasons == {""} else f"tokenizers: {max(reasons)}",
    }


def report(
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, int | float | str],
    header: Header,
    config: TokensConfig,
) -> Report:
    """Return the figures by source and in all."""
    numbers = totals(rows, "documents", "tokens", "files")
    table = [
        {
            **{key: row[key] for key in ("source", "documents", "tokens")},
            "share": round(row["tokens"] / numbers["tokens"], 4),
            **row,
        }
        for row in sorted(rows, key=lambda row: row["source"])
    ]
    return Report(
        numbers={**numbers, **figures},
        tables={"sources": table},
        data={
            "dtype": header.dtype,
            "vocab_size": header.vocab_size,
            "tokenizer_sha256": header.tokenizer_sha256,
            "eos_token_id": header.eos_token_id,
            "tokens": {row["source"]: row["tokens"] for row in table},
            "documents": {row["source"]: row["documents"] for row in table},
            "published": [source.source for source in config.published],
        },
    )


if __name__ == "__main__":
    run_job(TokensConfig, make)
