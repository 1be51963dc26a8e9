"""A sample of a source's documents, as stretches of its token files that end where documents end.

It does not matter in which order the files hold the documents: the stretches lie all over the
source. Only the tokens near their ends are read, so a source may have any size.
"""

import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from olmo_core.data.format import TokenFile, read_tokens
from olmo_core.data.order import FeistelOrder

STRETCHES = 256  # of a sample, about: it stands for the source, and its manifest stays small

_FIRST_READ_TOKENS, _MOST_READ_TOKENS = 1 << 12, 1 << 22
_LONG_TOKENS = 1 << 16  # the ends of longer documents are looked for once


class SourceTokens:
    """The token files of a source joined end to end; a place is a number of tokens in the join.

    Args:
        files: At least one, with headers: EOS ends a document, and so does the end of a file.
    """

    def __init__(self, files: Sequence[TokenFile]) -> None:
        header = files[0].header
        assert header is not None
        self.files = files
        self._eos = header.eos_token_id
        self._starts = [0, *accumulate(file.tokens for file in files)]
        self._long: list[tuple[int, int]] = []  # (end, place) with no end after the one, up to both

    @property
    def tokens(self) -> int:
        """Return the number of tokens of all files."""
        return self._starts[-1]

    def end_before(self, place: int) -> int:
        """Return the last place at or before this one where a document ends; 0 is one."""
        for end, known in self._long:
            if end <= place <= known:
                return end
        number = bisect.bisect_right(self._starts, place) - 1
        first = self._starts[number]
        stop, size = place - first, _FIRST_READ_TOKENS
        while stop > 0:
            start = max(0, stop - size)
            ends = self._ends(number, start, stop)
            if len(ends):
                stop = start + int(ends[-1]) + 1
                break
            stop, size = start, min(2 * size, _MOST_READ_TOKENS)
        if place - first - stop > _LONG_TOKENS:
            self._long.append((first + stop, place))
        return first + stop

    def end_after(self, place: int) -> int:
        """Return the first place after this one where a document ends."""
        number = bisect.bisect_right(self._starts, place) - 1
        first = self._starts[number]
        start, size = place - first, _FIRST_READ_TOKENS
        while start < self.files[number].tokens:
            stop = min(self.files[number].tokens, start + size)
            ends = self._ends(number, start, stop)
            if len(ends):
                return first + start + int(ends[0]) + 1
            start, size = stop, min(2 * size, _MOST_READ_TOKENS)
        return self._starts[number + 1]

    def parts(self, start: int, stop: int) -> Iterator[tuple[TokenFile, int, int]]:
        """Yield (file, start, stop) of the tokens between two places."""
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            first, last = self._starts[number], min(stop, self._starts[number + 1])
            yield self.files[number], start - first, last - first
            start, number = last, number + 1

    def _ends(self, number: int, start: int, stop: int) -> np.ndarray:
        return np.flatnonzero(read_tokens(self.files[number], start, stop) == self._eos)


def sample(source: SourceTokens, tokens: int) -> list[tuple[int, int]]:
    """Return the stretches [start, stop) of a sample, in the order of their places.

    The source is cut into equal blocks; a document belongs to the block that it ends in, so that
    each has the same chance, whatever its length. Blocks are taken in the order of a keyed
    permutation, and the last one up to the document's end that is nearest.

    Args:
        source: What to take from.
        tokens: How many, fewer than the source has; met up to half of one document.

    Returns:
        No stretch where the document that would be the first has twice as many tokens or more.
    """
    blocks = min(STRETCHES * source.tokens // tokens, source.tokens)
    chosen, left = list[tuple[int, int]](), tokens
    for block in _permuted(blocks):
        edges = (source.tokens * edge // blocks for edge in (block, block + 1))
        start, stop = map(source.end_before, edges)
        last = stop - start >= left
        if last:
            cut = start + left
            below = source.end_before(cut)
            above = cut if below == cut else source.end_after(cut)
            stop = below if cut - below <= above - cut else above
        if start < stop:
            chosen.append((start, stop))
        if last:
            break
        left -= stop - start
    return _joined(sorted(chosen))


def _permuted(count: int) -> Iterator[int]:
    """Yield 0 … count - 1 in the order of a permutation that is the same everywhere."""
    order = FeistelOrder(count, seed=0, epoch=0)
    for first in range(0, count, STRETCHES):
        yield from order.windows(np.arange(first, min(count, first + STRETCHES))).tolist()


def _joined(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same places, neighbours as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in stretches:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    return joined
