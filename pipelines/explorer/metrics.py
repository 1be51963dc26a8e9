"""The figures that a training has logged, thinned to what a picture can show."""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from pipelines.explorer.files import kept

LOSS = "train/CrossEntropyLoss"
TOKENS = "throughput/total_tokens"
MOST_POINTS = 2000  # of a curve
MOST_MARKED = 200  # spikes, and skipped steps, that are kept: the last


class _Row(msgspec.Struct):
    """A row of a step, as far as it says whether the step is kept."""

    step: int
    masked: float = msgspec.field(name="train/masked_instances")  # else it is of an evaluation
    spike: float = msgspec.field(default=0, name="spike/loss")
    skipped: float = msgspec.field(default=0, name="optim/step_skipped")


@dataclass(frozen=True, kw_only=True)
class Logged:
    """Rows of a `metrics.jsonl`, by step: of a step that was done again, the last."""

    rows: Sequence[Mapping[str, Any]]  # at most `MOST_POINTS`, and every marked step
    logged: int  # steps
    spikes: Sequence[int]
    skipped: Sequence[int]
    torn: int  # lines that cannot be read, the last one apart: it may be being written

    @property
    def steps(self) -> list[int]:
        """Return the steps of the rows, ascending."""
        return [row["step"] for row in self.rows]

    @property
    def metrics(self) -> list[str]:
        """Return the names of all figures, the loss first."""
        names = {
            key for row in self.rows for key, value in row.items() if _number(value) is not None
        }
        return sorted(names - {"step", "attempt", "time"}, key=lambda name: (name != LOSS, name))

    def column(self, name: str) -> list[float | None]:
        """Return a figure of each row; None where it has none that is a finite number."""
        return [_number(row.get(name)) for row in self.rows]


@kept(most=512)
def read_logged(path: Path) -> Logged:
    """Return what a `metrics.jsonl` holds; nothing while there is none."""
    if not path.is_file():
        return Logged(rows=(), logged=0, spikes=(), skipped=(), torn=0)
    places: dict[int, int] = {}
    spikes: set[int] = set()
    skipped: set[int] = set()
    with path.open("rb") as lines:
        torn = _look(lines, places, spikes, skipped)
        steps = sorted(places)
        marked = [sorted(each)[-MOST_MARKED:] for each in (spikes, skipped)]
        chosen = sorted({*_spread(steps), *marked[0], *marked[1]})
        rows = [_row_at(lines, places[step]) for step in chosen]
    return Logged(rows=rows, logged=len(steps), spikes=marked[0], skipped=marked[1], torn=torn)


def _look(lines: BinaryIO, places: dict[int, int], spikes: set[int], skipped: set[int]) -> int:
    """Note where the last row of each step begins; return how many lines are torn."""
    decoder = msgspec.json.Decoder(_Row)
    at, torn, damaged = 0, 0, False
    for line in lines:
        torn, damaged = torn + damaged, False  # the last line may be being written
        try:
            row = _decoded(decoder, line)
        except ValueError:
            damaged = True
        else:
            if row is not None:
                places[row.step] = at
                for marked, of in ((spikes, row.spike), (skipped, row.skipped)):
                    marked.add(row.step) if of else marked.discard(row.step)
        at += len(line)
    return torn


def _decoded(decoder: "msgspec.json.Decoder[_Row]", line: bytes) -> _Row | None:
    """Return the row of a step; None of an evaluation.

    Raises:
        ValueError: the line is torn.
    """
    try:
        return decoder.decode(line)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError:  # a number may be NaN, which Python writes and JSON does not know
        found = json.loads(line)
    try:
        return msgspec.convert(found, _Row)
    except msgspec.ValidationError:
        return None


def _spread(steps: Sequence[int]) -> Sequence[int]:
    """Return so many of the steps as a picture takes, the first and the last among them."""
    if len(steps) <= MOST_POINTS:
        return steps
    return [steps[at] for at in np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int)]


def _row_at(lines: BinaryIO, place: int) -> dict[str, Any]:
    lines.seek(place)
    return json.loads(lines.readline())


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None
