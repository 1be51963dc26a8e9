"""Find where a quote stands in token files, to the letter: by the index, or by reading them all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, zip_longest

import numpy as np

from olmo_core.errors import InputError
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.shard import Postings
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES, WINDOW, winnow

_AT_ONCE = 1 << 18  # tokens read at once
_POSTINGS = 1 << 16  # read at once


@dataclass(frozen=True, kw_only=True, eq=False)
class QuotePlaces:
    """Some places of a quote in a file: tokens [start, stop) hold it, begin and end with it."""

    file: str
    starts: np.ndarray  # (n,), int64; ascending
    stops: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stretches:
    """Some tokens of a file, apart from each other: a place belongs to the one it begins in."""

    starts: np.ndarray  # (n,), int64; ascending
    stops: np.ndarray
    ends: np.ndarray  # how far each is read, as what begins in it may end beyond


class TooShort(InputError):
    """A quote is shorter than what is sure to be found."""


def require_length(quote: bytes) -> None:
    """Refuse a quote that is too short to be found.

    Raises:
        TooShort: says how long it must be.
    """
    if len(quote) < MATCH_BYTES:
        raise TooShort(
            f"a text of {MATCH_BYTES} bytes, about ten words of English, which a quote needs: "
            f"it has {len(quote)}"
        )


class Found:
    """Where a quote stands: every place there is, by file and token, found as it is asked for.

    `indexed` counts the places in the index that may hold it, `unread` those of them that are not
    compared with it so far.

    Args:
        index: Of the tokens.
        text: Their text.
        quote: As tokens hold it (`TokenBytes.of_text`), `MATCH_BYTES` at least.

    Raises:
        TooShort: it is.
        InputError: index or token files are damaged; of these also while places are asked for.
    """

    def __init__(self, index: QuotesIndex, text: TokenText, quote: bytes) -> None:
        require_length(quote)
        chosen = winnow(np.frombuffer(quote, dtype=np.uint8))
        ranges = index.ranges(chosen.hashes)
        # Each hash stands wherever the quote does: the rarest has the fewest places to look at.
        counts = (ranges[..., 1] - ranges[..., 0]).sum(axis=0)
        rarest = int(counts.argmin())
        self.indexed = self.unread = int(counts[rarest])
        self._text, self._quote = text, quote
        self._shards = [*zip(index.shards, ranges[:, rarest].tolist(), strict=True)]
        # Of equal grams in a window the index may hold another one.
        place = int(chosen.places[rarest])
        self._before, self._after = place + WINDOW, len(quote) - place + WINDOW

    @property
    def read(self) -> int:
        """Return how many places of the index are compared so far."""
        return self.indexed - self.unread

    def __iter__(self) -> Iterator[QuotePlaces]:
        """Yield some places after the other."""
        for file, shards in groupby(self._shards, key=lambda each: each[0].shard.file):
            pieces = [
                (shard, at, min(at + _POSTINGS, stop))
                for shard, (first, stop) in shards
                for at in range(first, stop, _POSTINGS)
            ]
            yield from self._of_file(file, pieces)

    def _of_file(
        self, file: str, pieces: Sequence[tuple[Postings, int, int]]
    ) -> Iterator[QuotePlaces]:
        """Yield the places around postings [first, stop) of shards of a file."""
        length, reached = self._text.tokens(file), 0
        tokens = np.empty(0, dtype=np.int64)
        for (shard, first, stop), following in zip_longest(pieces, pieces[1:]):
            found = shard.tokens(first, stop)
            self.unread -= len(tokens) + len(found)
            tokens = np.union1d(tokens, found)  # two shards may know the places at their border
            self.unread += len(tokens)
            upto = length
            if following is not None:
                # No token that is still to come is smaller: what begins before it is known.
                least = int(found.max()) if following[0] is shard else following[0].shard.start
                upto = max(reached, least - self._before)
            starts = np.maximum(tokens - self._before, reached)
            stops = np.minimum(tokens + self._after, length)
            compared = 0
            for part in _parts(*_joined(starts, stops, upto), len(self._quote)):
                before, compared = compared, int((stops <= part.stops[-1]).sum())
                self.unread -= compared - before
                yield _search(self._text, file, part, self._quote)
            tokens, reached = tokens[compared:], upto


def scan(
    text: TokenText, files: dict[str, int], quote: bytes, progress: Callable[[int, int], None]
) -> Iterator[QuotePlaces]:
    """Yield each place of a quote by reading all token files.

    Args:
        text: The tokens' text.
        files: The tokens in each file.
        quote: As tokens hold it, `MATCH_BYTES` at least.
        progress: Told the tokens that are read, and all.

    Raises:
        TooShort: it is.
        InputError: a token file is damaged.
    """
    require_length(quote)
    done, total = 0, sum(files.values())
    progress(done, total)
    for file, tokens in files.items():
        whole = np.array([tokens])
        for part in _parts(np.array([0]), whole, whole, len(quote)):
            yield _search(text, file, part, quote)
            progress(done + int(part.stops[-1]), total)
        done += tokens


def _joined(
    starts: np.ndarray, stops: np.ndarray, upto: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return stretches joined where they meet: starts, stops up to some token, ends beyond it."""
    apart = starts[1:] > stops[:-1]
    starts, ends = starts[np.append(True, apart)], stops[np.append(apart, True)]
    kept = starts < upto
    return starts[kept], np.minimum(ends[kept], upto), ends[kept]


def _parts(
    starts: np.ndarray, stops: np.ndarray, ends: np.ndarray, length: int
) -> Iterator[_Stretches]:
    """Yield stretches in which a quote of so many bytes may begin, some at once.

    What begins in [start, stop) may reach to `end`.
    """
    counts = -(-(stops - starts) // _AT_ONCE)
    numbers = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(starts, counts) + numbers * _AT_ONCE
    stops = np.minimum(starts + _AT_ONCE, np.repeat(stops, counts))
    # A token has a byte at least.
    ends = np.minimum(stops + length, np.repeat(ends, counts))
    batches = np.cumsum(ends - starts) // _AT_ONCE
    edges = [*(np.flatnonzero(np.diff(batches, prepend=-1))).tolist(), len(starts)]
    for first, stop in pairwise(edges):
        part = slice(first, stop)
        yield _Stretches(starts=starts[part], stops=stops[part], ends=ends[part])


def _search(text: TokenText, file: str, part: _Stretches, quote: bytes) -> QuotePlaces:
    """Return the places of a quote in stretches of tokens of a file."""
    content, edges = text.read_each(file, np.stack([part.starts, part.ends], axis=1))
    at = _occurrences(content.tobytes(), quote)
    # Of each stretch its first token, and first byte, in what is joined here.
    tokens = np.append(0, np.cumsum(part.ends - part.starts))
    ends = edges[tokens]
    whose = np.searchsorted(ends, at, "right") - 1
    shift = part.starts[whose] - tokens[whose]
    starts = np.searchsorted(edges, at, "right") - 1 + shift
    stops = np.searchsorted(edges, at + len(quote), "left") + shift
    # What goes on in the next stretch lies elsewhere; what begins in its margin is that one's.
    kept = (at + len(quote) <= ends[whose + 1]) & (starts < part.stops[whose])
    starts, stops = starts[kept], stops[kept]
    # It may stand twice from the same token on.
    once = np.append(True, (np.diff(starts) != 0) | (np.diff(stops) != 0))[: len(starts)]
    return QuotePlaces(file=file, starts=starts[once], stops=stops[once])


def _occurrences(content: bytes, quote: bytes) -> np.ndarray:
    """Return where a quote begins in some bytes, int64, overlapping ones too."""
    found: list[int] = []
    at = content.find(quote)
    while at >= 0:
        found.append(at)
        at = content.find(quote, at + 1)
    return np.array(found, dtype=np.int64)
