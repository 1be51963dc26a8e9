"""Digests of texts and of their paragraphs, and what a batch of documents repeats of itself."""

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import Document, read_documents, shards
from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.marks import COPIES, TEXT, paragraphs

TEXT_SEED = 1  # a text of one line is not that line
# What is known of a document where it is read; counts are of characters of stripped paragraphs.
READ = {
    "id": "string",
    "characters": "uint64",  # of the text
    "length": "uint64",  # of all paragraphs and the line breaks between them
    "repeated": "uint64",
    "contaminated": "uint64",
    "copied": "uint8",  # bits of `COPIES`
}


def paragraph_digests(text: str, min_bytes: int) -> tuple[list[bytes], list[int], int]:
    """Digest the paragraphs of a text that are long enough to count.

    Returns:
        128-bit digests; the characters of each, with the line break that ends it; the characters of
        all paragraphs and the line breaks between them.
    """
    from xxhash import xxh3_128_digest

    digests: list[bytes] = []
    characters: list[int] = []
    lines = paragraphs(text)
    least = -(-min_bytes // 4)  # a character has four bytes at most
    for line in lines:
        if len(line) >= least:
            encoded = line.encode()
            if len(encoded) >= min_bytes:
                digests.append(xxh3_128_digest(encoded))
                characters.append(len(line) + 1)
    if len(lines[-1].encode()) >= min_bytes:
        characters[-1] -= 1  # no line break ends the text
    return digests, characters, sum(map(len, lines)) + len(lines) - 1


def held_out_digests(paloma: Path, min_bytes: int) -> list[bytes]:
    """Return the digests of the perplexity set's paragraphs; none where nothing is held out."""
    if not paloma.exists():
        return []
    documents = chain.from_iterable(map(read_documents, shards(paloma)))
    return [
        digest
        for document in documents
        for digest in paragraph_digests(document.text, min_bytes)[0]
    ]


@dataclass(kw_only=True)
class Batch:
    """Documents of one shard, in order, whose keys are not yet written."""

    first: int  # place of its first document
    documents: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in READ})
    texts: list[bytes] = field(default_factory=list[bytes])  # digests
    lines: list[bytes] = field(default_factory=list[bytes])
    characters: list[int] = field(default_factory=list[int])  # of each line
    counts: list[int] = field(default_factory=list[int])  # lines of each document

    def add(self, document: Document, held_out: set[bytes], min_bytes: int) -> None:
        """Digest one document."""
        from xxhash import xxh3_128_digest

        lines, characters, length = paragraph_digests(document.text, min_bytes)
        held = sum(n for n, line in zip(characters, lines, strict=True) if line in held_out)
        facts = (document.id, len(document.text), length, 0, held, 0)
        for column, value in zip(self.documents.values(), facts, strict=True):
            column.append(value)
        self.texts.append(xxh3_128_digest(document.text.encode(), seed=TEXT_SEED))
        self.lines += lines
        self.characters += characters
        self.counts.append(len(lines))

    def settle(self) -> dict[str, Array]:
        """Count what the batch repeats of itself; return the keys of all that is new in it."""
        number = len(self.texts)
        owner = np.concatenate((np.arange(number), np.repeat(np.arange(number), self.counts)))
        characters = np.array([0] * number + self.characters, np.uint32)
        digests = np.frombuffer(b"".join(self.texts + self.lines), ">u8").reshape(-1, 2)
        key, low = digests.astype(np.uint64).T
        order = np.lexsort((low, key))  # stable: the first copy stays the first
        same = (key[order][1:] == key[order][:-1]) & (low[order][1:] == low[order][:-1])
        again = np.zeros(len(key), bool)
        again[order[1:][same]] = True
        self.documents["copied"] = (again[:number] * np.uint8(COPIES[TEXT])).tolist()
        repeated = np.bincount(owner[again], characters[again], minlength=number)
        self.documents["repeated"] = repeated.astype(np.uint64).tolist()
        new = ~again
        return {
            "key": key[new],
            "low": low[new],
            "place": owner[new].astype(np.uint64) + np.uint64(self.first),
            "characters": characters[new],
        }
