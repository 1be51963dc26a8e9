"""Passages of a text against a search of every document from every byte."""

import random
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from olmo_core.data.document_index import DocumentSpan
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.lineage.quotes.build import token_files
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.passages import Passage, Passages, passages
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES
from olmo_core.lineage.quotes.words import Words, equal_after, equal_before
from tests.olmo_core.lineage.quotes.corpora import EOS, KINDS, documents, write_tokens
from tests.olmo_core.lineage.quotes.indexes import DIGEST, build
from tests.olmo_core.lineage.quotes.matches import longest


class Corpus:
    """Token files, their index, and where their documents lie."""

    def __init__(self, folder: Path, kind: str, texts: Sequence[str]) -> None:
        tokenizer = folder / "tokenizer.json"
        KINDS[kind]().save(str(tokenizer))
        write_tokens(folder, tokenizer, texts)
        build(folder, shard_tokens=9_000)
        self.index = QuotesIndex(folder / "index", tokens=folder, digest=DIGEST)
        self.text = TokenText(folder, TokenBytes(tokenizer))
        self.spans: dict[str, list[DocumentSpan]] = {}
        eos = read_tokenizer(tokenizer).token_to_id(EOS)
        for file, tokens in token_files(folder).items():
            ids = np.fromfile(folder / file, dtype="<u2")
            ends = [end for end in (np.flatnonzero(ids == eos) + 1).tolist()]
            assert ends[-1] == tokens
            self.spans[file] = [
                DocumentSpan(file=file, start=start, end=end, id=f"{file}:{start}", src="", loc=1)
                for start, end in zip([0, *ends], ends, strict=False)
            ]

    def bounds_of(self, file: str, tokens: np.ndarray) -> np.ndarray:
        starts = [span.start for span in self.spans[file]]
        spans = [self.spans[file][bisect_right(starts, token) - 1] for token in tokens.tolist()]
        return np.array([(span.start, span.end) for span in spans])

    def passages(self, content: bytes, most: int = 10**9) -> Passages:
        return passages(self.index, self.text, content, self.bounds_of, most=most)

    def found(self, content: bytes) -> list[Passage]:
        answer = self.passages(content)
        assert answer.unread == 0
        return [answer[number] for number in range(len(answer))]


def in_whole_characters(content: bytes, first: int, last: int) -> tuple[int, int]:
    while first < last and content[first] & 0xC0 == 0x80:
        first += 1
    while last < len(content) and content[last] & 0xC0 == 0x80:
        last -= 1
    return first, last


@pytest.mark.parametrize("kind", ["byte_level", "pieces"])
def test_passages_are_those_of_every_byte_of_every_document(kind: str, tmp_path: Path) -> None:
    texts = [text for text in documents(kind) if len(text) < 2500][-22:]
    corpus = Corpus(tmp_path, kind, texts)
    rng = random.Random(8)
    for _ in range(2):
        parts: list[str] = []
        for text in rng.sample(texts, 4) + rng.sample(texts[-9:], 2):
            start = rng.choice((0, rng.randrange(max(1, len(text) - 300))))
            parts += [text[start : start + rng.choice((80, 200, 300))], f" own {rng.random()} "]
        content = "".join(parts).encode()
        found = {(f"{p.file}:{p.document}", p.first, p.last) for p in corpus.found(content)}
        expected: set[tuple[str, int, int]] = set()
        for file, spans in corpus.spans.items():
            for span in spans:
                held, _ = corpus.text.read(file, span.start, span.end)
                for first, last in longest(content, held.tobytes()):
                    first, last = in_whole_characters(content, first, last)
                    if last - first >= MATCH_BYTES:
                        expected.add((span.id, first, last))
        assert len(expected) > 5
        # Of text that repeats itself, the same match may lie inside of longer ones.
        assert {each for each in expected if not inside(each, expected)} <= found
        assert found <= expected


def inside(each: tuple[str, int, int], others: set[tuple[str, int, int]]) -> bool:
    name, first, last = each
    return any(
        other != each and other[0] == name and other[1] <= first and last <= other[2]
        for other in others
    )


def test_a_passage_says_where_its_tokens_lie(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "byte_level", documents()[:20])
    content = ("Of my own: " + documents()[5][100:2900] + " – and more").encode()
    found = max(corpus.found(content), key=lambda each: each.last - each.first)
    assert found.last - found.first >= 2800  # farther than what is read at first
    held, edges = corpus.text.read(found.file, found.start, found.stop)
    assert content[found.first : found.last] in held.tobytes()
    assert (np.diff(found.edges) == np.diff(edges)).all()
    half = (found.start + found.stop) // 2
    part = found.within(0, half)
    assert part is not None
    assert (part.start, part.stop, part.first) == (found.start, half, found.first)
    held, _ = corpus.text.read(part.file, part.start, part.stop)
    assert content[part.first : part.last] in held.tobytes()
    assert found.within(0, found.start) is None
    assert found.within(found.stop - 2, found.stop) is None


def held_by(corpus: Corpus, part: bytes) -> int:
    """Return how often documents hold some bytes, by a search of each."""
    count = 0
    for file, spans in corpus.spans.items():
        for span in spans:
            held, at = corpus.text.read(file, span.start, span.end)[0].tobytes(), -1
            while (at := held.find(part, at + 1)) >= 0:
                count += 1
    return count


LINE = "This line stands in nearly every file that there is, whatever it holds besides it. "


def boilerplate() -> list[str]:
    """Return documents that hold the same line, and go on each in its own way."""
    return [f"{number}: {LINE}{'On and on it goes. ' * number}" for number in range(80)]


def test_of_what_is_common_the_first_places_are_looked_at_and_the_rest_is_counted(
    tmp_path: Path,
) -> None:
    corpus = Corpus(tmp_path, "byte_level", boilerplate() + documents()[:10])
    rare = documents()[5][300:500]
    content = f"Of my own: {LINE}{rare} – {LINE}".encode()
    everything = corpus.passages(content)
    assert everything.unread == 0
    for most in (0, 20, 200, 10_000):
        answer = corpus.passages(content, most=most)
        found = [answer[number] for number in range(len(answer))]
        lengths = [each.last - each.first for each in found]
        assert lengths == answer.lengths.tolist() == sorted(lengths, reverse=True)
        for each in found:
            part = content[each.first : each.last]
            at_least, every = answer.holding(each.first, each.last), held_by(corpus, part)
            assert at_least <= every
            # What was not looked at is counted; where nothing is left, no place is missing.
            assert at_least == every or answer.unread_of(each.first, each.last) > 0
            assert everything.holding(each.first, each.last) == every
        parts = [content[each.first : each.last] for each in found]
        assert (rare.encode() in b"".join(parts)) == (most > 0)  # what is rare is whole
        assert any(LINE.strip().encode() in part for part in parts) == (most > 0)
        assert (answer.unread > 0) == (most < 10_000)


@pytest.mark.parametrize("text", ["a", "-=", "abc", "é", "on and on "])
def test_texts_that_repeat_themselves(text: str, tmp_path: Path) -> None:
    full = text * (1 + MATCH_BYTES // len(text))
    repeated = [full[:-1], full, full + text, full * 2, f"x{full}y{full[1:]}"]
    corpus = Corpus(tmp_path, "byte_level", repeated)
    content = f"{full * 2} and {full}{text}".encode()
    found = {(f"{p.file}:{p.document}", p.first, p.last) for p in corpus.found(content)}
    expected: set[tuple[str, int, int]] = set()
    for file, spans in corpus.spans.items():
        for span in spans:
            held, _ = corpus.text.read(file, span.start, span.end)
            matches = longest(content, held.tobytes())
            whole = {in_whole_characters(content, *match) for match in matches}
            expected |= {(span.id, a, b) for a, b in whole if b - a >= MATCH_BYTES}
    assert expected
    assert {each for each in expected if not inside(each, expected)} <= found <= expected
    # Each is looked at as often as the text repeats it, and no more than was said.
    few = corpus.passages(content, most=50)
    assert few.unread > 0
    assert len(few) <= 50


def test_bytes_are_compared_as_far_as_they_are_equal() -> None:
    rng = np.random.default_rng(4)
    one, other = (rng.integers(0, 2, size, dtype=np.uint8) * 200 for size in (400, 90))
    one[100:160] = other[20:80]
    at, place = rng.integers(0, 400, 300), rng.integers(0, 90, 300)
    at, place = np.append(at, [100, 130, 160, 0, 399]), np.append(place, [20, 50, 80, 0, 89])
    for words, most in (
        (equal_after, np.minimum(400 - at, 90 - place)),
        (equal_before, np.minimum(at, place)),
    ):
        step = 1 if words is equal_after else -1
        behind = 0 if words is equal_after else -1
        found = words(Words(one), at, Words(other), place, most)
        for a, b, length, longest_possible in zip(at, place, found, most, strict=True):
            same = 0
            while same < longest_possible and (
                one[a + behind + step * same] == other[b + behind + step * same]
            ):
                same += 1
            assert length == same
    assert found.max() > 8
