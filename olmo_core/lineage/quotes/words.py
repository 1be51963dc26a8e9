"""Bytes compared eight at once, from many places at once."""

import numpy as np

_WORD = 8  # bytes
# Numbers below the first of these differ in the lowest byte, below the second in the next, and on.
_LOWEST = np.uint64(1) << np.arange(_WORD, 8 * _WORD, 8, dtype=np.uint64)


class Words:
    """Some bytes, and the eight from any of them on as a number.

    Args:
        content: uint8 (n,).
    """

    def __init__(self, content: np.ndarray) -> None:
        self.size = len(content)
        padded = np.zeros(_WORD + self.size + _WORD, dtype=np.uint8)
        padded[_WORD : _WORD + self.size] = content
        count = self.size + _WORD + 1
        self._words = np.ndarray((count,), dtype="<u8", buffer=padded, strides=(1,))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the eight bytes from each place on, uint64; zeros lie before and behind all."""
        return self._words[places + _WORD]


def equal_after(
    one: Words, at: np.ndarray, other: Words, place: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """Return how many bytes from some places on are equal, int64, up to `most` of each."""
    found = np.zeros(len(at), dtype=np.int64)
    rows = np.flatnonzero(most > 0)
    while len(rows):
        done = found[rows]
        unlike = one.at(at[rows] + done) ^ other.at(place[rows] + done)
        lowest = unlike & (~unlike + np.uint64(1))  # its lowest bit that is set
        same = np.where(unlike == 0, _WORD, np.searchsorted(_LOWEST, lowest, "right"))
        found[rows] = np.minimum(done + same, most[rows])
        rows = rows[(unlike == 0) & (found[rows] < most[rows])]
    return found


def equal_before(
    one: Words, at: np.ndarray, other: Words, place: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """Return how many bytes before some places are equal, int64, up to `most` of each."""
    found = np.zeros(len(at), dtype=np.int64)
    rows = np.flatnonzero(most > 0)
    while len(rows):
        done = found[rows] + _WORD
        unlike = one.at(at[rows] - done) ^ other.at(place[rows] - done)
        highest = np.searchsorted(_LOWEST, unlike, "right")  # byte of it that is not zero
        same = np.where(unlike == 0, _WORD, _WORD - 1 - highest)
        found[rows] = np.minimum(done - _WORD + same, most[rows])
        rows = rows[(unlike == 0) & (found[rows] < most[rows])]
    return found
