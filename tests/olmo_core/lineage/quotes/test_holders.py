"""Documents that hold places, against a search of each."""

import numpy as np

from olmo_core.lineage.quotes.find import QuotePlaces
from olmo_core.lineage.quotes.holders import Holders


def test_documents_are_counted_over_the_borders_of_what_comes_at_once() -> None:
    rng = np.random.default_rng(6)
    for limit in (0, 1, 3, 1000):
        holders, kept, count, documents = Holders(limit), {}, 0, set[tuple[str, int]]()
        for file in ("a", "b"):
            edges = np.unique(np.append(0, rng.integers(1, 400, 40)))
            starts = np.unique(rng.integers(0, edges[-1], 150))
            stops = starts + rng.integers(1, 9, len(starts))
            bounds = np.stack([edges[:-1], edges[1:]], axis=1)[
                np.searchsorted(edges, starts, "right") - 1
            ]
            bounds[::17] = -1  # in no document
            for start, stop, (first, end) in zip(
                starts.tolist(), stops.tolist(), bounds.tolist(), strict=True
            ):
                if first >= 0 and stop <= end:
                    count += 1
                    documents.add((file, first))
                    kept.setdefault((file, first), []).append((start - first, stop - first))
            for at in range(0, len(starts), 7):
                part = slice(at, at + 7)
                some = QuotePlaces(file=file, starts=starts[part], stops=stops[part])
                holders.add(some, bounds[part])
        assert (holders.places, holders.documents) == (count, len(documents))
        assert 20 < holders.documents < holders.places
        assert [*holders.first.items()] == [*kept.items()][:limit]
