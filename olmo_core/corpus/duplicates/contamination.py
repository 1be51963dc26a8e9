"""Find evaluation texts inside documents by runs of words, whatever surrounds them.

Words are runs of letters and digits, case folded: neither case nor punctuation, line breaks,
bullets or markup hides a copy. What counts is the share of the *evaluation* text that a document
covers, so that one short text inside a long page is found. Runs of 13 words are the measure of
GPT-3's clean-up (Brown et al. 2020, arXiv:2005.14165, appendix C).
"""

import functools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplication by it loses nothing
_BLOCK = 1 << 20  # characters hashed at a time


@functools.cache
def _in_words() -> np.ndarray:
    """Return which code points are of words, bool (0x110000,)."""
    return np.fromiter(map(str.isalnum, map(chr, range(0x110000))), dtype=bool, count=0x110000)


@functools.cache
def _powers() -> np.ndarray:
    """Return the weight of each place of a word, uint64; those of longer words come again."""
    return np.cumprod(np.full(1 << 12, _BASE))


def _folded(text: str) -> str:
    if not text.isascii():  # composed or not, wide or not, ß or SS
        text = unicodedata.normalize("NFKC", text)
    return text.casefold()


def word_hashes(text: str) -> np.ndarray:
    """Return a hash of each word of a text, uint64 (words,)."""
    return _in_blocks(_folded(text))


def _in_blocks(text: str) -> np.ndarray:
    blocks: list[np.ndarray] = []
    begin = 0
    while begin < len(text):
        end = begin + _BLOCK
        while end < len(text) and text[end].isalnum():  # not within a word
            end += 1
        blocks.append(_hashes(text[begin:end])[0])
        begin = end
    return np.concatenate([np.zeros(0, np.uint64), *blocks])


def _hashes(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash of each word of a folded text, and the place of its first character."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    places = np.flatnonzero(_in_words()[codes])
    first = np.flatnonzero(np.diff(places, prepend=-2) > 1)  # of each word, among `places`
    if not len(first):
        return np.zeros(0, np.uint64), first
    lengths = np.diff(first, append=len(places))
    within = np.arange(len(places)) - np.repeat(first, lengths)
    weighted = codes[places] * _powers()[within & (len(_powers()) - 1)]
    hashes = np.add.reduceat(weighted, first)
    # Spread over all bits (the finalizer of splitmix64, Steele et al. 2014): runs add them up.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    return hashes ^ (hashes >> np.uint64(31)), places[first]


def _batches(texts: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the hashes of the words of some texts, and how many words are in each of these.

    Several short texts are hashed at once: one by one, numpy's calls would take ten times as long.
    """
    folded: list[str] = []
    size = 0
    for text in chain(map(_folded, texts), [None]):
        if folded and (text is None or size + len(text) > _BLOCK):
            if len(folded) == 1:
                words = _in_blocks(folded[0])
                yield words, np.array([len(words)])
            else:
                words, places = _hashes("\n".join(folded))
                begins = np.cumsum([0, *(len(each) + 1 for each in folded)])
                yield words, np.diff(np.searchsorted(places, begins))
            folded, size = [], 0
        if text is not None:
            folded.append(text)
            size += len(text) + 1


def run_hashes(words: np.ndarray, lengths: Sequence[int]) -> dict[int, np.ndarray]:
    """Return the hash of each run of words, uint64 (words - length + 1,), by its length.

    Args:
        words: From `word_hashes`.
        lengths: Of runs, in words; those longer than the text are left out.
    """
    found: dict[int, np.ndarray] = {}
    longest = min(max(lengths, default=0), len(words))
    hashes = np.zeros(len(words), dtype=np.uint64)
    for length in range(1, longest + 1):
        hashes = hashes[: len(words) - length + 1] * _BASE + words[length - 1 :]
        if length in lengths:
            found[length] = hashes
    return found


@dataclass(frozen=True, kw_only=True)
class EvaluationTexts:
    """The runs of words of many texts, sorted by their hashes. The texts lie end to end."""

    begins: np.ndarray  # int64 (texts + 1,): each text's first word, and the end of the last
    runs: np.ndarray  # int64 (texts,): words of a run; of a shorter text, all its words
    hashes: np.ndarray  # uint64 (number of runs,), sorted
    places: np.ndarray  # int64 (number of runs,): the run's first word

    @classmethod
    def of(cls, texts: Iterable[str], *, run_words: int, min_words: int) -> "EvaluationTexts":
        """Index texts; one of fewer than `min_words` words has no run and is never found."""
        sizes, hashes, places = [list[np.ndarray]() for _ in range(3)]
        begin = 0  # the batch's first word
        for words, counts in _batches(texts):
            ends = np.cumsum(counts)
            runs = np.minimum(counts, run_words)
            there = np.unique(runs[runs >= min_words]).tolist()
            for length, found in run_hashes(words, there).items():
                first = np.arange(len(found))
                text = np.searchsorted(ends, first, side="right")
                own = np.flatnonzero((runs[text] == length) & (first + length <= ends[text]))
                hashes.append(found[own])
                places.append(begin + own)
            sizes.append(counts)
            begin += len(words)
        joined = np.concatenate([np.zeros(0, np.uint64), *hashes])
        order = np.argsort(joined, kind="stable")
        words_of_each = np.concatenate([np.zeros(0, np.int64), *sizes])
        return cls(
            begins=np.cumsum(np.append(0, words_of_each)),
            runs=np.minimum(words_of_each, run_words),
            hashes=joined[order],
            places=np.concatenate([np.zeros(0, np.int64), *places])[order],
        )

    @functools.cached_property
    def lengths(self) -> list[int]:
        """The lengths of runs that there are, in words."""
        return np.unique(self.runs[self.runs > 0]).tolist()

    @functools.cached_property
    def _filter(self) -> tuple[np.uint64, np.ndarray]:
        """How far a hash is shifted to its place in an array of bools: whether some begin so.

        Almost all runs of a corpus are in no evaluation text, and a search takes much longer.
        """
        bits = min(max(len(self.hashes).bit_length() + 4, 16), 26)
        shift = np.uint64(64 - bits)
        there = np.zeros(1 << bits, dtype=bool)
        there[self.hashes >> shift] = True
        return shift, there

    def covered(self, text: str) -> list[tuple[int, float]]:
        """Return which evaluation texts a text holds some of: their numbers, and the share of each.

        The share is of the evaluation text's words, those in any run that both have.
        """
        if not len(self.hashes):
            return []
        places = [self._places(h) for h in run_hashes(word_hashes(text), self.lengths).values()]
        found = np.unique(np.concatenate([np.zeros(0, np.int64), *places]))
        if not len(found):
            return []
        texts = np.searchsorted(self.begins, found, side="right") - 1
        # A run's own words, up to where the next run of the same text begins.
        ends = np.minimum(found + self.runs[texts], self.begins[texts + 1])
        following = np.append(found[1:], ends[-1])
        words = np.minimum(following, ends) - found
        numbers, at = np.unique(texts, return_index=True)
        sums = np.add.reduceat(words, at)
        shares = sums / (self.begins[numbers + 1] - self.begins[numbers])
        return list(zip(numbers.tolist(), shares.tolist(), strict=True))

    def _places(self, hashes: np.ndarray) -> np.ndarray:
        """Return where in the evaluation texts any of these runs begins."""
        shift, there = self._filter
        wanted = np.unique(hashes[there[hashes >> shift]])
        low, high = (np.searchsorted(self.hashes, wanted, side) for side in ("left", "right"))
        ranges = [self.places[a:b] for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        return np.concatenate([np.zeros(0, np.int64), *ranges])

    def save(self, folder: Path) -> None:
        """Write the arrays, a file each, which processes may share."""
        folder.mkdir(parents=True)
        for each in fields(self):
            np.save(folder / f"{each.name}.npy", getattr(self, each.name))

    @classmethod
    def load(cls, folder: Path) -> "EvaluationTexts":
        """Map the arrays of `save` into memory."""
        arrays: dict[str, Any] = {
            each.name: np.load(folder / f"{each.name}.npy", mmap_mode="r") for each in fields(cls)
        }
        return cls(**arrays)
