"""Whether two scores differ by more than chance: the paired bootstrap, standard errors, and Holm.

Free of torch. `before` and `after` are two models, or a model at two moments.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 0
CONFIDENCE = 0.95  # of the interval
_DRAWN_AT_ONCE = 1 << 22  # documents that are drawn at one time, over all resamples: 32 MB
_MUCH_ALIKE = 8  # documents for each different one, from which on these are counted, not drawn


@dataclass(frozen=True, kw_only=True)
class Difference:
    """After minus before, in units of the score, with its interval and how likely chance makes it.

    `p` is two-sided: how often no difference would show one as large as this, or larger.
    """

    value: float
    low: float
    high: float
    p: float
    n: int | None  # documents that were drawn from; None: of standard errors


def paired_bootstrap(
    change: NDArray[np.float64],
    weight: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """Return the difference of a score that is a sum over documents by another such sum.

    Documents are drawn with replacement, each with what both models make of it, so that what makes
    a document hard for both cancels.

    Args:
        change: What each document adds to the score's numerator, after minus before.
        weight: What it adds to the denominator, for both; above 0. Bytes, or 1 for a mean.
        resamples: How often as many documents as there are are drawn.
        seed: Of the draws: equal arguments give equal bits.

    Raises:
        ValueError: no document, or not one weight for each; a weight that is not above 0.
    """
    if not len(change) or change.shape != weight.shape or not (weight > 0).all():
        raise ValueError("expected documents, each with a weight above 0")
    sums = drawn_sums(np.stack([change, weight]), resamples=resamples, seed=seed)
    return of_draws(float(change.sum() / weight.sum()), sums[0] / sums[1], len(change))


def drawn_sums(
    columns: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float64]:
    """Return the sums of each column over documents that are drawn with replacement.

    Where many documents are alike, as right and wrong answers are, how often each kind is drawn is
    drawn at once, from the multinomial distribution: which is the same, and takes milliseconds.

    Args:
        columns: A row per column, with a value per document.
        resamples: How often as many documents as there are are drawn.
        seed: Of the draws: equal arguments give equal bits.

    Returns:
        A row per column, with a sum per resample.
    """
    n = columns.shape[1]
    generator = np.random.Generator(np.random.PCG64(seed))
    kinds, counts = np.unique(columns, axis=1, return_counts=True)
    if len(counts) * _MUCH_ALIKE <= n:
        drawn_counts = generator.multinomial(n, counts / n, resamples)
        # Row by row: equal columns have equal sums to the last bit.
        return np.stack([drawn_counts @ column for column in kinds])
    drawn = np.empty((len(columns), resamples))
    at_once = max(1, _DRAWN_AT_ONCE // n)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        chosen = generator.integers(0, n, (count, n))
        for sums, column in zip(drawn, columns, strict=True):
            sums[start : start + count] = column[chosen].sum(axis=1)
    return drawn


def of_draws(value: float, drawn: NDArray[np.float64], n: int) -> Difference:
    """Return a difference, given what it is in each resample.

    The interval is the percentile bootstrap's, p twice the smaller share of resamples on either
    side of no difference. Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
    chapters 13 and 16.

    Args:
        value: After minus before.
        drawn: The same, of the documents of each resample.
        n: Documents that were drawn from.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    # Counted with the sample itself: p is never 0, which no number of draws could show.
    below, above = 1 + int((drawn <= 0).sum()), 1 + int((drawn >= 0).sum())
    p = min(1.0, 2 * min(below, above) / (len(drawn) + 1))
    return Difference(value=value, low=float(low), high=float(high), p=p, n=n)


def of_standard_errors(before: Sequence[float], after: Sequence[float]) -> Difference:
    """Return the difference of two scores, each given with its standard error.

    As if the models had been asked other documents: where both were asked the same ones, the true
    interval is narrower, so that this one errs towards seeing no difference.
    """
    (value_before, error_before), (value_after, error_after) = before, after
    value, error = value_after - value_before, math.hypot(error_before, error_after)
    width = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    without_error = 1.0 if value == 0 else 0.0
    # Twice the normal's tail, which erfc has to the last digit.
    p = math.erfc(abs(value) / error / math.sqrt(2)) if error else without_error
    return Difference(value=value, low=value - width, high=value + width, p=p, n=None)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values, adjusted so that of all tests together one false alarm is as likely as p.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted
