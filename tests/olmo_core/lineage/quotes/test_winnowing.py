"""Fingerprints against what they promise: of every window of grams, the smallest has a place."""

import numpy as np
import pytest

from olmo_core.lineage.quotes.winnowing import GRAM_BYTES, MATCH_BYTES, WINDOW, winnow
from tests.olmo_core.lineage.quotes.corpora import documents


def contents() -> dict[str, bytes]:
    rng = np.random.default_rng(3)
    text = "\n".join(documents()).encode()
    return {
        "text": text,
        "random": rng.integers(0, 256, 200_000, dtype=np.uint8).tobytes(),
        "blanks": b" " * 150_000,
        "periods": b"".join(
            (bytes(range(65, 65 + period)) * 4000)[: 9000 + period] for period in range(1, 60)
        ),
        "mixed": text[:70_000] + b"-" * 3000 + text[:70_000] + b"ab" * 900 + text[:300],
    }


@pytest.mark.parametrize("name", contents())
def test_each_window_of_a_text_has_a_place_that_a_quote_of_it_finds(name: str) -> None:
    content = np.frombuffer(contents()[name], dtype=np.uint8)
    whole = winnow(content)
    assert (np.diff(whole.places) > 0).all()
    rng = np.random.default_rng(5)
    border = (1 << 16) - WINDOW + 1  # where one block of windows ends
    starts = rng.integers(0, len(content) - MATCH_BYTES + 1, 1500)
    near = [
        border + by for by in range(-MATCH_BYTES, 3) if border + by < len(content) - MATCH_BYTES
    ]
    for start in [0, len(content) - MATCH_BYTES, *near, *starts.tolist()]:
        quote = winnow(content[start : start + MATCH_BYTES])
        assert len(quote.hashes) == len(set(quote.hashes.tolist())) == 1
        first, last = np.searchsorted(whole.places, [start, start + WINDOW])
        assert quote.hashes[0] in whole.hashes[first:last], start
        # Equal hashes are of equal grams.
        for place in whole.places[first:last][whole.hashes[first:last] == quote.hashes[0]]:
            gram = content[start + quote.places[0] :][:GRAM_BYTES]
            assert content[place : place + GRAM_BYTES].tobytes() == gram.tobytes()


def test_a_longer_quote_is_found_by_each_of_its_hashes() -> None:
    content = np.frombuffer(contents()["mixed"], dtype=np.uint8)
    whole = winnow(content)
    for start in range(0, 200_00, 777):
        quote = winnow(content[start : start + 1000])
        first, last = np.searchsorted(whole.places, [start, start + 1000])
        assert set(quote.hashes.tolist()) <= set(whole.hashes[first:last].tolist())


@pytest.mark.parametrize("name", ["text", "random", "blanks", "periods"])
def test_no_text_has_many_more_places_than_the_formula_says(name: str) -> None:
    content = np.frombuffer(contents()[name], dtype=np.uint8)
    density = len(winnow(content).places) / len(content)
    assert density < 1.1 * 2 / (WINDOW + 1)


@pytest.mark.parametrize("length", [0, 1, 7, GRAM_BYTES, MATCH_BYTES - 1])
def test_a_text_that_is_too_short_has_none(length: int) -> None:
    found = winnow(np.zeros(length, dtype=np.uint8))
    assert len(found.places) == len(found.hashes) == 0
