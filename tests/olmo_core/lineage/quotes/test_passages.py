"""Passages of a text against a search of every document from every byte."""

import random
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from olmo_core.data.document_index import DocumentSpan
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.lineage.quotes import passages as module
from olmo_core.lineage.quotes.build import token_files
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.passages import Passage, passages
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES
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

    def documents_at(self, file: str, places: Sequence[int]) -> list[DocumentSpan]:
        starts = [span.start for span in self.spans[file]]
        return [self.spans[file][bisect_right(starts, place) - 1] for place in places]

    def found(self, content: bytes) -> Sequence[Passage]:
        answer = passages(self.index, self.text, content, self.documents_at)
        assert answer.unread == 0
        return answer.found


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
        found = {(p.document.id, p.first, p.last) for p in corpus.found(content)}
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
    held, edges = corpus.text.read(found.document.file, found.start, found.stop)
    assert content[found.first : found.last] in held.tobytes()
    assert (np.diff(found.edges) == np.diff(edges)).all()
    half = (found.start + found.stop) // 2
    part = found.within(0, half)
    assert part is not None
    assert (part.start, part.stop, part.first) == (found.start, half, found.first)
    held, _ = corpus.text.read(part.document.file, part.start, part.stop)
    assert content[part.first : part.last] in held.tobytes()
    assert found.within(0, found.start) is None
    assert found.within(found.stop - 2, found.stop) is None


def test_what_is_too_common_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(tmp_path, "byte_level", documents()[:20])
    content = documents()[3][:300].encode()
    monkeypatch.setattr(module, "MOST_CANDIDATES", 3)
    answer = passages(corpus.index, corpus.text, content, corpus.documents_at)
    assert answer.unread > 0
    assert any((each.first, each.last) == (0, len(content)) for each in answer.found)
