"""Which documents a step saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from olmo_core.data.document_index import DocumentSpan
from olmo_core.errors import InputError
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.run import Part, TrainingRun


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a document in an instance."""

    document: DocumentSpan
    start: int  # its tokens [start, stop), counted from the document's first
    stop: int
    offset: int  # of its first token in the instance
    labelled: bool  # any of its tokens is a label, as far as label masks say


@dataclass(frozen=True, kw_only=True)
class TracedInstance:
    """One instance of a batch: `sequence_length` tokens, and the documents that they are of."""

    instance: int  # place in the global batch
    window: int  # number in the manifest
    rank: int | None  # that computed it; None where nothing says how many there were
    masked: bool  # it repeats itself, and counts in no loss
    pieces: list[Piece]


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """One step of a run."""

    step: int  # from 1
    epoch: int
    attempt: int | None  # that took it
    ranks: int | None
    skipped: bool | None  # its update was left out; None: the step is not logged
    instances: list[TracedInstance]


def documents_of_step(run: TrainingRun, index: BatchedDocumentIndex, step: int) -> TracedStep:
    """Return the documents of a step's batch.

    Args:
        run: See `open_run`.
        index: Of the tokens that the run reads.
        step: From 1, as in `metrics.jsonl`.

    Raises:
        InputError: the run has not taken this step, or the index is of other tokens.
    """
    epoch, windows = run.batch(step)
    ranks = run.ranks(step)
    masked = run.masked(step, windows)
    parts = [[*run.parts(window)] for window in windows.tolist()]
    ranges = [(part.range.path, part.range.start, part.range.stop) for of in parts for part in of]
    found = iter(index.between_each(ranges))
    return TracedStep(
        step=step,
        epoch=epoch,
        attempt=run.log.attempt(step),
        ranks=ranks,
        skipped=run.log.is_skipped(step),
        instances=[
            TracedInstance(
                instance=number,
                window=window,
                rank=number % ranks if ranks else None,
                masked=bool(masked[number]),
                pieces=_pieces(run, window, [(part, next(found)) for part in parts[number]]),
            )
            for number, window in enumerate(windows.tolist())
        ],
    )


def _pieces(
    run: TrainingRun, window: int, parts: Sequence[tuple[Part, Sequence[DocumentSpan]]]
) -> list[Piece]:
    """Return the documents of a window, in order; together they are all of its tokens."""
    found = [piece for part, spans in parts for piece in _documents(part, spans)]
    length = sum(piece.stop - piece.start for piece in found)
    if length != run.data.sequence_length:
        raise InputError(
            f"{run.label}: window {window}: {length} of its {run.data.sequence_length} tokens are "
            "of documents in the index: it is the index of other tokens"
        )
    return found


def _documents(part: Part, spans: Sequence[DocumentSpan]) -> Iterator[Piece]:
    for span in spans:
        start, stop = part.share(span)
        yield Piece(
            document=span,
            start=start,
            stop=stop,
            offset=part.offset + span.start + start - part.range.start,
            labelled=part.labelled(span),
        )
