"""The statistics against all resamples written out, scipy, and worked examples."""

import itertools

import numpy as np
import pytest
import scipy.stats

from olmo_core.evals.compare import difference as module
from olmo_core.evals.compare.difference import (
    RESAMPLES,
    holm,
    of_standard_errors,
    paired_bootstrap,
)

Array = np.ndarray


def every_resample(change: Array, weight: Array) -> Array:
    """The score's difference of each of the n**n resamples of n documents, sorted."""
    every = [list(chosen) for chosen in itertools.product(range(len(change)), repeat=len(change))]
    return np.sort([change[chosen].sum() / weight[chosen].sum() for chosen in every])


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_distribution_of_all_resamples(seed: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    change, weight = generator.normal(0.3, 1.0, 5), generator.uniform(1.0, 9.0, 5)
    exact = every_resample(change, weight)  # 3,125
    found = paired_bootstrap(change, weight)
    assert found.value == change.sum() / weight.sum()
    assert found.n == 5
    # 5 standard deviations of a share that so many draws estimate.
    slack = 5 * np.sqrt(0.025 * 0.975 / RESAMPLES)
    for bound, share in ((found.low, 0.025), (found.high, 0.975)):
        assert np.mean(exact < bound) <= share + slack
        assert np.mean(exact <= bound) >= share - slack
    tail = min(np.mean(exact <= 0), np.mean(exact >= 0))
    assert found.p == pytest.approx(2 * tail, abs=10 * np.sqrt(tail / RESAMPLES) + 3 / RESAMPLES)


def test_the_interval_is_scipys() -> None:
    generator = np.random.Generator(np.random.PCG64(7))
    change, weight = generator.normal(0.1, 1.0, 60), generator.uniform(1.0, 9.0, 60)

    def score(change: Array, weight: Array, axis: int = -1) -> Array:
        return change.sum(axis=axis) / weight.sum(axis=axis)

    theirs = scipy.stats.bootstrap(
        (change, weight), score, paired=True, method="percentile", n_resamples=RESAMPLES, rng=3
    ).confidence_interval
    ours = paired_bootstrap(change, weight, seed=3)  # the same draws
    assert (ours.low, ours.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_equal_arguments_give_equal_bits_however_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change, weight = np.linspace(-1, 2, 37), np.ones(37)
    first = paired_bootstrap(change, weight)
    monkeypatch.setattr(module, "_DRAWN_AT_ONCE", 100)
    assert paired_bootstrap(change, weight) == first
    assert paired_bootstrap(change, weight, seed=1) != first


def test_p_is_never_0_and_1_where_nothing_differs() -> None:
    weight = np.ones(50)
    assert paired_bootstrap(np.zeros(50), weight).p == 1.0
    sure = paired_bootstrap(np.full(50, -1.0), weight)
    assert sure.p == pytest.approx(2 / (RESAMPLES + 1))
    assert (sure.low, sure.high) == (-1.0, -1.0)


def test_it_raises_few_false_alarms() -> None:
    """Of models that differ by chance alone, about one in twenty seems different at 5%."""
    generator = np.random.Generator(np.random.PCG64(3))
    alarms = [
        paired_bootstrap(generator.normal(0, 1, 80), np.ones(80), resamples=400).p <= 0.05
        for _ in range(400)
    ]
    assert 0.01 < np.mean(alarms) < 0.10  # 0.05, and 4.6 standard deviations of 400 tries


def test_pairing_sees_what_standard_errors_do_not() -> None:
    generator = np.random.Generator(np.random.PCG64(5))
    hardness = generator.normal(0, 5, 200)
    before, after = hardness + generator.normal(0, 0.2, 200), hardness + 0.1
    error = [float(np.std(side, ddof=1) / np.sqrt(200)) for side in (before, after)]
    apart = of_standard_errors((before.mean(), error[0]), (after.mean(), error[1]))
    paired = paired_bootstrap(after - before, np.ones(200))
    assert paired.value == pytest.approx(apart.value)
    assert paired.p < 0.001 < 0.5 < apart.p


@pytest.mark.parametrize(
    ("change", "weight"), [([], []), ([1.0], [1.0, 1.0]), ([1.0, 2.0], [1.0, 0.0])]
)
def test_documents_without_weight_are_refused(change: list[float], weight: list[float]) -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        paired_bootstrap(np.array(change), np.array(weight))


def test_standard_errors_add_as_scipy_has_it() -> None:
    found = of_standard_errors((0.40, 0.03), (0.31, 0.04))
    assert found.value == pytest.approx(-0.09)
    low, high = scipy.stats.norm(-0.09, 0.05).interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(0.09 / 0.05))
    far = of_standard_errors((0.9, 0.01), (0.5, 0.01))
    assert far.p == pytest.approx(2 * scipy.stats.norm.sf(0.4 / 0.01 / 2**0.5), rel=1e-6)
    assert of_standard_errors((0.5, 0.0), (0.5, 0.0)).p == 1.0
    assert of_standard_errors((0.5, 0.0), (0.6, 0.0)).p == 0.0


def test_holm_is_the_worked_example() -> None:
    # As R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
