"""The documents that hold the places of a quote."""

from itertools import pairwise

import numpy as np

from olmo_core.lineage.quotes.find import QuotePlaces


class Holders:
    """Count the documents that hold any places as a whole, and which the first of them hold.

    Args:
        limit: Documents whose places are kept.
    """

    def __init__(self, limit: int) -> None:
        self.places = self.documents = 0
        # By file and first token of a document: its tokens [start, stop) that hold the quote.
        self.first: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._limit = limit
        self._last: tuple[str, int] | None = None

    def add(self, places: QuotePlaces, bounds: np.ndarray) -> None:
        """Count some places, which come by file and token.

        Args:
            places: Some.
            bounds: First token of the document that each begins in and one after its last,
                int64 (n, 2); -1: it is in none.
        """
        # What goes on behind the end of its document is in none.
        whole = (bounds[:, 0] >= 0) & (places.stops <= bounds[:, 1])
        starts, stops = places.starts[whole], places.stops[whole]
        firsts, edges = np.unique(bounds[whole, 0], return_index=True)
        if not len(firsts):
            return
        edges = [*edges.tolist(), len(starts)]
        for first, (low, high) in zip(firsts.tolist(), pairwise(edges), strict=True):
            if len(self.first) >= self._limit and (places.file, first) not in self.first:
                break
            part = zip(starts[low:high].tolist(), stops[low:high].tolist(), strict=True)
            held = self.first.setdefault((places.file, first), [])
            held += [(start - first, stop - first) for start, stop in part]
        self.places += len(starts)
        self.documents += len(firsts) - ((places.file, int(firsts[0])) == self._last)
        self._last = (places.file, int(firsts[-1]))
