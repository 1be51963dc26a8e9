"""Spikes against the rule written out over the whole series."""

import dataclasses
import json

import numpy as np

from olmo_core.monitor.metrics import spike_metrics
from olmo_core.train.state import History, is_spike


def test_counts_and_scores_are_those_of_the_whole_series() -> None:
    rng = np.random.default_rng(0)
    steps = 10_300
    losses, norms = rng.normal(3, 0.1, steps), rng.normal(1, 0.2, steps)
    losses[[50, 200, 400, 9_000]] = 5  # the first has no window before it
    norms[[200, 5_000]] = 9
    losses[300] = 1  # downwards
    history = History()
    rows = []
    for step in range(steps):
        if step == 3_000:  # through a checkpoint
            history = History(**json.loads(json.dumps(dataclasses.asdict(history))))
        rows.append(spike_metrics(history, history.record(losses[step], norms[step])))
    spikes = []
    for step in range(steps):
        either = False
        for name, values in (("spike/loss", losses), ("spike/grad_norm", norms)):
            window = values[max(0, step - 128) : step]
            spike = len(window) == 128 and values[step] > window.mean() + 6 * window.std()
            assert rows[step][name] == spike
            either = either or spike
        spikes.append(either)
    assert np.flatnonzero(spikes).tolist() == [200, 400, 5_000, 9_000]
    assert "spike/SpikeScore (total)" not in rows[126]
    assert rows[400]["spike/SpikeScore (total)"] == 2 / 401
    assert "spike/SpikeScore" not in rows[9_998]
    assert rows[9_999]["spike/SpikeScore"] == 4 / 10_000
    assert rows[10_250]["spike/SpikeScore"] == 3 / 10_000  # the first is too long ago
    assert rows[-1]["spike/SpikeScore (total)"] == 4 / steps
    assert len(history.losses) == len(history.norms) == 128


def test_no_spike_against_values_that_do_not_vary() -> None:
    assert not is_spike(2.0, [1.0] * 128)
    assert is_spike(2.0, [1.0, 1.001] * 64)
