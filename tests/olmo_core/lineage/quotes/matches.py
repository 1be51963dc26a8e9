"""The matches of two texts, found by comparing each byte with each."""

import numpy as np

from olmo_core.lineage.quotes.winnowing import MATCH_BYTES


def longest(content: bytes, held: bytes) -> set[tuple[int, int]]:
    """Return each match of two texts that reaches as far as they are equal, on all diagonals."""
    a, b = (np.frombuffer(each, dtype=np.uint8) for each in (content, held))
    found: set[tuple[int, int]] = set()
    for shift in range(-len(a) + MATCH_BYTES, len(b) - MATCH_BYTES + 1):
        first, last = max(0, -shift), min(len(a), len(b) - shift)
        same = a[first:last] == b[first + shift : last + shift]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]])))
        found |= {
            (first + int(start), first + int(stop))
            for start, stop in edges.reshape(-1, 2)
            if stop - start >= MATCH_BYTES
        }
    return found
