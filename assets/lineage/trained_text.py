"""What parts of a text some weights were trained on, word for word: as OLMoTrace, but of training.

OLMoTrace (Liu et al. 2025) shows the maximal spans of a model's output that stand in its training
data. Here each token of a span must also have been in a step that the weights learnt from.
"""

import functools
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assets.lineage.checkpoints import Weights, weights_of
from assets.lineage.quotes import open_quotes, open_text
from assets.lineage.runs import Lineage
from olmo_core.data.document_index import DocumentSpan, IndexedDocument
from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.quotes.find import require_length
from olmo_core.lineage.quotes.passages import Passage, Passages, passages
from olmo_core.lineage.run import TrainingRun
from olmo_core.lineage.visits import Visit, steps_of_document

MOST_DOCUMENTS = 2000  # whose steps are looked up for one text


@dataclass(frozen=True, kw_only=True)
class TrainedDocument:
    """A document that holds a span, each token of which was trained on."""

    document: IndexedDocument
    start: int  # tokens [start, stop) of the document hold the span
    stop: int
    visits: Sequence[tuple[TrainingRun, Visit]]  # that trained on any of them


@dataclass(kw_only=True)
class Span:
    """A part of the text, no longer one of which was trained on: bytes [first, last)."""

    first: int
    last: int
    text: str
    places: int  # in token files, trained on or not
    unread: int  # places in the index that may hold it too, and were not looked at
    documents: list[TrainedDocument] = field(default_factory=list[TrainedDocument])


@dataclass(frozen=True, kw_only=True)
class TextAnswer:
    """The spans of a text that weights were trained on: longest first, of equal ones the rarest."""

    weights: Weights
    text: str  # as tokens hold it
    spans: Sequence[Span]
    unread: int  # places in the index that may hold parts of it, and were not looked at
    unchecked: int  # passages whose steps were not looked up, as there were too many documents


def trace_text(
    lineage: Lineage, text: str, model: str | None = None, *, limit: int, most: int
) -> TextAnswer:
    """Return the longest parts of a text that weights were trained on, with documents and steps.

    Args:
        lineage: The recipe's.
        text: A model's output, say.
        model: `soup`, `stage1@step300` and so on, as `trace_checkpoint` takes them; None: the
            recipe's soup, or what its last training made.
        limit: Most documents of a span.
        most: Places in the index that are looked at.

    Raises:
        ConfigError: no such weights, or no quotes index of what they were trained on.
        InputError: the text is too short, what they were trained on cannot be computed, or
            something is damaged.
    """
    weights = weights_of(lineage, model or _default(lineage))
    indexes = lineage.indexes_of([part.run.folder for part in weights.trained])
    if len(indexes) != 1:
        raise InputError(
            f"{weights.label}: trained on tokens of {len(indexes)} corpora; expected 1"
        )
    [documents] = indexes
    index = open_quotes(lineage, documents)
    if index is None:
        name = lineage.graph.recipe.name
        raise ConfigError(f"{name}: no quotes index of its tokens; first: olmo trace index {name}")
    tokens = open_text(lineage, documents)
    content = tokens.table.of_text(text)
    require_length(content)
    known = lineage.open_index(documents)

    def bounds_of(file: str, places: np.ndarray) -> np.ndarray:
        bounds = known.bounds(file, places)
        if (bounds < 0).any():
            unknown = int(places[bounds[:, 0] < 0][0])
            raise InputError(f"{documents}: knows no document of token {unknown} of {file}")
        return bounds

    found = passages(index, tokens, content, bounds_of, most=most)
    return _Spans(lineage, weights, documents, content, found, limit).answer()


def _default(lineage: Lineage) -> str:
    return "soup" if "soup" in lineage.graph.nodes else lineage.training[-1]


class _Spans:
    """Choose spans among passages, from the longest down; ask of each whether it was trained on."""

    def __init__(
        self,
        lineage: Lineage,
        weights: Weights,
        documents: Path,
        content: bytes,
        found: Passages,
        limit: int,
    ) -> None:
        self._weights, self._content, self._found, self._limit = weights, content, found, limit
        self._index = lineage.open_index(documents)
        self._known = functools.cache(self._index.at)
        self._visits = functools.cache(self._visits_of)
        self._spans: list[Span] = []
        # Of the passages: what lies in a span that is longer, or has as many documents as asked.
        self._done = np.zeros(len(found), dtype=np.bool_)

    def answer(self) -> TextAnswer:
        """Return the spans."""
        lengths = self._found.lengths.tolist()
        # By length, then in order; parts of passages, cut to what was trained on, come in between.
        heap: list[tuple[int, int, Passage | None]] = [
            (-length, number, None) for number, length in enumerate(lengths)
        ]
        parts = itertools.count(len(heap))
        unchecked = 0
        while heap:
            _, number, part = heapq.heappop(heap)
            if part is None and self._done[number]:
                continue
            passage = self._found[number] if part is None else part
            span = self._around(passage)
            if span is not None and (_longer(span, passage) or len(span.documents) >= self._limit):
                continue
            if self._visits.cache_info().currsize >= MOST_DOCUMENTS:
                unchecked += 1
                continue
            for start, stop in self._trained(passage):
                part = passage.within(start, stop)
                if part is None:
                    continue
                if part.last - part.first < passage.last - passage.first:
                    heapq.heappush(heap, (part.first - part.last, next(parts), part))
                else:
                    self._add(span, part)
        spans = sorted(self._spans, key=lambda each: (each.first - each.last, each.places))
        return TextAnswer(
            weights=self._weights,
            text=self._content.decode("utf-8", "ignore"),
            spans=spans,
            unread=self._found.unread,
            unchecked=unchecked,
        )

    def _around(self, passage: Passage) -> Span | None:
        """Return a span that holds what a passage does; None: there is none yet."""
        return next(
            (
                span
                for span in self._spans
                if span.first <= passage.first and passage.last <= span.last
            ),
            None,
        )

    def _add(self, span: Span | None, part: Passage) -> None:
        if span is None:
            first, last = part.first, part.last
            span = Span(
                first=first,
                last=last,
                text=self._content[first:last].decode("utf-8", "ignore"),
                places=self._found.holding(first, last),
                unread=self._found.unread_of(first, last),
            )
            self._spans.append(span)
            self._done |= self._found.inside(first, last) & (self._found.lengths < last - first)
        document = self._known(part.file, part.document)
        start, stop = part.start - document.start, part.stop - document.start
        [known] = self._index.known([document])
        span.documents.append(
            TrainedDocument(
                document=known,
                start=start,
                stop=stop,
                visits=[
                    (run, visit)
                    for run, visit in self._visits(document)
                    if visit.start < stop and start < visit.stop
                ],
            )
        )
        if len(span.documents) >= self._limit:
            self._done |= self._found.inside(span.first, span.last)

    def _trained(self, passage: Passage) -> Iterator[tuple[int, int]]:
        """Yield the stretches of a passage's document that were trained on, tokens of its file."""
        document = self._known(passage.file, passage.document)
        first, last = 0, 0
        for start, stop in sorted((v.start, v.stop) for _, v in self._visits(document)):
            if start > last:
                if last > first:
                    yield document.start + first, document.start + last
                first = start
            last = max(last, stop)
        if last > first:
            yield document.start + first, document.start + last

    def _visits_of(self, document: DocumentSpan) -> list[tuple[TrainingRun, Visit]]:
        """Return each time that the weights were trained on tokens of a document, by run."""
        return [
            (part.run, visit)
            for part in self._weights.trained
            for visit in steps_of_document(part.run, document).visits
            if visit.trained and visit.step <= part.up_to
        ]


def _longer(span: Span, passage: Passage) -> bool:
    return span.last - span.first > passage.last - passage.first
