"""What parts of a text stand in token files, word for word, as far as each match reaches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.matches import COLUMNS, Matcher
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES, gram_places, winnow

# Returns the first token of the document of each token of a file, and one after its last: (n, 2).
BoundsOf = Callable[[str, np.ndarray], np.ndarray]

_FIRST, _LAST = COLUMNS.index("first"), COLUMNS.index("last")


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """A part of a text that a document holds, and that reaches as far as both are equal."""

    first: int  # bytes [first, last) of the text
    last: int
    file: str
    document: int  # tokens [document, end) of the file are the document's
    end: int
    start: int  # tokens [start, stop) of the file hold it
    stop: int
    edges: np.ndarray  # (stop - start + 1,): where each token begins in the text; int64

    def within(self, start: int, stop: int) -> "Passage | None":
        """Return what tokens [start, stop) of the file hold of it; None: less than a match."""
        start, stop = max(start, self.start), min(stop, self.stop)
        if start >= stop:
            return None
        edges = self.edges[start - self.start : stop - self.start + 1]
        first, last = max(self.first, int(edges[0])), min(self.last, int(edges[-1]))
        if last - first < MATCH_BYTES:
            return None
        return Passage(
            first=first,
            last=last,
            file=self.file,
            document=self.document,
            end=self.end,
            start=start,
            stop=stop,
            edges=edges,
        )


class Passages:
    """The passages of a text, the longest first, and how much was not looked at.

    Args:
        text: Of the tokens.
        content: The text.
        files: Of each passage its file.
        rows: A passage each, as `COLUMNS` say.
        left: Of each hash the places in the index that were not looked at.
    """

    def __init__(
        self,
        text: TokenText,
        content: bytes,
        files: Sequence[str],
        rows: np.ndarray,
        left: dict[int, int],
    ) -> None:
        order = np.argsort(rows[:, _FIRST] - rows[:, _LAST], kind="stable")
        self._rows = rows[order]
        self._files = [files[int(number)] for number in order]
        self._text, self._content, self._left = text, content, left
        self.unread = sum(left.values())

    def __len__(self) -> int:
        """Return how many passages there are."""
        return len(self._rows)

    def __getitem__(self, number: int) -> Passage:
        """Return a passage.

        Raises:
            IndexError: there are not so many.
            InputError: the tokens cannot be read.
        """
        row: dict[str, int] = dict(zip(COLUMNS, self._rows[number].tolist(), strict=True))
        head, file = row.pop("head"), self._files[number]
        _, edges = self._text.read(file, row["start"], row["stop"])
        return Passage(file=file, edges=edges + head, **row)

    @property
    def lengths(self) -> np.ndarray:
        """Return the bytes of each passage, int64."""
        return self._rows[:, _LAST] - self._rows[:, _FIRST]

    def inside(self, first: int, last: int) -> np.ndarray:
        """Return which passages lie within bytes [first, last) of the text."""
        return (first <= self._rows[:, _FIRST]) & (self._rows[:, _LAST] <= last)

    def holding(self, first: int, last: int) -> int:
        """Return how many passages hold bytes [first, last) of the text."""
        return int(((self._rows[:, _FIRST] <= first) & (last <= self._rows[:, _LAST])).sum())

    def unread_of(self, first: int, last: int) -> int:
        """Return the places in the index that may hold a part of the text, and were not looked at.

        Each of its hashes stands wherever it does: if all places of any were looked at, none is
        missing.

        Args:
            first: Its first byte.
            last: One after its last; `MATCH_BYTES` at least.
        """
        part = np.frombuffer(self._content[first:last], dtype=np.uint8)
        return min(self._left[each] for each in winnow(part).hashes.tolist())


def passages(
    index: QuotesIndex, text: TokenText, content: bytes, bounds_of: BoundsOf, *, most: int
) -> Passages:
    """Return the passages of a text, each as long as it is equal to a document.

    Every match of `MATCH_BYTES` or more is among them, unless all its fingerprints are among those
    of which places are left unread. Those are the commonest: of each the first places are looked
    at, as many of each as there may be of all.

    Args:
        index: Of the tokens.
        text: Their text.
        content: What is looked for, as tokens hold it (`TokenBytes.of_text`).
        bounds_of: Knows the document of a token.
        most: Places in the index that are looked at, each as often as the text repeats what stands
            there.

    Raises:
        InputError: index, token files or documents index are damaged.
    """
    grams = gram_places(np.frombuffer(content, dtype=np.uint8))
    ranges = index.ranges(np.array([*grams], dtype=np.uint64))
    counts = (ranges[..., 1] - ranges[..., 0]).sum(axis=0)
    repeats = np.array([len(each) for each in grams.values()])
    wanted = _shares(counts, repeats, most)
    places, before = np.concatenate([*grams.values()]), np.cumsum(repeats) - repeats
    files: list[str] = []
    rows = [np.empty((0, len(COLUMNS)), dtype=np.int64)]
    matcher = Matcher(text, content)
    for file, tokens, numbers in _candidates(index, ranges, wanted):
        bounds = bounds_of(file, tokens)
        # Each with all places of its gram in the text.
        each = np.repeat(np.arange(len(tokens)), repeats[numbers])
        nth = np.arange(len(each)) - np.searchsorted(each, each, "left")
        place = places[before[numbers[each]] + nth]
        found = _unique(matcher.matches(file, tokens[each], place, bounds[each]))
        rows.append(found)
        files += [file] * len(found)
    left = dict(zip(grams, (counts - wanted).tolist(), strict=True))
    return Passages(text, content, files, np.concatenate(rows), left)


def _shares(counts: np.ndarray, repeats: np.ndarray, most: int) -> np.ndarray:
    """Return how many places of each hash are looked at: the same for all, but what is rarer whole.

    Args:
        counts: Places of each in the index.
        repeats: And in the text: so often each one is looked at.
        most: Of all.
    """
    low, high = 0, int((counts * repeats).max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        if int((np.minimum(counts, middle // repeats) * repeats).sum()) <= most:
            low = middle
        else:
            high = middle - 1
    return np.minimum(counts, low // repeats)


def _candidates(
    index: QuotesIndex, ranges: np.ndarray, wanted: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield, by file, the tokens in which one of the hashes begins, ascending, and its number.

    Of each hash the first ones in order, as many as are wanted.
    """
    lengths = ranges[..., 1] - ranges[..., 0]
    taken = np.clip(wanted - (np.cumsum(lengths, axis=0) - lengths), 0, lengths)
    shards = zip(index.shards, ranges[..., 0], taken, strict=True)
    for file, of_file in groupby(shards, key=lambda row: row[0].shard.file):
        found = [
            (number, shard.tokens(int(firsts[number]), int(firsts[number] + counts[number])))
            for shard, firsts, counts in of_file
            for number in np.flatnonzero(counts).tolist()
        ]
        if found:
            tokens = np.concatenate([tokens for _, tokens in found])
            numbers = np.concatenate([np.full(len(tokens), number) for number, tokens in found])
            both = _unique(np.stack([tokens, numbers], axis=1))  # at borders two shards know it
            yield file, both[:, 0], both[:, 1]


def _unique(rows: np.ndarray) -> np.ndarray:
    """Return the rows of a table, sorted, each once."""
    rows = rows[np.lexsort(rows.T[::-1])]
    return rows[np.append(True, (rows[1:] != rows[:-1]).any(axis=1))[: len(rows)]]
