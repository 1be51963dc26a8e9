"""Two questions about a run: which documents a step saw, and which steps saw a document."""

from olmo_core.data.document_index import DocumentIndex, DocumentSpan, spans_of
from olmo_core.data.instances import Instances
from olmo_core.data.loader import Loader


def instance_documents(data: Instances, index: DocumentIndex, instance: int) -> list[DocumentSpan]:
    """Return the documents of which an instance holds at least one token, in reading order.

    The first and the last may lie in it only in part.
    """
    return [
        span
        for piece in data.pieces(instance)
        for span in index.between(piece.path, piece.start, piece.stop)
    ]


def step_documents(loader: Loader, index: DocumentIndex, step: int) -> list[list[DocumentSpan]]:
    """Return the documents of each instance of a global batch; the first step is 0."""
    return [
        instance_documents(loader.data, index, int(instance)) for instance in loader.instances(step)
    ]


def document_instances(data: Instances, index: DocumentIndex, doc_id: str) -> list[int]:
    """Return the instances that hold any token of a document, ascending.

    Raises:
        KeyError: no document of this id was tokenised.
    """
    return sorted(
        {
            instance
            for span in spans_of(index, doc_id)
            for instance in data.overlapping(span.file, span.start, span.end)
        }
    )


def document_steps(
    loader: Loader, index: DocumentIndex, doc_id: str, *, epochs: int = 1
) -> list[int]:
    """Return the steps of the first `epochs` epochs that saw any token of a document, ascending.

    Empty if the mix leaves the document out, or if it fell into a dropped tail.

    Raises:
        KeyError: no document of this id was tokenised.
    """
    return sorted(
        {
            step
            for instance in document_instances(loader.data, index, doc_id)
            for step in loader.steps_of(instance, epochs=epochs)
        }
    )
