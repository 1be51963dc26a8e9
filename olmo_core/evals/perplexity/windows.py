"""Documents cut into windows in which every token is scored once, and windows put into batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Window:
    """One forward pass: `inputs` are read, the last `scored` predictions count."""

    document: int
    inputs: np.ndarray  # token ids (S,)
    targets: np.ndarray  # token ids (scored,), the continuation of the last inputs

    @property
    def scored(self) -> int:
        """Return the number of tokens whose probability counts."""
        return len(self.targets)


def windows(
    tokens: Sequence[int] | np.ndarray, *, prefix: int, max_window: int, document: int = 0
) -> Iterator[Window]:
    """Cut one document into windows in which every token is a target exactly once.

    Args:
        tokens: The document's ids, without special tokens.
        prefix: The id read before the first token: EOS.
        max_window: Maximum number of inputs per window.
        document: The document's number, passed through to the windows.
    """
    read = np.concatenate([[prefix], np.asarray(tokens, np.int64)]).astype(np.int64)
    for start in range(0, len(tokens), max_window):
        stop = min(start + max_window, len(tokens))
        yield Window(
            document=document,
            inputs=read[max(0, stop - max_window) : stop],
            targets=read[start + 1 : stop + 1],
        )


def batches(items: Sequence[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Return windows grouped by length, longest first, with at most `batch_tokens` including
    padding.
    """
    batch: list[Window] = []
    for window in sorted(items, key=lambda item: -len(item.inputs)):
        if batch and (len(batch) + 1) * len(batch[0].inputs) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
