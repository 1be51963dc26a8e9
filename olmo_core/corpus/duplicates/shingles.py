"""Runs of words as 64-bit hashes, and their MinHash signatures (library rensa).

A word is what the expression `\\w+` finds in the lower-case text. Words are never taken apart: the
hash of a run is that of its bytes, with a blank after each word, from running sums over the whole
text. So all is done by a few passes of numpy.
"""

import functools
import importlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from olmo_core.corpus.duplicates.columns import Array

ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / the golden ratio: Knuth's multiplier
BLANK, WORD = 1, 2
# Bytes as they are hashed: of ASCII small letters, digits and _, all others blanks. Those of a
# character beyond ASCII stay.
BYTES = bytes(
    ord(character.lower()) if code > 127 or character.isalnum() or character == "_" else 32
    for code, character in enumerate(map(chr, range(256)))
    if code < 128
) + bytes(range(128, 256))
END = b" \xff "  # of a text: a word that no text has
BATCH_CHARACTERS = 1 << 18  # of the texts that are hashed at a time
BLOCK_BYTES = 1 << 17  # summed at a time: in the processor's cache


def in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in order, some at a time."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class Shingler:
    """Hash the runs of `words` words of texts; a shorter text is one run."""

    def __init__(self, words: int) -> None:
        self.words = words
        self._kinds = np.zeros(0x110000, np.uint8)  # of characters beyond ASCII, as they are met
        xxhash: Any = importlib.import_module("xxhash")  # here: definitions load without it
        self._digest = xxhash.xxh3_64_intdigest

    def hashes(self, texts: Sequence[str]) -> tuple[Array, Array, Array]:
        """Hash the runs of each text, in order, repeated ones as often as they are there.

        Returns:
            The hashes of all texts, one after the other; where each text's begin, and the end of
            the last, (texts + 1,); a digest of each text's sequence of words, (texts,).
        """
        whole = END.join([b"", *map(self._of_words, texts), *[b""] * (self.words + 1)])
        content = _single_blanks(np.frombuffer(whole.translate(BYTES), np.uint8))
        gaps = np.flatnonzero(content == 32)  # one before each word
        ends = np.searchsorted(gaps, np.flatnonzero(content == 0xFF)) - 1  # of texts, as words
        ends = ends[: len(texts) + 1]
        first, end = ends[:-1] + 1, ends[1:]
        digests = [
            self._digest(content[a:b])
            for a, b in zip((gaps[first] + 1).tolist(), gaps[end].tolist(), strict=True)
        ]
        runs = _run_sums(content, gaps[: end[-1] + self.words + 1], self.words)
        within = np.ones(len(runs), bool)
        within[: first[0]] = False
        beyond = end[:, None] - np.arange(self.words)  # these would reach beyond the text
        within[np.maximum(beyond, 0)] = False
        short = end - first < self.words
        within[first[short]] = True
        runs[first[short]] = np.array(digests, np.uint64)[short]
        counts = np.maximum(end - first - self.words + 1, 1)
        return (
            mixed(runs[within]),
            np.append(0, np.cumsum(counts)),
            np.array(digests, np.uint64),
        )

    def _of_words(self, text: str) -> bytes:
        """Return a text in which `BYTES` finds all blanks."""
        if text.isascii():
            return text.encode()
        codes = np.frombuffer(text.lower().encode("utf-32-le"), np.uint32)
        for code in np.unique(codes[self._kinds[codes] == 0]).tolist():
            character = chr(code)
            self._kinds[code] = WORD if character.isalnum() or code < 128 else BLANK
        codes = np.where(self._kinds[codes] == BLANK, np.uint32(32), codes)
        return codes.tobytes().decode("utf-32-le").encode()


def _single_blanks(content: Array) -> Array:
    """Return the bytes without the blanks that follow another."""
    kept = content != 32
    kept[1:] |= kept[:-1].copy()
    kept[0] = True
    return np.compress(kept, content)


def _run_sums(content: Array, gaps: Array, words: int) -> Array:
    """Return a hash of each run of words, in order.

    Byte n of a block weighs ODDⁿ. The sum over a run, divided by the weight of its first byte, is
    the same wherever the run stands.

    Args:
        content: Words with one blank before and after each.
        gaps: The places of the blanks.
        words: Of a run.
    """
    runs = np.zeros(max(0, len(gaps) - words), np.uint64)
    begin = 0
    while begin < len(runs):
        reach: list[int] = np.searchsorted(gaps, [gaps[begin] + BLOCK_BYTES], "right").tolist()
        last = max(reach[0] - 1, begin + words)  # gap at which the block ends
        at = gaps[begin : last + 1] - gaps[begin]
        size = int(gaps[last] - gaps[begin])
        weights, inverse = _weights(max(size, BLOCK_BYTES))
        sums = np.zeros(size + 1, np.uint64)
        block = content[gaps[begin] + 1 : gaps[begin] + 1 + size]
        np.multiply(block, weights[:size], out=sums[1:])
        np.cumsum(sums, out=sums)
        found = sums[at]
        runs[begin : last - words + 1] = (found[words:] - found[:-words]) * inverse[at[:-words]]
        begin = last - words + 1
    return runs


@functools.lru_cache(maxsize=1)
def _weights(size: int) -> tuple[Array, Array]:
    """Return the powers of ODD, and their inverses modulo 2**64."""
    inverse = np.uint64(pow(int(ODD), -1, 1 << 64))
    powers = (np.full(size, base) for base in (ODD, inverse))
    weights, inverses = map(np.cumprod, powers)
    return weights, inverses


def mixed(values: Array) -> Array:
    """Spread 64-bit values evenly (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def signatures(hashes: Array, offsets: Array, *, permutations: int, seed: int) -> Array:
    """Return the MinHash signature of each text, (texts, permutations)."""
    rensa: Any = importlib.import_module("rensa")
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets.astype(np.uint64), permutations, seed
    )
    pack = struct.Struct(f"{permutations}I").pack  # values of 32 bits
    packed = b"".join([pack(*row) for row in matrix.to_rows()])
    return np.frombuffer(packed, np.uint32).astype(np.uint64).reshape(-1, permutations)


def band_keys(signed: Array, bands: int) -> Array:
    """Return a key of each band of each signature, (texts, bands); other bands have other keys."""
    rows = signed.reshape(len(signed), bands, -1)
    keys = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), rows.shape[:2])
    for row in range(rows.shape[2]):
        keys = mixed(keys ^ rows[:, :, row]) * ODD
    return keys


def jaccard(one: Array, other: Array) -> float:
    """Return the Jaccard similarity of two sets, each an array of different values, sorted."""
    both = np.concatenate((one, other))
    both.sort()
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)
