"""Runs of words as 64-bit hashes, and their MinHash signatures (library rensa).

A word is what the expression `\\w+` finds in the lower-case text. The regular expression itself was
most of the time that near copies took; a table of characters and a cache of words say the same.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from olmo_core.corpus.duplicates.keys import Array

CACHED_WORDS = 1 << 20
ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / the golden ratio: Knuth's multiplier


class _Blanks(dict[int, int]):
    """For `str.translate`: every character that is not of a word becomes a blank."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        self[code] = code if character.isalnum() or character == "_" else ord(" ")
        return self[code]


class _WordHashes(dict[str, int]):
    """The hash of each word, kept for those that were seen lately."""

    def __init__(self) -> None:
        xxhash: Any = importlib.import_module("xxhash")  # here: definitions load without it
        self._digest = xxhash.xxh3_64_intdigest

    def __missing__(self, word: str) -> int:
        if len(self) >= CACHED_WORDS:
            self.clear()
        self[word] = self._digest(word.encode())
        return self[word]


class Shingler:
    """Hash the runs of `words` words of texts; a shorter text is one run."""

    def __init__(self, words: int) -> None:
        self.words = words
        self._blanks = _Blanks()
        self._hashes = _WordHashes()
        xxhash: Any = importlib.import_module("xxhash")
        self._digest = xxhash.xxh3_64_intdigest

    def hashes(self, texts: Sequence[str]) -> tuple[Array, Array, Array]:
        """Hash the runs of each text, in order, repeated ones as often as they are there.

        Returns:
            The hashes of all texts, one after the other; where each text's begin, and the end of
            the last, (texts + 1,); a digest of each text's sequence of words, (texts,).
        """
        split = [text.lower().translate(self._blanks).split() for text in texts]
        for words in split:
            words += [""] * (self.words - len(words))
        get = self._hashes.__getitem__
        each = [np.fromiter(map(get, words), np.uint64, len(words)) for words in split]
        digests = np.array([self._digest(hashes.tobytes()) for hashes in each], np.uint64)
        flat = np.concatenate(each)
        ends = np.cumsum([len(words) for words in split])
        runs = np.zeros(len(flat) - self.words + 1, np.uint64)
        for skipped in range(self.words):
            runs = (runs ^ flat[skipped : skipped + len(runs)]) * ODD
        within = np.ones(len(flat), bool)
        within[ends[:, None] - np.arange(1, self.words)] = False  # would reach into the next text
        offsets = np.append(0, ends - (self.words - 1) * np.arange(1, len(ends) + 1))
        return mixed(runs)[within[: len(runs)]], offsets, digests


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
    return np.array(matrix.to_rows(), np.uint64)


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
