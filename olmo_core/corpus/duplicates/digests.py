"""Digests of texts, paragraphs, URLs and ids, and what a batch of documents repeats of itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import Document, read_documents, shards
from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.marks import COPIES, ID, TEXT, URL, paragraphs

# What raw puts behind the id of a piece of a text, and behind one that stood before.
PIECE, AGAIN = re.compile(r"#\d{3,}\Z"), re.compile(r"~[0-9a-f]{16}\Z")
# What is known of a document where it is read; counts are of characters of stripped paragraphs.
READ = {
    "id": "string",
    "characters": "uint64",  # of the text
    "length": "uint64",  # of all paragraphs and the line breaks between them
    "repeated": "uint64",
    "contaminated": "uint64",
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


def original_id(name: str) -> tuple[str, str]:
    """Return the id that a document had before it was made unique, and what was put behind it."""
    if name[-17:-16] == "~" and AGAIN.search(name):
        return name[:-17], name[-17:]
    return name, ""


def whole_text(name: str) -> int:
    """Return 32 bits that the pieces of one text have in common, by the id of any of them."""
    from xxhash import xxh3_64_intdigest

    first, again = original_id(name)
    return xxh3_64_intdigest(f"{PIECE.sub('', first)}{again[:1]}".encode()) >> 32


def id_keys(names: Sequence[str], first: int) -> dict[str, Array]:
    """Return the keys of the original ids of consecutive documents, the first one at a place."""
    digests = [_digest(ID, original_id(name)[0]) for name in names]
    key, low = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).astype(np.uint64).T
    return {
        "key": key,
        "low": low,
        "place": np.arange(first, first + len(names), dtype=np.uint64),
        "kind": np.full(len(names), COPIES[ID], np.uint8),
        "characters": np.zeros(len(names), np.uint32),
    }


def _digest(kind: str, value: str) -> bytes:
    from xxhash import xxh3_128_digest

    # The seed tells kinds apart: a text of one line is not that line.
    return xxh3_128_digest(value.encode(), seed=COPIES[kind])


@dataclass(kw_only=True)
class Batch:
    """Documents of one shard, in order, whose keys are not yet written."""

    first: int  # place of its first document
    documents: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in READ})
    made_unique: int = 0  # documents whose id stood before
    # Digests of texts and URLs: of which document, which of `COPIES`, and of a URL what tells
    # the pieces of a text from another text with it.
    wholes: list[bytes] = field(default_factory=list[bytes])
    owners: list[int] = field(default_factory=list[int])
    kinds: list[int] = field(default_factory=list[int])
    texts: list[int] = field(default_factory=list[int])
    lines: list[bytes] = field(default_factory=list[bytes])
    characters: list[int] = field(default_factory=list[int])  # of each line
    counts: list[int] = field(default_factory=list[int])  # lines of each document

    def add(self, document: Document, held_out: set[bytes], min_bytes: int) -> None:
        """Digest one document."""
        lines, characters, length = paragraph_digests(document.text, min_bytes)
        held = sum(n for n, line in zip(characters, lines, strict=True) if line in held_out)
        facts = (document.id, len(document.text), length, 0, held)
        for column, value in zip(self.documents.values(), facts, strict=True):
            column.append(value)
        url = document.metadata.get("url")
        self._add_whole(TEXT, document.text)
        self.made_unique += bool(original_id(document.id)[1])
        if isinstance(url, str) and url:
            self._add_whole(URL, url, text=whole_text(document.id))
        self.lines += lines
        self.characters += characters
        self.counts.append(len(lines))

    def _add_whole(self, kind: str, value: str, *, text: int = 0) -> None:
        self.wholes.append(_digest(kind, value))
        self.owners.append(len(self.counts))
        self.kinds.append(COPIES[kind])
        self.texts.append(text)

    def settle(self) -> dict[str, Array]:
        """Count the paragraphs that the batch repeats of itself; return all other keys."""
        number, wholes = len(self.counts), len(self.wholes)
        owner = np.concatenate((self.owners, np.repeat(np.arange(number), self.counts)))
        kind = np.array(self.kinds + [0] * len(self.lines), np.uint8)
        characters = np.array(self.texts + self.characters, np.uint32)
        digests = np.frombuffer(b"".join(self.wholes + self.lines), ">u8").reshape(-1, 2)
        key, low = digests.astype(np.uint64).T
        order = np.lexsort((low[wholes:], key[wholes:])) + wholes  # stable: the first copy stays
        same = (key[order][1:] == key[order][:-1]) & (low[order][1:] == low[order][:-1])
        again = np.zeros(len(key), bool)
        again[order[1:][same]] = True
        repeated = np.bincount(owner[again], characters[again], minlength=number)
        self.documents["repeated"] = repeated.astype(np.uint64).tolist()
        new = ~again
        return {
            "key": key[new],
            "low": low[new],
            "place": owner[new].astype(np.uint64) + np.uint64(self.first),
            "kind": kind[new],
            "characters": characters[new],
        }
