"""Asset `tokens`: every kept document as token ids, in dolma's layout; one row per document.

After it runs, `tokens/<source>/part-0-NNNNN.npy` hold the ids of each document as Hugging Face
tokenizers encode it, a BOS before where there is one, an EOS after, in the order that the section
says; beside them stand their rows and headers. The bytes do not depend on the number of processes.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import read_documents, shards, totals
from olmo_core.corpus.tokens.encoder import Encoder
from olmo_core.corpus.tokens.pack import (
    link_files,
    pieces_of,
    read_range,
    write_files,
    write_shard,
)
from olmo_core.corpus.tokens.tokenizer import TOKENIZER
from olmo_core.data.format import Header, dtype_for
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

_BATCH = 64  # documents encoded at once
_COMPARED = 64  # every so many documents, one is encoded by Hugging Face and compared


@dataclass(frozen=True, kw_only=True)
class TokensConfig(Bounded):
    """Section `tokens` of corpus.yaml.

    Raises:
        ValueError: no room in a file.
    """

    # a longer document has a file of its own
    max_tokens_per_file: int = at_least(1, default=1 << 30)
    # shuffled: by a hash of seed and document id, over the whole source; as_read: by file and line
    document_order: Literal["shuffled", "as_read"] = "shuffled"
    seed: int = at_least(0, default=0, at_most=(1 << 64) - 1)
    # what a text that spells a special token becomes: its id, or the ids of its letters
    special_tokens: Literal["encode", "escape"] = "encode"
    strip: bool = False  # without the blanks around it, as dolma encodes a text


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What all shards are encoded by."""

    config: TokensConfig
    tokenizer: Path  # tokenizer.json
    header: Header  # without counts
    bos_token_id: int | None

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each document, BOS and EOS included, in the token files' dtype."""
        before = [] if self.bos_token_id is None else [self.bos_token_id]
        parts = [np.asarray(ids, dtype=np.uint32) for ids in (before, [self.header.eos_token_id])]
        dtype = dtype_for(self.header.vocab_size)
        return [
            np.concatenate([parts[0], ids, parts[1]]).astype(dtype)
            for ids in self.encoder.encode(texts)
        ]

    @property
    def encoder(self) -> Encoder:
        """Return the encoder of this process."""
        return _encoder(self.tokenizer, self.config.special_tokens == "escape")


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
        config=config,
        tokenizer=tokenizer / TOKENIZER,
        header=header,
        bos_token_id=data.get("bos_token_id"),  # results before there was one lack it
    )


def make(config: TokensConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Encode the document files side by side, then write the token files side by side."""
    how = encoding(config, inputs["tokenizer"])
    filtered = inputs["filtered"]
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
    reasons = {found["slow_reason"] for found in results.values()}
    return report(encoded, how, reasons, seconds=job.timings["encode"])


def _joins(source: Path, tokens: int, how: Encoding, job: Job, reads: str) -> list[Task]:
    """Return the tasks that write the token files of a source from the folders of its shards."""
    name = source.name
    shuffled = how.config.document_order == "shuffled"
    # As read, where a file ends is known when the one before has ended.
    files, pieces = pieces_of(tokens, how.config.max_tokens_per_file) if shuffled else (1, 1)
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


def encode_file(shard: Path, how: Encoding, out: Path) -> dict[str, Any]:
    """Encode one document file into a folder, `out`; runs in a process of its own.

    Returns:
        Its numbers of documents, of tokens and of bytes of text, and why Hugging Face encoded it
        all; empty where tiktoken did.
    """
    text_bytes = 0

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal text_bytes
        line = 0
        documents = read_documents(shard)
        while batch := list(islice(documents, _BATCH)):
            texts = [each.text.strip() if how.config.strip else each.text for each in batch]
            for document, text, ids in zip(batch, texts, how.encode(texts), strict=True):
                if line % _COMPARED == 0:
                    require_exact(how, text, ids, f"{shard}:{line + 1}")
                line += 1
                text_bytes += document.text_bytes
                yield document.id, ids

    seed = how.config.seed if how.config.document_order == "shuffled" else None
    sizes = write_shard(out, rows(), seed=seed)
    return {
        "documents": len(sizes),
        "tokens": int(sizes.sum()) // dtype_for(how.header.vocab_size).itemsize,
        "text_bytes": text_bytes,
        "slow_reason": how.encoder.reason,
    }


def require_exact(how: Encoding, text: str, ids: np.ndarray, where: str) -> None:
    """Refuse ids of a document that are not Hugging Face's.

    Raises:
        RuntimeError: with `where`.
    """
    bos = [] if how.bos_token_id is None else [how.bos_token_id]
    if ids.tolist() != [*bos, *how.encoder.exact(text), how.header.eos_token_id]:
        raise RuntimeError(f"{where}: ids differ from Hugging Face's")


def join_files(
    source: Path, encoded: Path, pieces: range, of: int, how: Encoding, out: Path
) -> dict[str, int]:
    """Write the documents of some ranges of keys into token files; runs in a process of its own.

    Args:
        source: The document files of a source.
        encoded: What `encode_file` made of each.
        pieces: The ranges, of as many as `of`.
        of: See `pieces`.
        how: What they are encoded by.
        out: A folder, made here.

    Returns:
        The numbers of files, of documents and of tokens.
    """
    filtered = source.parents[1]
    parts = {
        shard.relative_to(filtered).as_posix(): encoded / f"{number:06d}"
        for number, shard in enumerate(shards(source))
    }
    shuffled = how.config.document_order == "shuffled"
    documents = read_range(parts, pieces, of, shuffled=shuffled)
    return write_files(documents, how.config.max_tokens_per_file, how.header, out)


def require_equal(name: str, encoded: Mapping[str, int], written: Mapping[str, int]) -> None:
    """Refuse token files of a source that hold more or less than was encoded.

    Raises:
        RuntimeError: with the counts.
    """
    if any(encoded[key] != written[key] for key in ("documents", "tokens")):
        raise RuntimeError(
            f"tokens/{name}: {encoded['documents']} documents of {encoded['tokens']} tokens "
            f"encoded, {written['documents']} of {written['tokens']} written"
        )


def report(
    sources: Mapping[str, Mapping[str, int]], how: Encoding, reasons: set[str], *, seconds: float
) -> Report:
    """Return the figures by source and in all."""
    header = how.header
    total = sum(counts["tokens"] for counts in sources.values())
    table = [
        {
            "source": name,
            "documents": counts["documents"],
            "tokens": counts["tokens"],
            "share": round(counts["tokens"] / total, 4),
            "text_bytes": counts["text_bytes"],
            "bytes_per_token": round(counts["text_bytes"] / counts["tokens"], 3),
            "files": counts["files"],
        }
        for name, counts in sorted(sources.items())
    ]
    numbers = totals(table, "documents", "tokens", "text_bytes", "files")
    return Report(
        numbers={
            **numbers,
            "bytes_per_token": round(numbers["text_bytes"] / total, 3),
            "tokens_per_second": round(total / seconds),
            "encoded_by": "tiktoken" if reasons == {""} else f"tokenizers: {max(reasons)}",
        },
        tables={"sources": table},
        data={
            "dtype": header.dtype,
            "vocab_size": header.vocab_size,
            "tokenizer_sha256": header.tokenizer_sha256,
            "eos_token_id": header.eos_token_id,
            "tokens": {row["source"]: row["tokens"] for row in table},
            "documents": {row["source"]: row["documents"] for row in table},
        },
    )


@cache
def _encoder(path: Path, escape: bool) -> Encoder:
    # Each process encodes in one thread: the processes are spread over the cores.
    os.environ["RAYON_NUM_THREADS"] = "1"
    return Encoder(path, escape=escape)


if __name__ == "__main__":
    run_job(TokensConfig, make)
