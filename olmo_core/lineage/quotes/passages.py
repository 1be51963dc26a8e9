"""What parts of a text stand in token files, word for word, as far as each match reaches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from olmo_core.data.document_index import DocumentSpan
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import GRAM_BYTES, MATCH_BYTES, gram_places

MOST_CANDIDATES = 1 << 19  # places that are looked at
_MARGIN = 512  # tokens around a candidate that are read first

# Returns the document of each token of a file.
DocumentsAt = Callable[[str, Sequence[int]], Sequence[DocumentSpan]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """A part of a text that a document holds, and that reaches as far as both are equal."""

    first: int  # bytes [first, last) of the text
    last: int
    document: DocumentSpan
    start: int  # tokens [start, stop) of the file hold it
    stop: int
    edges: np.ndarray  # (stop - start + 1,): where each token begins in the text; int64

    def within(self, start: int, stop: int) -> "Passage | None":
        """Return what tokens [start, stop) of the file hold of it; None: less than a match."""
        start, stop = max(start, self.start), min(stop, self.stop)
        if start >= stop:
            return None
        edges = self.edges[start - self.start : stop - self.start + 1]
        first, last = max(self.first, int(edges[0])), min(self.last, int(edges[-1]))
        if last - first < MATCH_BYTES:
            return None
        return Passage(
            first=first, last=last, document=self.document, start=start, stop=stop, edges=edges
        )


@dataclass(frozen=True, kw_only=True)
class Passages:
    """The passages of a text, and how much was not looked at."""

    found: Sequence[Passage]
    unread: int  # places of the commonest fingerprints, of which there were too many


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    token: int  # in which a gram begins
    place: int  # where the same gram stands in the text


def passages(
    index: QuotesIndex, text: TokenText, content: bytes, documents_at: DocumentsAt
) -> Passages:
    """Return the passages of a text, each as long as it is equal to a document.

    Every match of `MATCH_BYTES` or more is among them, unless its fingerprints are all among the
    `unread`.

    Args:
        index: Of the tokens.
        text: Their text.
        content: What is looked for, as tokens hold it (`TokenBytes.of_text`).
        documents_at: Knows the document of a token.

    Raises:
        InputError: index, token files or documents index are damaged.
    """
    grams = gram_places(np.frombuffer(content, dtype=np.uint8))
    hashes = [*grams]
    found = index.places([np.uint64(each) for each in hashes])
    counts = {
        each: len(grams[each]) * sum(len(of_shard[n]) for of_shard in found)
        for n, each in enumerate(hashes)
    }
    # The rarest first: of the others only as many as can be read.
    order = sorted(range(len(hashes)), key=lambda n: counts[hashes[n]])
    upto = np.cumsum([counts[hashes[n]] for n in order])
    kept = order[: int(np.searchsorted(upto, MOST_CANDIDATES, "right"))]
    passages: list[Passage] = []
    for shard, of_shard in zip(index.shards, found, strict=True):
        candidates = sorted(
            (
                _Candidate(token=token, place=place)
                for n in kept
                for token in of_shard[n].tolist()
                for place in grams[hashes[n]]
            ),
            key=lambda each: (each.token, each.place),
        )
        passages += _of_shard(text, shard.shard.file, content, candidates, documents_at)
    unique = {(each.document.file, each.start, each.first, each.last): each for each in passages}
    unread = sum(counts.values()) - sum(counts[hashes[n]] for n in kept)
    return Passages(found=[*unique.values()], unread=unread)


def _of_shard(
    text: TokenText,
    file: str,
    content: bytes,
    candidates: Sequence[_Candidate],
    documents_at: DocumentsAt,
) -> Iterator[Passage]:
    if not candidates:
        return
    tokens = sorted({each.token for each in candidates})
    documents = dict(zip(tokens, documents_at(file, tokens), strict=True))
    margin = min(_MARGIN, len(content))
    edges = [
        0,
        *(
            number
            for number, (before, each) in enumerate(pairwise(candidates), start=1)
            if documents[before.token] != documents[each.token]
            or each.token - before.token > 2 * margin
        ),
        len(candidates),
    ]
    for first, last in pairwise(edges):
        group = candidates[first:last]
        document = documents[group[0].token]
        yield from _of_group(text, content, document, group, margin)


def _of_group(
    text: TokenText,
    content: bytes,
    document: DocumentSpan,
    group: Sequence[_Candidate],
    margin: int,
) -> Iterator[Passage]:
    """Yield the passages through candidates of one document that lie near each other."""
    while True:
        start = max(document.start, group[0].token - margin)
        stop = min(document.end, group[-1].token + margin)
        part = _Part(text, document, start, stop, content)
        found = [*part.passages(group)]
        # A token has a byte at least: farther than the text is long no match reaches.
        if margin >= len(content) or not any(part.cut(each) for each in found):
            yield from found
            return
        margin = min(4 * margin, len(content))


class _Part:
    """Some tokens of a document as bytes, beside the text."""

    def __init__(
        self, text: TokenText, document: DocumentSpan, start: int, stop: int, content: bytes
    ) -> None:
        self._start, self._stop, self._document = start, stop, document
        self._bytes, self._edges = text.read(document.file, start, stop)
        self._joined = self._bytes.tobytes()
        self._content, self._wanted = content, np.frombuffer(content, dtype=np.uint8)

    def passages(self, group: Sequence[_Candidate]) -> Iterator[Passage]:
        """Yield the passages through candidates, once each."""
        reached: dict[int, int] = {}  # by how far text and part are shifted: the end of a match
        for each in group:
            gram = self._content[each.place : each.place + GRAM_BYTES]
            low, high = self._edges[each.token - self._start :][:2].tolist()
            at = low - 1
            while (at := self._joined.find(gram, at + 1, high - 1 + GRAM_BYTES)) >= 0:
                shift = at - each.place
                if at < reached.get(shift, 0):
                    continue
                first, last = self._extended(at, each.place)
                reached[shift] = last
                passage = self._passage(first, last, shift)
                if passage is not None:
                    yield passage

    def cut(self, passage: Passage) -> bool:
        """Return whether a passage may reach farther than this part of the document does."""
        return (passage.start == self._start > self._document.start) or (
            passage.stop == self._stop < self._document.end
        )

    def _extended(self, at: int, place: int) -> tuple[int, int]:
        """Return the bytes [first, last) of this part that are equal to the text around a place."""
        before = min(at, place)
        other = self._bytes[at - before : at] != self._wanted[place - before : place]
        equal_before = int(np.argmax(other[::-1])) if other.any() else before
        after = min(len(self._bytes) - at, len(self._wanted) - place)
        other = self._bytes[at : at + after] != self._wanted[place : place + after]
        equal_after = int(np.argmax(other)) if other.any() else after
        return at - equal_before, at + equal_after

    def _passage(self, first: int, last: int, shift: int) -> Passage | None:
        """Return the passage of these bytes of the part, in whole characters; None: too short."""
        wanted = self._content
        begin, end = first - shift, last - shift
        while begin < end and wanted[begin] & 0xC0 == 0x80:
            begin += 1
        while end > begin and end < len(wanted) and wanted[end] & 0xC0 == 0x80:
            end -= 1
        if end - begin < MATCH_BYTES:
            return None
        start = int(np.searchsorted(self._edges, begin + shift, "right")) - 1
        stop = int(np.searchsorted(self._edges, end + shift, "left"))
        return Passage(
            first=begin,
            last=end,
            document=self._document,
            start=self._start + start,
            stop=self._start + stop,
            edges=self._edges[start : stop + 1] - shift,
        )
