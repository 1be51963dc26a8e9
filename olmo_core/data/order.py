"""The order of windows: a pure function of (count, algorithm, version, seed, epoch).

`olmo` is the shuffle of OLMo's trainer, number for number; it holds one number per window.
`feistel` computes any single position in constant time and memory, and can be inverted. Both are
versioned: a changed algorithm gets a new version, and golden hashes pin the old ones.
"""

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

OrderName = Literal["olmo", "feistel"]
VERSIONS: dict[OrderName, int] = {"olmo": 1, "feistel": 1}

_FEISTEL_ROUNDS = 8


class OlmoOrder:
    """OLMo's permutation of 0 … count - 1: uint32, shuffled by PCG64 seeded with seed + epoch.

    Source: allenai/OLMo `olmo/data/iterable_dataset.py`, `_build_global_indices`.
    """

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        if count >= np.iinfo(np.uint32).max:
            raise ValueError(f"order 'olmo' holds at most 2**32 - 2 windows, found {count}")
        self._shuffled = np.arange(count, dtype=np.uint32)
        np.random.Generator(np.random.PCG64(seed=seed + epoch)).shuffle(self._shuffled)

    def windows(self, positions: np.ndarray) -> np.ndarray:
        """Return the windows at these positions of the epoch, int64, same shape."""
        return self._shuffled[_checked(positions, len(self._shuffled))].astype(np.int64)

    def positions(self, windows: np.ndarray) -> np.ndarray:
        """Return the positions of these windows in the epoch, int64, same shape: the inverse."""
        return self._inverse[_checked(windows, len(self._shuffled))].astype(np.int64)

    @functools.cached_property
    def _inverse(self) -> np.ndarray:
        inverse = np.empty_like(self._shuffled)
        inverse[self._shuffled] = np.arange(len(inverse), dtype=np.uint32)
        return inverse


class FeistelOrder:
    """A keyed Feistel network over a grid of rows × columns that just covers `count`.

    A number is a (row, column) pair. Each round adds a hash of one to the other, modulo its size,
    so subtracting undoes a round. The grid has fewer than 2·√count + 1 surplus cells. A number that
    lands on one goes through the network again (cycle walking), which keeps the map a permutation.
    After Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (2002).
    """

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        if count > 1 << 62:
            raise ValueError(f"order 'feistel' holds at most 2**62 windows, found {count}")
        self._count = count
        self._rows = np.uint64(math.isqrt(count - 1) + 1)
        self._columns = np.uint64(-(-count // int(self._rows)))
        key = f"olmo_core feistel/{VERSIONS['feistel']} seed={seed} epoch={epoch} count={count}"
        digest = hashlib.blake2b(key.encode(), digest_size=8 * _FEISTEL_ROUNDS).digest()
        self._keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def windows(self, positions: np.ndarray) -> np.ndarray:
        """Return the windows at these positions of the epoch, int64, same shape."""
        return self._walk(_checked(positions, self._count), self._forward)

    def positions(self, windows: np.ndarray) -> np.ndarray:
        """Return the positions of these windows in the epoch, int64, same shape: the inverse."""
        return self._walk(_checked(windows, self._count), self._backward)

    def _walk(self, numbers: np.ndarray, once: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        out = once(numbers.astype(np.uint64))
        while (outside := out >= np.uint64(self._count)).any():
            out[outside] = once(out[outside])
        return out.astype(np.int64)

    def _forward(self, numbers: np.ndarray) -> np.ndarray:
        row, column = np.divmod(numbers, self._columns)
        for turn in range(0, _FEISTEL_ROUNDS, 2):
            row = (row + _mixed(column, self._keys[turn]) % self._rows) % self._rows
            column = (column + _mixed(row, self._keys[turn + 1]) % self._columns) % self._columns
        return row * self._columns + column

    def _backward(self, numbers: np.ndarray) -> np.ndarray:
        row, column = np.divmod(numbers, self._columns)
        for turn in range(_FEISTEL_ROUNDS - 2, -1, -2):
            back = self._columns - _mixed(row, self._keys[turn + 1]) % self._columns
            column = (column + back) % self._columns
            back = self._rows - _mixed(column, self._keys[turn]) % self._rows
            row = (row + back) % self._rows
        return row * self._columns + column


Order = OlmoOrder | FeistelOrder


def make_order(name: OrderName, *, count: int, seed: int, epoch: int) -> Order:
    """Return the order of `count` windows in one epoch.

    Raises:
        ValueError: unknown name, nothing to order, or more windows than the algorithm supports.
    """
    if name not in VERSIONS:
        raise ValueError(f"order {name!r}: expected one of {', '.join(VERSIONS)}")
    if count < 1:
        raise ValueError(f"order of {count} windows: there must be at least one")
    return OlmoOrder(count, seed, epoch) if name == "olmo" else FeistelOrder(count, seed, epoch)


def _mixed(numbers: np.ndarray, key: np.uint64) -> np.ndarray:
    """Return splitmix64's finaliser of number + key, uint64, wrapping."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _checked(numbers: np.ndarray, count: int) -> np.ndarray:
    if numbers.size and (int(numbers.min()) < 0 or int(numbers.max()) >= count):
        raise IndexError(f"expected numbers in [0, {count}), found {numbers.min()}…{numbers.max()}")
    return numbers
