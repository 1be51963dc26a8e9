"""The tokens of each source that a training run is expected to have read: no window is looked at.

`olmo_core.release.tokens_read` counts them. Of an epoch read to its end that takes no time, of
another as much as there are windows on the smaller side of where it was left, and the order `olmo`
is shuffled whole. Here is what to say where that is long, and how far it may be from the count.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.config.duration import BEGINNING, Batching, Origin
from olmo_core.data.manifest import Manifest
from olmo_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExpectedRead:
    """The tokens that a run has read by source, as an order that knows no sources gives them."""

    tokens: Mapping[str, float]  # by source
    errors: Mapping[str, float]  # standard error of each, in tokens

    @property
    def error_of_shares(self) -> float:
        """Return the largest standard error of a source's share of all tokens read."""
        total = sum(self.tokens.values())
        return max(self.errors.values()) / total if total else 0.0


def windows_by_epoch(run: Mapping[str, Any]) -> list[int]:
    """Return how many windows a run has read of each epoch, from the one that it began in.

    Args:
        run: `report.data` of the training run: `step`, `first_step` and `order`.
    """
    order, step, last = run["order"], run["first_step"], run["step"]
    origin = Origin(**order["origin"]) if "origin" in order else BEGINNING
    batching = Batching(instances=order["windows"], size=order["global_batch_size"], origin=origin)
    read: list[int] = []
    epoch = batching.place(step)[0] if step < last else 0
    while step < last:
        stop = min(last, batching.end_of(epoch))
        read.append((stop - step) * batching.size)
        step, epoch = stop, epoch + 1
    return read


def windows_to_count(run: Mapping[str, Any]) -> int:
    """Return how many windows must be ordered to count what a run has read.

    Args:
        run: As for `windows_by_epoch`.
    """
    windows = run["order"]["windows"]
    shuffled = windows if run["order"]["algorithm"] == "olmo" else 0
    return sum(min(read, windows - read) + shuffled for read in windows_by_epoch(run))


def expected_read(mix: Path, run: Mapping[str, Any]) -> ExpectedRead:
    """Return the tokens that a run is expected to have read of each source of its mix.

    Of an epoch of W windows, w of them a source's, a run that has read n has read n · w / W of the
    source, as a draw without replacement: hypergeometric, with the variance
    n · w/W · (1 - w/W) · (W - n) / (W - 1). Of n = W that is the count itself.

    Args:
        mix: The mix's run folder.
        run: As for `windows_by_epoch`.

    Raises:
        InputError: the run has read another manifest.
    """
    order, path = run["order"], mix / "manifest.json"
    manifest = Manifest.read(path, root=mix)  # no token file is opened
    if manifest.sha256 != order["manifest_sha256"]:
        raise InputError(
            f"{path}: sha256 {manifest.sha256[:12]}…, but the run has read "
            f"{order['manifest_sha256'][:12]}…"
        )
    length, windows = order["sequence_length"], order["windows"]
    epochs = windows_by_epoch(run)
    drawn = sum(n * (windows - n) for n in epochs) / max(1, windows - 1)
    shares = {stream.name: stream.tokens // length / windows for stream in manifest.streams}
    return ExpectedRead(
        tokens={name: share * sum(epochs) * length for name, share in shares.items()},
        errors={
            name: math.sqrt(share * (1 - share) * drawn) * length for name, share in shares.items()
        },
    )
