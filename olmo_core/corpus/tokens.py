"""Asset `tokens`: every kept document as token ids, in dolma's layout; one row per document.

After it runs, `tokens/<source>/part-0-NNNNN.npy` hold the ids of each document as Hugging Face
tokenizers encode it, an EOS after each, in the order of the document files; beside them stand
their rows and headers. The bytes do not depend on the number of processes.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import Document, read_documents, shards, source_names
from olmo_core.corpus.encoder import Encoder
from olmo_core.corpus.token_writer import EncodedFile, Shard, write_source
from olmo_core.corpus.tokenizer import TOKENIZER
from olmo_core.data.format import Header, dtype_for, open_token_file
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

_BATCH = 64  # documents encoded at once
_COMPARED = 64  # every so many documents, one is encoded by Hugging Face and compared


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """Section `tokens` of corpus.yaml.

    Raises:
        ValueError: no room in a file.
    """

    max_tokens_per_file: int = 1 << 30  # a longer document has a file of its own

    def __post_init__(self) -> None:
        if self.max_tokens_per_file < 1:
            raise ValueError(f"max_tokens_per_file {self.max_tokens_per_file}: expected at least 1")


def empty_header(tokenizer: Path) -> Header:
    """Return the header of a file without tokens, by the tokenizer of a finished run folder."""
    data = read_json(tokenizer / "result.json")["report"]["data"]
    return Header(
        dtype=dtype_for(data["vocab_size"]).name,
        tokens=0,
        documents=0,
        vocab_size=data["vocab_size"],
        tokenizer_sha256=data["sha256"],
        eos_token_id=data["eos_token_id"],
    )


def make(config: TokensConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Encode the document files side by side, then join them source by source."""
    header = empty_header(inputs["tokenizer"])
    filtered = inputs["filtered"]
    names = source_names(filtered / "documents")
    files = [(name, shard) for name in names for shard in shards(filtered / "documents" / name)]
    with job.timed("encode"):
        reads = f"{read_json(filtered / 'result.json')['digest']} {header.tokenizer_sha256}"
        encoded: dict[str, list[EncodedFile]] = {name: [] for name in names}
        tasks = [
            Task(
                name=f"encode {shard.relative_to(filtered)}",
                reads=reads,
                output=job.scratch / "ids" / f"{number:06d}",
                call=partial(encode_file, shard, inputs["tokenizer"] / TOKENIZER, header),
            )
            for number, (_, shard) in enumerate(files)
        ]
        for (name, shard), task, rows in zip(files, tasks, _map(tasks, job), strict=True):
            src = shard.relative_to(filtered).as_posix()
            encoded[name].append(EncodedFile(path=task.output, src=src, **rows))
    with job.timed("write"):
        tasks = [
            Task(
                name=f"join {name}",
                reads=reads,
                output=job.folder / "tokens" / name,
                call=partial(write_source, encoded[name], config.max_tokens_per_file, header),
            )
            for name in names
        ]
        shards_of = zip(names, _map(tasks, job), strict=True)
        written = {name: [Shard(**shard) for shard in found] for name, found in shards_of}
    with job.timed("check"):
        for name in names:
            check_source(job.folder / "tokens" / name, encoded[name], written[name], header)
    return report(encoded, written, header, seconds=job.timings["encode"])


def encode_file(shard: Path, tokenizer: Path, header: Header, out: Path) -> dict[str, Any]:
    """Encode one document file into a raw array, `out`; runs in a process of its own.

    Returns:
        The fields of an `EncodedFile` that tell of its documents.
    """
    encoder = _encoder(tokenizer)
    ids: list[str] = []
    lines: list[int] = []
    lengths: list[int] = []
    text_bytes = 0
    with out.open("wb") as raw:
        for batch in _batches(read_documents(shard), _BATCH):
            texts = [document.text for _, document in batch]
            text_bytes += sum(document.text_bytes for _, document in batch)
            for (line, document), found in zip(batch, encoder.encode(texts), strict=True):
                if len(ids) % _COMPARED == 0 and found.tolist() != encoder.exact(document.text):
                    raise RuntimeError(f"{shard}:{line}: ids differ from Hugging Face's")
                row = np.append(found, np.uint32(header.eos_token_id))
                raw.write(row.astype(dtype_for(header.vocab_size)).tobytes())
                ids.append(document.id)
                lines.append(line)
                lengths.append(len(row))
    return {
        "ids": ids,
        "lines": lines,
        "lengths": lengths,
        "text_bytes": text_bytes,
        "slow_reason": encoder.reason,
    }


def check_source(
    folder: Path, encoded: Sequence[EncodedFile], written: Sequence[Shard], header: Header
) -> None:
    """Documents in are documents out, tokens add up, headers fit, ids are below the vocabulary.

    Raises:
        InputError: a file is not what its header says.
        RuntimeError: the counts do not add up.
    """
    for what, before, after in (
        ("documents", sum(len(o.ids) for o in encoded), sum(s.documents for s in written)),
        ("tokens", sum(sum(o.lengths) for o in encoded), sum(s.tokens for s in written)),
    ):
        if before != after:
            raise RuntimeError(f"{folder}: {before} {what} encoded, {after} written")
    for shard in written:
        file = open_token_file(folder / shard.name, vocab_size=header.vocab_size)
        ids = np.memmap(file.path, dtype=file.dtype, mode="r")
        if int(ids.max()) >= header.vocab_size:
            raise RuntimeError(f"{file.path}: id {ids.max()}: beyond {header.vocab_size}")
        if int(ids[-1]) != header.eos_token_id:
            raise RuntimeError(f"{file.path}: does not end with an EOS")


def report(
    encoded: Mapping[str, Sequence[EncodedFile]],
    written: Mapping[str, Sequence[Shard]],
    header: Header,
    *,
    seconds: float,
) -> Report:
    """Figures by source and in all."""
    tokens = {name: sum(shard.tokens for shard in shards) for name, shards in written.items()}
    documents = {name: sum(shard.documents for shard in shards) for name, shards in written.items()}
    text_bytes = {name: sum(file.text_bytes for file in files) for name, files in encoded.items()}
    total = sum(tokens.values())
    reasons = {file.slow_reason for files in encoded.values() for file in files}
    return Report(
        numbers={
            "documents": sum(documents.values()),
            "tokens": total,
            "text_bytes": sum(text_bytes.values()),
            "bytes_per_token": round(sum(text_bytes.values()) / total, 3),
            "files": sum(len(shards) for shards in written.values()),
            "tokens_per_second": round(total / seconds),
            "encoded_by": "tiktoken" if reasons == {""} else f"tokenizers: {max(reasons)}",
        },
        tables={
            "sources": [
                {
                    "source": name,
                    "documents": documents[name],
                    "tokens": tokens[name],
                    "share": round(tokens[name] / total, 4),
                    "text_bytes": text_bytes[name],
                    "bytes_per_token": round(text_bytes[name] / tokens[name], 3),
                    "files": len(written[name]),
                }
                for name in sorted(written)
            ]
        },
        data={
            "dtype": header.dtype,
            "vocab_size": header.vocab_size,
            "tokenizer_sha256": header.tokenizer_sha256,
            "eos_token_id": header.eos_token_id,
            "tokens": tokens,
            "documents": documents,
        },
    )


def _map(tasks: Sequence[Task], job: Job) -> list[Any]:
    def on_done(count: int, latest: Any) -> None:
        job.progress(count, len(tasks), unit="files")

    return map_tasks(tasks, job, on_done=on_done)


@cache
def _encoder(path: Path) -> Encoder:
    # Each process encodes in one thread: the processes are spread over the cores.
    os.environ["RAYON_NUM_THREADS"] = "1"
    return Encoder(path)


def _batches(
    documents: Iterable[tuple[int, Document]], size: int
) -> Iterator[list[tuple[int, Document]]]:
    rest = iter(documents)
    while batch := list(islice(rest, size)):
        yield batch


if __name__ == "__main__":
    run_job(TokensConfig, make)
