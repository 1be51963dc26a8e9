"""Text that lies on a machine as token files, and quotes planted in it (benchmarks/quotes.py)."""

import argparse
import bisect
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128_digest

from olmo_core.corpus.tokens.encoder import Encoder
from olmo_core.data.document_index import (
    DROPPED,
    DROPPED_SCHEMA,
    IDS,
    KEY_SCHEMA,
    PLACE_SCHEMA,
    PLACES,
    ROW_GROUP,
    ROW_SCHEMA,
    TEXTS,
    URLS,
    DocumentSpan,
    places_path,
    write_sorted,
)
from olmo_core.data.format import Header, dtype_for, header_path
from olmo_core.files import sha256_file, write_json
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES
from olmo_core.tasks.map import process_pool

KINDS = frozenset(
    [
        ".c",
        ".h",
        ".hpp",
        ".html",
        ".js",
        ".json",
        ".md",
        ".po",
        ".py",
        ".pyi",
        ".rs",
        ".rst",
        ".txt",
    ]
)
LARGEST_BYTES = 2 << 20  # of a file
FILE_BYTES = 1 << 26  # of text, in a token file
EOS = "<|endoftext|>"
_KEYS = ((URLS, KEY_SCHEMA), (TEXTS, KEY_SCHEMA))


def texts(folders: Sequence[Path], most_bytes: float) -> Iterator[str]:
    """Yield the text files below some folders, each content once, up to so many bytes."""
    seen: set[bytes] = set()
    total = 0
    for folder in folders:
        for parent, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                path = Path(parent, name)
                if path.suffix not in KINDS or path.is_symlink():
                    continue
                content = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b""
                digest = xxh3_128_digest(content)
                if len(content) < 500 or digest in seen:
                    continue
                seen.add(digest)
                total += len(content)
                yield content.decode(errors="replace")
                if total >= most_bytes:
                    return


def write_tokens(tokenizer: Path, folder: Path, number: int, documents: Sequence[str]) -> int:
    """Write a token file, where its documents end, and the texts; return the bytes of text."""
    encoder = Encoder(tokenizer)
    eos = encoder.tokenizer.token_to_id(EOS) or 0
    vocab_size = max(encoder.tokenizer.get_vocab().values()) + 1
    ids = [np.append(each, np.uint32(eos)) for each in encoder.encode(documents)]
    path = folder / "tokens" / "text" / f"part-0-{number:05d}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate(ids).astype(dtype_for(vocab_size)).tofile(path)
    header = Header(
        dtype=dtype_for(vocab_size).name,
        tokens=sum(map(len, ids)),
        documents=len(ids),
        vocab_size=vocab_size,
        tokenizer_sha256=sha256_file(tokenizer),
        eos_token_id=eos,
    )
    np.cumsum([len(each) for each in ids]).tofile(path.with_suffix(".ends"))
    write_json(header_path(path), header.to_dict())
    return sum(len(each.encode()) for each in documents)


def write_corpus(arguments: argparse.Namespace) -> None:
    """Make token files of the text that is there."""
    found = texts(arguments.text, arguments.bytes)
    began, total, number, waiting = time.monotonic(), 0, 0, []
    with process_pool(arguments.processes) as pool:
        while documents := [*islice_bytes(found, FILE_BYTES)]:
            call = partial(write_tokens, arguments.tokenizer, arguments.folder, number)
            waiting.append(pool.submit(call, documents))
            number += 1
            if len(waiting) > arguments.processes:  # so that few texts are held
                total += waiting.pop(0).result()
        total += sum(each.result() for each in waiting)
    (arguments.folder / "bytes").write_text(str(total))
    print(f"{total / 1e9:.2f} GB of text tokenised in {time.monotonic() - began:.0f} s", flush=True)


def islice_bytes(found: Iterator[str], most_bytes: int) -> Iterator[str]:
    """Yield texts up to so many bytes."""
    total = 0
    while total < most_bytes:
        for text in islice(found, 1):
            total += len(text.encode())
            yield text
            break
        else:
            return


class Documents:
    """Where the documents of each token file lie."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.ends = {
            file: np.fromfile((folder / file).with_suffix(".ends"), np.int64).tolist()
            for file in files
        }

    def at(self, file: str, places: Sequence[int]) -> list[DocumentSpan]:
        """Return the document of each token."""
        ends = self.ends[file]
        numbers = [bisect.bisect_right(ends, place) for place in places]
        return [
            DocumentSpan(
                file=file, start=ends[n - 1] if n else 0, end=ends[n], id=str(n), src="", loc=1
            )
            for n in numbers
        ]

    def write(self, folder: Path) -> None:
        """Write an index that knows no more of the documents than their places."""
        for file, ends in self.ends.items():
            path = places_path(folder / PLACES, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            ids = [f"{file}:{number}" for number in range(len(ends))]
            columns = [[0, *ends[:-1]], ends, ids, [file] * len(ends), range(1, len(ends) + 1)]
            named = dict(zip(PLACE_SCHEMA.names, map(list, columns), strict=True))
            table = pa.table(named, schema=PLACE_SCHEMA)
            write_sorted(path, table, by="start", row_group=ROW_GROUP)
        for kind, schema in ((IDS, ROW_SCHEMA), (DROPPED, DROPPED_SCHEMA), *_KEYS):
            (folder / kind).mkdir(exist_ok=True)
            path = folder / kind / "part-00000.parquet"
            write_sorted(path, schema.empty_table(), by="key", row_group=ROW_GROUP)


def planted(
    text: TokenText, documents: Documents, shard_tokens: int, count: int
) -> Iterator[tuple[str, DocumentSpan, bytes]]:
    """Yield the kind, document and bytes of quotes: whole characters, as short as they may be."""
    rng = random.Random(1)
    for number in range(count):
        file = rng.choice([*documents.ends])
        ends = documents.ends[file]
        kind = ("start", "middle", "end", "border", "not ASCII")[number % 5]
        for _ in range(500):
            tokens = ends[-1]
            border = rng.randrange(1, max(2, -(-tokens // shard_tokens))) * shard_tokens
            at = min(tokens - 1, border) if kind == "border" else rng.randrange(tokens)
            [span] = documents.at(file, [at])
            content = text.read(file, span.start, span.end - 1)[0].tobytes()
            if len(content) < 2 * MATCH_BYTES or (kind == "not ASCII" and content.isascii()):
                continue
            first = rng.randrange(len(content) - MATCH_BYTES)
            if kind == "border":
                before = len(text.read(file, span.start, at)[0])
                first = max(0, min(before - rng.randrange(MATCH_BYTES), len(content) - MATCH_BYTES))
            if kind == "not ASCII":
                strange = rng.choice([*re.finditer(rb"[^\x00-\x7f]", content)]).start()
                first = min(max(0, strange - MATCH_BYTES // 2), len(content) - MATCH_BYTES)
            first = {"start": 0, "end": len(content) - MATCH_BYTES}.get(kind, first)
            quote = whole(content, first)
            if quote is not None and (kind != "not ASCII" or not quote.isascii()):
                yield kind, span, quote
                break


def whole(content: bytes, first: int) -> bytes | None:
    """Return the shortest quote of whole characters around a place; None: there is none."""
    last = first + MATCH_BYTES
    while first > 0 and content[first] & 0xC0 == 0x80:
        first -= 1
    while last < len(content) and content[last] & 0xC0 == 0x80:
        last += 1
    return content[first:last] if len(content[first:last].strip()) > MATCH_BYTES // 2 else None


def drop(folder: Path) -> None:
    """Drop files below a folder from the page cache."""
    for path in folder.rglob("*.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
