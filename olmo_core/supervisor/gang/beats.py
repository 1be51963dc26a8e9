"""The files by which the nodes of a job see each other.

Each node but the first writes that it lives; the first writes who takes part in which attempt.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.files import write_json
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder

LOST_SECONDS = 60.0  # without a beat; a file system may show one this late


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A node that took part in an attempt, and is no more."""

    rank: int
    host: str
    message: str


class Others:
    """The other nodes of a job, as their files show them to the first one."""

    def __init__(self, folder: RunFolder, nodes: int) -> None:
        self._folder, self._ranks = folder, range(1, nodes)
        self._beats: dict[int, dict[str, Any]] = {}
        self._changed: dict[int, float] = {}  # when a node was seen to live
        self._taking: dict[int, str] = {}  # part in the attempt: incarnations
        self._hosts: dict[int, str] = {}  # of those

    def look(self) -> None:
        """Take in what the files say now."""
        for rank in self._ranks:
            try:
                beat = self._folder.read(node_file(self._folder, rank))
            except OSError:  # of a shared file system; if it stays so, the node counts as lost
                continue
            if beat is None:
                continue
            before = self._beats.get(rank)
            if before is not None and before["beat"] != beat["beat"]:
                self._changed[rank] = time.monotonic()
            self._beats[rank] = beat

    def all_here(self) -> bool:
        """Whether every node lives, and has not left."""
        self.look()
        now = time.monotonic()
        return all(
            now - self._changed.get(rank, -math.inf) < LOST_SECONDS
            and not self._beats[rank]["left"]
            for rank in self._ranks
        )

    def take(self, attempt: int) -> None:
        """Begin an attempt with the nodes that are there now."""
        self._taking = {rank: str(self._beats[rank]["incarnation"]) for rank in self._ranks}
        self._hosts = {rank: str(self._beats[rank]["host"]) for rank in self._ranks}
        content = {"schema_version": SCHEMA_VERSION, "attempt": attempt, "nodes": self._taking}
        write_json(go_file(self._folder), content)

    def lost(self, patience_seconds: float) -> Lost | None:
        """A node of the attempt that has not been seen to live for so long; None if all have."""
        for rank, incarnation in self._taking.items():
            silent, host = time.monotonic() - self._changed[rank], self._hosts[rank]
            if self._beats[rank]["incarnation"] != incarnation:
                return Lost(rank=rank, host=host, message="it has come back as another")
            if silent > patience_seconds:
                return Lost(rank=rank, host=host, message=f"no sign of it for {silent:.0f} s")
        return None

    def failed(self, attempt: int) -> int | None:
        """The exit code of a node whose part of the attempt has failed; None while none has."""
        for beat in self._beats.values():
            if beat["attempt"] == attempt and beat["exit_code"]:
                return int(beat["exit_code"])
        return None


def node_file(folder: RunFolder, rank: int) -> Path:
    """What a node but the first says of itself."""
    return folder.log / "gang" / f"node{rank}.json"


def go_file(folder: RunFolder) -> Path:
    """Which attempt is on, and who takes part in it."""
    return folder.log / "gang" / "go.json"
