"""What follows from an instance's tokens: its documents, and whether it repeats itself.

Both are OLMo's definitions: allenai/OLMo `olmo/data/util.py`, `get_document_lengths` and
`find_periodic_sequences`.
"""

import numpy as np

from olmo_core.config.train import InstanceFilterConfig

_FEWEST_REPEATS = 3  # OLMo's detection cannot see fewer
_PROBES = 4  # positions looked at in every run that is long enough


def document_positions(tokens: np.ndarray, eos_token_id: int) -> np.ndarray:
    """Return each token's position within its document, int64 (b, T), from 0.

    Token i shares its document with those from i - positions[i] on. An EOS ends its document and
    belongs to it. An instance begins a document wherever it was cut, and what follows its last EOS
    is a document too.

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


def instance_mask(tokens: np.ndarray, config: InstanceFilterConfig | None) -> np.ndarray:
    """Return which instances count in the loss, bool (b,); one that repeats itself does not.

    With e[i] = (t[i] == t[i - p]) for a period p, a run of L true values in e is L // p + 1
    consecutive repeats; `repetition_max_count` of them are too many. Most rows need no full scan.

    Args:
        tokens: Ids of any integer dtype, shape (b, T).
        config: Periods and repeats; None: all count.
    """
    kept = np.ones(len(tokens), dtype=np.bool_)
    if config is None:
        return kept
    repeats = max(config.repetition_max_count, _FEWEST_REPEATS)
    longest = min(config.repetition_max_period, tokens.shape[1] // 3)  # as in OLMo
    for period in range(config.repetition_min_period, longest + 1):
        run = (repeats - 1) * period  # true values of e that make `repeats` repeats
        for row in _candidates(tokens, period, run):
            if kept[row] and _has_run(tokens[row, period:] == tokens[row, :-period], run):
                kept[row] = False
    return kept


def _candidates(tokens: np.ndarray, period: int, run: int) -> np.ndarray:
    """Return rows that may contain a run of `run` equal values, judged by a few positions of each.

    A run covers at least `probes` consecutive positions of a grid of that stride, so rows without
    that many neighbouring hits have none. A few rows in a thousand are left for the full scan.
    """
    probes = min(_PROBES, run)
    stride = run // probes
    equal = tokens[:, period::stride] == tokens[:, : tokens.shape[1] - period : stride]
    if equal.shape[1] < probes:
        return np.empty(0, dtype=np.intp)
    hits = equal[:, : equal.shape[1] - probes + 1].copy()
    for shift in range(1, probes):
        hits &= equal[:, shift : equal.shape[1] - probes + 1 + shift]
    return np.flatnonzero(hits.any(axis=1))


def _has_run(equal: np.ndarray, run: int) -> bool:
    """Return whether a bool array of shape (n,) holds `run` consecutive true values."""
    ends = np.flatnonzero(~equal)
    edges = np.concatenate(([-1], ends, [len(equal)]))
    return bool((np.diff(edges) - 1).max() >= run)
