"""Scores of a run's checkpoints on their way to its W&B run: a file per evaluation, each sent once.

`<run>/wandb/scores/` holds what waits, `<run>/wandb/scores/sent/` what somebody has taken to send.
Whoever takes a file renames it first, so that of two processes one sends it, and none again.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from olmo_core.files import write_json

AXIS = "tokens"  # over which scores and in-loop figures are drawn: those of the run's counter
SCORES = "scores/"  # before a score's task and metric


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an evaluation of a checkpoint found."""

    tokens: int  # of the run's own counter
    figures: Mapping[str, float]  # by `<task>/<metric>`

    def row(self) -> dict[str, float]:
        """Return what W&B is told, with the axis."""
        return {AXIS: self.tokens, **{f"{SCORES}{name}": v for name, v in self.figures.items()}}


class Outbox:
    """The scores of a run that wait, and those that were taken.

    Args:
        run: The training's run folder.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "wandb" / "scores"
        self.sent = self.folder / "sent"

    def put(self, name: str, scores: Scores) -> bool:
        """Add an evaluation's scores; returns whether they are new: not waiting, nor taken."""
        if any((place / f"{name}.json").exists() for place in (self.folder, self.sent)):
            return False
        write_json(self.folder / f"{name}.json", asdict(scores))
        return True

    def waiting(self) -> list[str]:
        """Return the names of what waits, the first written first."""
        found: list[tuple[int, str]] = []
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # taken meanwhile
                found.append((path.stat().st_mtime_ns, path.stem))
        return [name for _, name in sorted(found)]

    def take(self, name: str) -> Scores | None:
        """Return scores for whoever sends them now; None: somebody else has taken them."""
        self.sent.mkdir(exist_ok=True)
        taken = self.sent / f"{name}.json"
        try:
            os.rename(self.folder / f"{name}.json", taken)
        except FileNotFoundError:
            return None
        return Scores(**json.loads(taken.read_text(encoding="utf-8")))

    def doubtful(self, names: Sequence[str], error: Exception) -> str:
        """Return what is to be said of scores that were taken, and then something went wrong."""
        said = "; ".join([*names]) or "none"
        return (
            f"{type(error).__name__}: {error}; may not have arrived, and is not sent again by "
            f"itself: {said}. To send one again, move its file from {self.sent} to {self.folder}"
        )

    def taken(self) -> int:
        """Return how many evaluations have been taken."""
        return sum(1 for _ in self.sent.glob("*.json"))
