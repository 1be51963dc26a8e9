"""Near-duplicate groups, against Jaccard similarities computed without hashing."""

import random

import pytest

from olmo_core.corpus.duplicates.near_duplicates import (
    NearDuplicateConfig,
    near_duplicate_groups,
    shingles,
)


def test_shingles_are_runs_of_lower_case_words() -> None:
    assert shingles("The quick, brown FOX\njumps!", 3) == {
        "the quick brown",
        "quick brown fox",
        "brown fox jumps",
    }
    assert shingles("Two words", 5) == {"two words"}


def test_copies_with_small_changes_are_one_group_and_others_stand_alone() -> None:
    noise = random.Random(0)
    words = [f"w{noise.randrange(10_000)}" for _ in range(400)]
    changed = [*words[:200], "changed", *words[201:]]  # 5 of 396 shingles differ
    half = [*words[:200], *(f"v{n}" for n in range(200))]
    other = [f"u{n}" for n in range(400)]
    texts = [" ".join(text) for text in (other, words, half, changed, words)]
    exact = len(shingles(texts[1], 5) & shingles(texts[3], 5)) / len(
        shingles(texts[1], 5) | shingles(texts[3], 5)
    )
    assert exact > 0.97
    assert near_duplicate_groups(texts, NearDuplicateConfig()) == [0, 1, 2, 1, 1]


def test_groups_join_through_a_chain() -> None:
    words = [f"w{n}" for n in range(1000)]
    # Neighbours share 466 of 526 shingles (0.89); the ends 346 of 646 (0.54), too few for a pair.
    texts = [" ".join(words[start : start + 500]) for start in range(0, 180, 30)]
    assert near_duplicate_groups(texts, NearDuplicateConfig()) == [0] * 6
    ends = near_duplicate_groups([texts[0], texts[-1]], NearDuplicateConfig())
    assert ends == [0, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0; expected a number above 0"),
        ({"bands": 7}, "permutations is 128; expected a multiple of bands, 7"),
        ({"shingle_words": 0}, "shingle_words is 0; expected 1 or more"),
    ],
)
def test_values_that_find_nothing_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NearDuplicateConfig(**wrong)  # pyright: ignore[reportArgumentType]
