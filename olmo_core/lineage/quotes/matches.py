"""The matches of a text with token files around places where they share a gram, many at once."""

import numpy as np

from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import GRAM_BYTES, MATCH_BYTES
from olmo_core.lineage.quotes.words import Words, equal_after, equal_before

_MARGIN = 64  # tokens around a candidate that are read first
_AT_ONCE = 1 << 19  # tokens read at once

# Columns of a match. Bytes [first, last) of the text stand in tokens [start, stop) of a file, whose
# first begins at byte `head` of the text: before `first` where it holds more. The document is the
# file's tokens [document, end).
COLUMNS = ("start", "first", "last", "stop", "head", "document", "end")


class Matcher:
    """Extend shared grams as far as a text and the documents that hold them are equal.

    Args:
        text: Of the tokens.
        content: What is looked for.
    """

    def __init__(self, text: TokenText, content: bytes) -> None:
        self._text = text
        wanted = np.frombuffer(content, dtype=np.uint8)
        self._words, self._size = Words(wanted), len(wanted)
        # Of each byte the first from it on that begins a character, and the last up to it.
        begins = np.append((wanted & 0xC0) != 0x80, True)
        numbers = np.arange(self._size + 1)
        following = np.where(begins, numbers, self._size)[::-1]
        self._next = np.minimum.accumulate(following)[::-1]
        self._previous = np.maximum.accumulate(np.where(begins, numbers, 0))

    def matches(
        self, file: str, tokens: np.ndarray, places: np.ndarray, bounds: np.ndarray
    ) -> np.ndarray:
        """Return the matches through some grams, in whole characters, int64 (n, `COLUMNS`).

        One may be there more than once. Those of less than `MATCH_BYTES` are left out.

        Args:
            file: The token file.
            tokens: In which a gram begins; ascending.
            places: Where the gram stands in the text.
            bounds: The first token of each one's document, and one after its last, (n, 2).

        Raises:
            InputError: the token file is damaged.
        """
        found = [np.empty((0, len(COLUMNS)), dtype=np.int64)]
        margin = min(_MARGIN, self._size)
        while len(tokens):
            cut: list[np.ndarray] = []
            size = max(1, _AT_ONCE // (2 * margin))
            for first in range(0, len(tokens), size):
                part = slice(first, first + size)
                some, again = self._around(file, tokens[part], places[part], bounds[part], margin)
                found.append(some)
                cut.append(again)
            # Where a match may go on beyond what was read, more is.
            rest = np.concatenate(cut)
            tokens, places, bounds = tokens[rest], places[rest], bounds[rest]
            margin = min(4 * margin, self._size)
        return np.concatenate(found)

    def _around(
        self, file: str, tokens: np.ndarray, places: np.ndarray, bounds: np.ndarray, margin: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the matches within so many tokens of each candidate, and of which more is needed.

        A candidate of which more is needed has no matches yet.
        """
        starts = np.maximum(bounds[:, 0], tokens - margin)
        stops = np.minimum(bounds[:, 1], tokens + margin + 1)
        apart = (starts[1:] > stops[:-1]) | (bounds[1:, 0] != bounds[:-1, 0])
        heads, tails = np.append(True, apart), np.append(apart, True)
        starts, stops, whose = starts[heads], stops[tails], np.cumsum(heads) - 1
        content, edges = self._text.read_each(file, np.stack([starts, stops], axis=1))
        words = Words(content)
        base = np.append(0, np.cumsum(stops - starts))  # of each stretch its first token, joined
        low, high = edges[base[whose]], edges[base[whose + 1]]
        joined = tokens - starts[whose] + base[whose]
        upto = np.minimum(edges[joined + 1], high - GRAM_BYTES + 1)
        which, at = self._grams(words, edges[joined], upto, places)
        low, high, whose, place, bounds = (
            low[which],
            high[which],
            whose[which],
            places[which],
            bounds[which],
        )
        before = equal_before(words, at, self._words, place, np.minimum(at - low, place))
        behind = at + GRAM_BYTES, place + GRAM_BYTES
        most = np.minimum(high - behind[0], self._size - behind[1])
        after = equal_after(words, behind[0], self._words, behind[1], most)
        first, last = place - before, behind[1] + after
        shift = at - place
        again = np.zeros(len(tokens), dtype=np.bool_)
        if margin < self._size:  # a token has a byte at least: farther no match reaches
            goes_on = (first + shift == low) & (starts[whose] > bounds[:, 0])
            goes_on |= (last + shift == high) & (stops[whose] < bounds[:, 1])
            again[which[goes_on]] = True
        first = np.minimum(self._next[first], last)
        last = np.maximum(self._previous[last], first)
        start = np.searchsorted(edges, first + shift, "right") - 1
        stop = np.searchsorted(edges, last + shift, "left")
        to_file = starts[whose] - base[whose]
        columns = [start + to_file, first, last, stop + to_file, edges[start] - shift, *bounds.T]
        kept = ~again[which] & (last - first >= MATCH_BYTES)
        return np.stack(columns, axis=1)[kept], again

    def _grams(
        self, words: Words, first: np.ndarray, upto: np.ndarray, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which candidates' grams stand in bytes [first, upto), and where each does."""
        which = [np.empty(0, dtype=np.int64)]
        found = [np.empty(0, dtype=np.int64)]
        rows, offset = np.flatnonzero(first < upto), 0
        while len(rows):
            at, place = first[rows] + offset, places[rows]
            same = words.at(at) == self._words.at(place)
            for step in range(8, GRAM_BYTES, 8):
                same &= words.at(at + step) == self._words.at(place + step)
            which.append(rows[same])
            found.append(at[same])
            offset += 1
            rows = rows[first[rows] + offset < upto[rows]]
        return np.concatenate(which), np.concatenate(found)
