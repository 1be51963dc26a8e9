"""Runs of words that a document and an evaluation text share, against a search by hand."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from olmo_core.corpus.duplicates import contamination
from olmo_core.corpus.duplicates.contamination import EvaluationTexts, word_hashes

SHORTEST = 8


def vocabulary(rng: random.Random, size: int = 4000) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyzäß"
    return ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(size)]


def by_hand(document: Sequence[str], texts: Sequence[Sequence[str]], run: int) -> dict[int, float]:
    """Each text's words in runs that the document has too, as a share."""
    found: dict[int, float] = {}
    for number, text in enumerate(texts):
        n = min(run, len(text))
        there = {tuple(document[i : i + n]) for i in range(len(document) - n + 1)}
        places = {
            place
            for i in range(len(text) - n + 1)
            if tuple(text[i : i + n]) in there
            for place in range(i, i + n)
        }
        if n >= SHORTEST and places:
            found[number] = len(places) / len(text)
    return found


def test_shares_are_those_of_a_search_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "_BLOCK", 64)  # many blocks, none ending within a word
    rng = random.Random(0)
    words = vocabulary(rng, 300)  # few: runs repeat within and between texts
    texts = [rng.choices(words, k=rng.randint(1, 60)) for _ in range(80)]
    texts[9] = texts[4][5:30]  # a text within a text
    texts[11] = [*texts[3], *texts[3]]  # the same runs twice
    index = EvaluationTexts.of(map(" ".join, texts), run_words=13, min_words=SHORTEST)
    for _ in range(60):
        parts = [rng.choices(words, k=20)]
        for text in rng.sample(texts, k=4):
            begin = rng.randrange(len(text))
            parts += [text[begin : begin + rng.randint(1, 50)], rng.choices(words, k=3)]
        document = [word for part in parts for word in part]
        assert dict(index.covered(" ".join(document))) == by_hand(document, texts, 13)


@pytest.mark.parametrize(
    "copy",
    [
        "One, two: THREE four five; six seven eight nine",
        "one\ntwo\r\nthree\n\nfour\tfive six\u00a0seven eight nine",
        "- one two three\n- four **five** _six_\n* seven (eight) nine!",
    ],
)
def test_case_marks_and_line_breaks_hide_nothing(copy: str) -> None:
    index = EvaluationTexts.of(
        ["One two three four five six seven eight nine."], run_words=13, min_words=8
    )
    assert index.covered(f"before {copy} after") == [(0, 1.0)]


def test_short_and_empty_texts_are_never_found() -> None:
    index = EvaluationTexts.of(["", "a b c", "…"], run_words=13, min_words=4)
    assert index.covered("a b c a b c") == []
    assert EvaluationTexts.of([], run_words=13, min_words=4).covered("a b c") == []
    assert index.covered("") == []


def test_words_are_hashed_alike_wherever_they_stand() -> None:
    one, two = word_hashes("Straße, Caf\u00e9 x1 " * 3), word_hashes("x1 STRASSE cafe\u0301")
    assert one.tolist() == [two[1], two[2], two[0]] * 3
    words = vocabulary(random.Random(1))
    different = {word.casefold() for word in words}
    assert len(np.unique(word_hashes(" ".join(words)))) == len(different)


def test_what_is_saved_finds_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = EvaluationTexts.of(["a b c d e f g h i j"], run_words=5, min_words=4)
    index.save(folder)
    text = "x b c d e f g y"
    assert EvaluationTexts.load(folder).covered(text) == index.covered(text) == [(0, 0.6)]


def spoilt(words: list[str], way: int, rng: random.Random) -> str:
    """One of the ways in which a copy differs."""
    if way == 0:
        return " ".join(words)
    if way == 1:
        return "\n".join(" ".join(words[i : i + 7]) for i in range(0, len(words), 7))
    if way == 2:
        return " ".join(rng.choice((word.upper(), word.title())) for word in words)
    if way == 3:
        return "".join(f"\n* {word}," for word in words)
    cut = len(words) // 5  # a fifth is missing
    begin = rng.randrange(len(words) - cut)
    return " ".join([*words[:begin], *words[begin + cut :]])


def test_planted_texts_are_found_and_nothing_else() -> None:
    """200 texts in pages, spoilt in five ways, among 2,000 clean ones; by hand over 20,000 too."""
    rng = random.Random(2)
    words = vocabulary(rng)
    texts = [rng.choices(words, k=rng.randint(40, 300)) for _ in range(200)]
    index = EvaluationTexts.of(map(" ".join, texts), run_words=13, min_words=SHORTEST)
    pages = {n: rng.choices(words, k=400) for n in range(2000)}
    planted = rng.sample(sorted(pages), k=200)
    found: set[tuple[int, int]] = set()
    for n, page in pages.items():
        text = " ".join(page[:200])
        if n in planted:
            number = planted.index(n)
            text += " " + spoilt(texts[number], number % 5, rng) + " "
        text += " ".join(page[200:])
        found |= {(n, number) for number, share in index.covered(text) if share > 0.5}
    assert found == {(n, number) for number, n in enumerate(planted)}
