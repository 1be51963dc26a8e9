"""Find instances that repeat themselves: OLMo's instance filter, usually without a full scan.

An instance is masked from the loss (never removed) if for a period p it holds at least
`repetition_max_count` consecutive repeats. Source: allenai/OLMo `olmo/data/util.py`,
`find_periodic_sequences`: with e[i] = (t[i] == t[i - p]), a run of L true values in e is L // p + 1
repeats, and fewer than three repeats are never found.
"""

import numpy as np

from olmo_core.config.data import InstanceFilterConfig

_FEWEST_REPEATS = 3  # OLMo's detection cannot see fewer
_PROBES = 4  # positions looked at in every run that is long enough


def instance_mask(tokens: np.ndarray, config: InstanceFilterConfig) -> np.ndarray:
    """Return which instances count in the loss, bool (b,); False if one repeats itself.

    Args:
        tokens: Ids of any integer dtype, shape (b, T).
        config: Periods and repeats.
    """
    repeats = max(config.repetition_max_count, _FEWEST_REPEATS)
    longest = min(config.repetition_max_period, tokens.shape[1] // 3)  # as in OLMo
    kept = np.ones(len(tokens), dtype=np.bool_)
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
