"""Runs of words and their hashes, against the regular expression and sets of strings."""

import re
from itertools import pairwise

import numpy as np
import pytest

from olmo_core.corpus.duplicates import shingles
from olmo_core.corpus.duplicates.shingles import BYTES, Shingler, band_keys, jaccard, signatures
from tests.olmo_core.corpus.conftest import ODD


def runs(text: str, words: int) -> set[str]:
    found = re.findall(r"\w+", text.lower())
    return {" ".join(found[n : n + words]) for n in range(max(1, len(found) - words + 1))}


@pytest.mark.parametrize("block_bytes", [1, 16, 1 << 17])
def test_runs_are_those_of_the_regular_expression(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shingles, "BLOCK_BYTES", block_bytes)
    texts = ["The quick, brown FOX\njumps!", "one two", "", *ODD, "the QUICK brown; fox (jumps)"]
    hashes, offsets, digests = Shingler(3).hashes(texts)
    assert len(offsets) == len(texts) + 1
    sets = [set(hashes[a:b].tolist()) for a, b in pairwise(offsets)]
    expected = [runs(text, 3) for text in texts]
    assert [len(found) for found in sets] == [len(found) for found in expected]
    for n, one in enumerate(expected):
        for m, other in enumerate(expected):
            assert (sets[n] == sets[m]) == (one == other)
            assert len(sets[n] & sets[m]) == len(one & other)
    assert digests[0] == digests[-1] != digests[1]  # of the same words


def test_texts_of_fewer_words_than_a_run_may_be_all_there_are() -> None:
    """As a batch is that holds the last of a shard's documents."""
    for texts in (["***"], ["***", "---"], ["one"], ["", "one", ""]):
        hashes, offsets, digests = Shingler(13).hashes(texts)
        assert offsets.tolist() == list(range(len(texts) + 1))
        assert len(set(hashes.tolist())) == len(set(digests.tolist())) == 1 + ("one" in texts[1:])


def test_different_runs_have_different_hashes_wherever_they_stand() -> None:
    words = [f"{n:x}" for n in range(200_000)]  # of few letters, alike but for one
    hashes, offsets, _ = Shingler(1).hashes([" ".join(words), " ".join(words[::-1]), ""])
    assert len(np.unique(hashes)) == len(words) + 1
    assert np.array_equal(hashes[: offsets[1]], hashes[offsets[1] : offsets[2]][::-1])


def test_every_character_is_of_a_word_as_the_regular_expression_says() -> None:
    everything = " ".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    found = Shingler(1)._of_words(everything)  # pyright: ignore[reportPrivateUsage]
    words = re.findall(r"\w+", everything.lower())
    assert found.translate(BYTES).decode().split() == words


def test_signatures_estimate_the_similarity_and_bands_have_keys_of_their_own() -> None:
    noise = np.random.default_rng(0)
    sets = [np.unique(noise.integers(0, 2**64, 2000, np.uint64)) for _ in range(2)]
    sets.append(np.sort(np.concatenate((sets[0][:1000], sets[1][:1000]))))
    offsets = np.cumsum([0, *map(len, sets)])
    signed = signatures(np.concatenate(sets), offsets, permutations=120, seed=42)
    assert signed.shape == (3, 120)
    assert abs((signed[0] == signed[2]).mean() - jaccard(sets[0], sets[2])) < 0.12
    assert jaccard(sets[0], sets[2]) == 1 / 3
    keys = band_keys(np.concatenate((signed, signed[:1])), 20)
    assert np.array_equal(keys[0], keys[3])
    assert len(np.unique(keys[0])) == 20
    constant = band_keys(np.ones((1, 120), np.uint64), 20)
    assert len(np.unique(constant)) == 20
