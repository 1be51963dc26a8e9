"""Asset `tokens`: every kept document as token ids, in dolma's layout; one row per document.

After it runs, `tokens/<source>/part-0-NNNNN.npy` hold the ids of each document as Hugging Face
tokenizers encode it, an EOS after each, in the order of the document files; beside them stand
their rows and headers. The bytes do not depend on the number of processes.
"""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import read_documents, shards, totals
from olmo_core.corpus.rows import packed
from olmo_core.corpus.tokens.encoder import Encoder
from olmo_core.corpus.tokens.tokenizer import TOKENIZER
from olmo_core.data.format import Header, dtype_for, header_path, open_token_file, rows_path
from olmo_core.files import atomic_path, read_json, write_json
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


@dataclass(frozen=True, kw_only=True)
class EncodedFile:
    """The ids of one document file, in a raw array in the scratch folder, and its documents."""

    path: Path
    src: str  # document file, relative to the filtered run folder
    ids: list[str]
    lengths: list[int]  # tokens, EOS included
    text_bytes: int
    slow_reason: str  # why Hugging Face encoded it all; empty where tiktoken did


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
    files = shards(filtered / "documents")
    encoded: dict[str, list[EncodedFile]] = defaultdict(list)  # by source
    with job.timed("encode"):
        reads = f"{read_json(filtered / 'result.json')['digest']} {header.tokenizer_sha256}"
        tasks = [
            Task(
                name=f"encode {shard.relative_to(filtered)}",
                reads=reads,
                output=job.scratch / "ids" / f"{number:06d}",
                call=partial(encode_file, shard, inputs["tokenizer"] / TOKENIZER, header),
            )
            for number, shard in enumerate(files)
        ]
        results = map_tasks(tasks, job, unit="files")
        for shard, task, found in zip(files, tasks, results, strict=True):
            src = shard.relative_to(filtered)
            file = EncodedFile(path=task.output, src=src.as_posix(), **found)
            encoded[src.parts[1]].append(file)
    with job.timed("write"):
        tasks = [
            Task(
                name=f"join {name}",
                reads=reads,
                output=job.folder / "tokens" / name,
                call=partial(write_source, parts, config.max_tokens_per_file, header),
            )
            for name, parts in encoded.items()
        ]
        written = dict(zip(encoded, map_tasks(tasks, job, unit="sources"), strict=True))
    return report(encoded, written, header, seconds=job.timings["encode"])


def encode_file(shard: Path, tokenizer: Path, header: Header, out: Path) -> dict[str, Any]:
    """Encode one document file into a raw array, `out`; runs in a process of its own.

    Returns:
        The fields of an `EncodedFile` that tell of its documents.
    """
    encoder = _encoder(tokenizer)
    ids: list[str] = []
    lengths: list[int] = []
    text_bytes = 0
    documents = read_documents(shard)
    with out.open("wb") as raw:
        while batch := list(islice(documents, _BATCH)):
            encoded = encoder.encode([document.text for document in batch])
            for document, found in zip(batch, encoded, strict=True):
                if len(ids) % _COMPARED == 0 and found.tolist() != encoder.exact(document.text):
                    raise RuntimeError(f"{shard}:{len(ids) + 1}: ids differ from Hugging Face's")
                row = np.append(found, np.uint32(header.eos_token_id))
                raw.write(row.astype(dtype_for(header.vocab_size)).tobytes())
                ids.append(document.id)
                lengths.append(len(row))
                text_bytes += document.text_bytes
    return {
        "ids": ids,
        "lengths": lengths,
        "text_bytes": text_bytes,
        "slow_reason": encoder.reason,
    }


def write_source(
    encoded: Sequence[EncodedFile], max_tokens: int, header: Header, folder: Path
) -> int:
    """Join the encoded files of one source, in order, into `folder/part-0-NNNNN.npy` …

    Args:
        encoded: At least one document in all.
        max_tokens: Per file; a longer document has a file of its own.
        header: What the headers share; the counts are filled in.
        folder: Of the source.

    Returns:
        The number of token files, which have been checked.
    """
    numbers = shard_numbers((n for file in encoded for n in file.lengths), max_tokens)
    documents = zip(numbers, _documents(encoded, np.dtype(header.dtype).itemsize), strict=True)
    for number, group in groupby(documents, key=lambda pair: pair[0]):
        path = folder / f"part-0-{number:05d}.npy"
        rows: list[tuple[int | str, ...]] = []  # start, end, id, src, loc
        end = 0
        with atomic_path(path) as beside, beside.open("wb") as out:
            for _, (content, length, *place) in group:
                out.write(content)
                start, end = end, end + length
                rows.append((start, end, *place))
        # Without a heading, as dolma writes them; a line break of either kind in an id is quoted.
        with packed(rows_path(path)) as raw, io.TextIOWrapper(raw, "utf-8", newline="") as text:
            csv.writer(text, lineterminator="\r\n").writerows(rows)
        write_json(header_path(path), replace(header, tokens=end, documents=len(rows)).to_dict())
    return check_source(folder, encoded, header)


def shard_numbers(lengths: Iterable[int], max_tokens: int) -> Iterator[int]:
    """Yield the number of each document's file: in order, a new one where the next does not fit."""
    number = filled = 0
    for length in lengths:
        if filled and filled + length > max_tokens:
            number, filled = number + 1, 0
        filled += length
        yield number


def _documents(
    encoded: Sequence[EncodedFile], itemsize: int
) -> Iterator[tuple[bytes, int, str, str, int]]:
    """Yield the bytes of each document's ids and their number; its id, its file and its line."""
    for file in encoded:
        with file.path.open("rb") as raw:
            for line, (name, length) in enumerate(zip(file.ids, file.lengths, strict=True), 1):
                content = raw.read(length * itemsize)
                if len(content) < length * itemsize:
                    raise EOFError(f"{file.path}: ends within document {name!r}")
                yield content, length, name, file.src, line


def check_source(folder: Path, encoded: Sequence[EncodedFile], header: Header) -> int:
    """Check that documents in are documents out, tokens add up, and ids are in the vocabulary.

    Returns:
        The number of token files.

    Raises:
        InputError: a file is not what its header says.
        RuntimeError: the counts do not add up.
    """
    files = [
        open_token_file(path, vocab_size=header.vocab_size, need_header=True)
        for path in sorted(folder.glob("*.npy"))
    ]
    before = (sum(len(file.ids) for file in encoded), sum(sum(file.lengths) for file in encoded))
    headers = [file.header for file in files if file.header is not None]
    after = (sum(found.documents for found in headers), sum(file.tokens for file in files))
    if before != after:
        raise RuntimeError(
            f"{folder}: {before[0]} documents of {before[1]} tokens encoded, {after[0]} of "
            f"{after[1]} written"
        )
    for file in files:
        ids = np.memmap(file.path, dtype=file.dtype, mode="r")
        if int(ids.max()) >= header.vocab_size:
            raise RuntimeError(f"{file.path}: id {ids.max()}: beyond {header.vocab_size}")
        if int(ids[-1]) != header.eos_token_id:
            raise RuntimeError(f"{file.path}: does not end with an EOS")
    return len(files)


def report(
    encoded: Mapping[str, Sequence[EncodedFile]],
    written: Mapping[str, int],
    header: Header,
    *,
    seconds: float,
) -> Report:
    """Return the figures by source and in all; `written` counts token files."""
    tokens = {name: sum(sum(file.lengths) for file in files) for name, files in encoded.items()}
    total = sum(tokens.values())
    text_bytes = {name: sum(file.text_bytes for file in files) for name, files in encoded.items()}
    table = [
        {
            "source": name,
            "documents": sum(len(file.ids) for file in files),
            "tokens": tokens[name],
            "share": round(tokens[name] / total, 4),
            "text_bytes": text_bytes[name],
            "bytes_per_token": round(text_bytes[name] / tokens[name], 3),
            "files": written[name],
        }
        for name, files in sorted(encoded.items())
    ]
    numbers = totals(table, "documents", "tokens", "text_bytes", "files")
    reasons = {file.slow_reason for files in encoded.values() for file in files}
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
            "tokens": tokens,
            "documents": {row["source"]: row["documents"] for row in table},
        },
    )


@cache
def _encoder(path: Path) -> Encoder:
    # Each process encodes in one thread: the processes are spread over the cores.
    os.environ["RAYON_NUM_THREADS"] = "1"
    return Encoder(path)


if __name__ == "__main__":
    run_job(TokensConfig, make)
