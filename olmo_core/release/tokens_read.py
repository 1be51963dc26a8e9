"""Count the tokens of each source that a training run has read: of its windows, in its order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.config.duration import BEGINNING, Batching, Origin
from olmo_core.data.manifest import Manifest
from olmo_core.data.order import VERSIONS, make_order
from olmo_core.errors import InputError

_POSITIONS = 1 << 22  # of an epoch, ordered at once


def tokens_read(mix: Path, run: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that a finished run has read of each source of its mix.

    A source is a stream of the manifest. What is counted are windows of `sequence_length` tokens,
    each as often as it was read; the tail of a stream and the incomplete last batch of an epoch
    are never read.

    Args:
        mix: The mix's run folder.
        run: `report.data` of the training run: `step`, `first_step` and `order`.

    Raises:
        InputError: the run has read another manifest, or in an order of another version.
    """
    order, path = run["order"], mix / "manifest.json"
    manifest = Manifest.read(path, root=mix)  # no token file is opened
    if manifest.sha256 != order["manifest_sha256"]:
        raise InputError(
            f"{path}: sha256 {manifest.sha256[:12]}…, but the run has read "
            f"{order['manifest_sha256'][:12]}…"
        )
    if VERSIONS[order["algorithm"]] != order["version"]:
        raise InputError(f"order {order['algorithm']}: version {order['version']} is not known")
    length = order["sequence_length"]
    windows = [stream.tokens // length for stream in manifest.streams]
    counts = np.zeros(len(windows), np.int64)
    ends = np.cumsum(windows)
    origin = Origin(**order["origin"]) if "origin" in order else BEGINNING
    batching = Batching(instances=order["windows"], size=order["global_batch_size"], origin=origin)
    for epoch, start, stop in _stretches(batching, run["first_step"], run["step"]):
        made = make_order(
            order["algorithm"],
            count=order["windows"],
            seed=order["seed"],
            epoch=order["first_epoch"] + epoch,
        )
        rest = order["windows"] - (stop - start)
        if rest < stop - start:  # fewer were left out than read: count those
            counts += windows
            for part in ((0, start), (stop, order["windows"])):
                counts -= _of_streams(made, *part, ends)
        else:
            counts += _of_streams(made, start, stop, ends)
    return {
        stream.name: int(count) * length
        for stream, count in zip(manifest.streams, counts, strict=True)
    }


def _stretches(batching: Batching, first: int, last: int) -> list[tuple[int, int, int]]:
    """Return (epoch, start, stop) of the positions that the steps [first, last) read."""
    found: list[tuple[int, int, int]] = []
    step = first
    while step < last:
        epoch, start = batching.place(step)
        steps = min(last - step, (batching.instances - start) // batching.size)
        found.append((epoch, start, start + steps * batching.size))
        step += steps
    return found


def _of_streams(order: Any, start: int, stop: int, ends: np.ndarray) -> np.ndarray:
    """Return how many windows of each stream stand at the positions [start, stop)."""
    counts = np.zeros(len(ends), np.int64)
    for first in range(start, stop, _POSITIONS):
        windows = order.windows(np.arange(first, min(stop, first + _POSITIONS)))
        streams = np.searchsorted(ends, windows, side="right")
        counts += np.bincount(streams, minlength=len(ends))
    return counts
