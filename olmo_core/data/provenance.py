"""Two questions about a run: which documents a step saw, and which steps saw a document."""

from olmo_core.data.document_index import DocumentIndex, DocumentSpan
from olmo_core.data.loader import Loader


def step_documents(loader: Loader, index: DocumentIndex, step: int) -> list[list[DocumentSpan]]:
    """Return, per instance of a global batch, the documents of which it holds a token, in order.

    The first and the last of an instance may lie in it only in part. The first step is 0.
    """
    return [
        [
            span
            for piece in loader.data.pieces(instance)
            for span in index.between(piece.path, piece.start, piece.stop)
        ]
        for instance in loader.instances(step).tolist()
    ]


def document_steps(
    loader: Loader, index: DocumentIndex, doc_id: str, *, epochs: int = 1
) -> list[int]:
    """Return the steps of the first `epochs` epochs that saw any token of a document, ascending.

    Empty if the mix leaves the document out, or if it fell into a dropped tail.

    Raises:
        KeyError: no document of this id was tokenised.
    """
    steps = {
        step
        for span in index.of_id(doc_id)
        for instance in loader.data.overlapping(span.file, span.start, span.end)
        for step in loader.steps_of(instance, epochs=epochs)
    }
    return sorted(steps)
