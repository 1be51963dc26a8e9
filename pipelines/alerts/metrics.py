"""Spikes and values that are no numbers, in the rows that a job adds to its metrics.jsonl."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from assets.reporting.plots import LOSS

MOST_BYTES = 8 << 20  # that one look reads of a file; the next one goes on
LAST_ROW_BYTES = 64 << 10  # in which the last row of a file is looked for

# As training logs them: docs/training.md. A share of steps can only rise if there was a spike.
SPIKES = {
    "spike/loss": ("loss", LOSS),
    "spike/grad_norm": ("gradient norm", "optim/total_grad_norm"),
}
SHARE = "spike/SpikeScore (total)"


@dataclass(kw_only=True)
class Reading:
    """How far a file has been read; it only grows, but for a last row that a crash has torn."""

    offset: int = 0  # bytes
    step: int = -1  # of the last row
    told: int = -1  # the highest step of which anything has been told: a resumed run repeats steps
    share: float = 0.0  # of steps that were spikes, as of the last row


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is wrong in the rows of one look; the step is that of the last of them."""

    spikes: Sequence[str] = ()
    spike_step: int = 0
    not_finite: Sequence[str] = ()
    not_finite_step: int = 0


def skip(path: Path, reading: Reading) -> None:
    """Take all rows that are there by now for read."""
    for row, end in _rows(path, max(0, _size(path) - LAST_ROW_BYTES), first_whole=False):
        reading.offset = end
        if isinstance(row.get("step"), int):
            reading.step = reading.told = row["step"]
            reading.share = float(row.get(SHARE, reading.share))


def read_on(path: Path, reading: Reading) -> Found:
    """Read the rows that are new, and return what is wrong in them."""
    spikes: dict[int, str] = {}
    broken: dict[int, str] = {}
    if _size(path) < reading.offset:  # another file: somebody has deleted the run's
        reading.offset, reading.step, reading.told, reading.share = 0, -1, -1, 0.0
    for row, end in _rows(path, reading.offset):
        reading.offset = end
        step = row.get("step")
        if not isinstance(step, int):
            continue
        if step > reading.told:
            if said := _spike(row, reading):
                spikes[step] = said
            if bad := [name for name, value in row.items() if _is_not_finite(value)]:
                broken[step] = f"{', '.join(bad)} at step {step:,}"
        reading.step, reading.share = step, float(row.get(SHARE, reading.share))
    reading.told = max([reading.told, *spikes, *broken])
    return Found(
        spikes=[*spikes.values()],
        spike_step=max(spikes, default=0),
        not_finite=[*broken.values()],
        not_finite_step=max(broken, default=0),
    )


def _spike(row: Mapping[str, Any], reading: Reading) -> str:
    """Return what was a spike at a row's step, or since the row before; empty if nothing was."""
    step = row["step"]
    said = [
        f"{what} {row[key]:.4g}" if isinstance(row.get(key), int | float) else what
        for flag, (what, key) in SPIKES.items()
        if row.get(flag)
    ]
    if said:
        return f"{' and '.join(said)} at step {step:,}"
    if float(row.get(SHARE, 0.0)) > reading.share:  # of a step that was not logged
        return f"loss or gradient norm between steps {max(reading.step, 0):,} and {step:,}"
    return ""


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _rows(
    path: Path, offset: int, *, first_whole: bool = True
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the whole rows from an offset on, each with the offset of its end.

    A row that is being written is left for the next look; a damaged one is passed over, as every
    reader of these files does.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        if offset and not first_whole:
            file.readline()
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield (cast(dict[str, Any], row) if isinstance(row, dict) else {}), file.tell()
            if file.tell() - offset > MOST_BYTES:
                return
