"""Where documents begin inside an instance, for attention within documents."""

import numpy as np


def document_positions(tokens: np.ndarray, eos_token_id: int) -> np.ndarray:
    """Return each token's position within its document, int64 (b, T), from 0.

    Token i shares its document with those from i - positions[i] on. An EOS ends its document and
    belongs to it. An instance begins a document wherever it was cut, and what follows its last EOS
    is a document too. Source: allenai/OLMo `olmo/data/util.py`, `get_document_lengths`.

    Args:
        tokens: Ids of any integer dtype, shape (b, T).
        eos_token_id: The id at the end of each document.
    """
    begins = np.empty(tokens.shape, dtype=np.bool_)
    begins[:, 0] = True
    np.equal(tokens[:, :-1], eos_token_id, out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    # Positions as a running sum: one more each token, and back to 0 where a document begins.
    positions = np.ones(tokens.size, dtype=np.int64)
    positions[starts[1:]] -= np.diff(starts)
    positions[:1] = 0
    return np.cumsum(positions, out=positions).reshape(tokens.shape)
