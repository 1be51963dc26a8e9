"""Document files as token ids, and these as token files: the tasks of the asset `tokens`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import read_documents, shards
from olmo_core.corpus.tokens.encoder import Encoder
from olmo_core.corpus.tokens.pack import read_range, write_files, write_shard
from olmo_core.data.format import Header, dtype_for

_BATCH = 64  # documents encoded at once
_COMPARED = 64  # every so many documents, one is encoded by Hugging Face and compared


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What all shards are encoded by."""

    tokenizer: Path  # tokenizer.json
    header: Header  # without counts
    bos_token_id: int | None
    seed: int | None  # of the order of documents; None: as read
    escape: bool  # texts that spell a special token
    strip: bool
    max_tokens_per_file: int

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
        return _encoder(self.tokenizer, self.escape)


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
            texts = [each.text.strip() if how.strip else each.text for each in batch]
            for document, text, ids in zip(batch, texts, how.encode(texts), strict=True):
                if line % _COMPARED == 0:
                    require_exact(how, text, ids, f"{shard}:{line + 1}")
                line += 1
                text_bytes += document.text_bytes
                yield document.id, ids

    sizes = write_shard(out, rows(), seed=how.seed)
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
    documents = read_range(parts, pieces, of, shuffled=how.seed is not None)
    return write_files(documents, how.max_tokens_per_file, how.header, out)


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


@cache
def _encoder(path: Path, escape: bool) -> Encoder:
    # Each process encodes in one thread: the processes are spread over the cores.
    os.environ["RAYON_NUM_THREADS"] = "1"
    return Encoder(path, escape=escape)
