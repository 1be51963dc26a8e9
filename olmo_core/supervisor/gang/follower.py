"""Every node but the first: takes part in the supervisor's attempts, one after the other."""

import os
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass

from olmo_core.environment import ATTEMPT, RUN_FOLDER
from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder
from olmo_core.supervisor.gang.beats import go_file, node_file
from olmo_core.supervisor.gang.plan import Plan, is_over
from olmo_core.supervisor.gang.process import (
    EXIT_AGAIN,
    LAST_WORDS_SECONDS,
    PARTING_SECONDS,
    TICK_SECONDS,
    asked,
    exit_code,
    finish,
    say,
    start,
)
from olmo_core.supervisor.terminate import terminate

BEAT_SECONDS = 2.0


@dataclass(kw_only=True)
class Part:
    """This node's part of an attempt."""

    attempt: int = 0
    child: "subprocess.Popen[bytes] | None" = None
    exit_code: int | None = None


class Follower:
    """Every node but the first."""

    def __init__(self, folder: RunFolder, plan: Plan, rank: int) -> None:
        self._folder, self._plan, self._rank = folder, plan, rank
        self._incarnation = uuid.uuid4().hex
        self._part = Part()
        self._beats = 0
        self._next_beat = 0.0

    def run(self) -> int:
        """Take part in attempts until there will be no more."""
        while not is_over(self._folder, self._plan.submission):
            self._beat()
            self._begin()
            leaving = asked(TICK_SECONDS)
            self._look()
            if leaving:
                self._leave()
                return EXIT_AGAIN
        if self._part.child is not None:
            finish(self._part.child, PARTING_SECONDS)
            self._end_part()
        return 0

    def _begin(self) -> None:
        """Take part in the attempt that the first node has begun with this one."""
        go = self._folder.read(go_file(self._folder))
        if go is None or int(go["attempt"]) <= self._part.attempt:
            return
        if go["nodes"].get(str(self._rank)) != self._incarnation:
            return  # of another pod that was this node
        self._end_part()
        attempt = int(go["attempt"])
        given = {ATTEMPT: str(attempt), RUN_FOLDER: str(self._folder.path)}
        self._part = Part(attempt=attempt, child=start(self._plan.each_node, given))
        self._beat(now=True)

    def _look(self) -> None:
        part = self._part
        if part.child is None:
            return
        if part.child.poll() is not None:
            self._end_part()
        elif attempts.has_failed(self._folder, part.attempt):
            finish(part.child, LAST_WORDS_SECONDS)
            self._end_part()

    def _leave(self) -> None:
        """Let this node's ranks reach a safe point, for as long as whoever asks will wait."""
        if self._part.child is not None:
            self._part.child.terminate()
        while self._part.child is not None:
            self._beat()
            asked(TICK_SECONDS)
            self._look()
        self._beat(now=True, left=True)

    def _end_part(self) -> None:
        part = self._part
        if part.child is None:
            return
        if part.child.poll() is None:
            terminate(self._folder.path, part.attempt, part.child)
        part.exit_code, part.child = exit_code(part.child.wait()), None
        self._beat(now=True)

    def _beat(self, *, now: bool = False, left: bool = False) -> None:
        if not now and time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + BEAT_SECONDS
        self._beats += 1
        content = {
            "schema_version": SCHEMA_VERSION,
            "incarnation": self._incarnation,
            "host": os.environ.get("NODE_NAME") or socket.gethostname(),
            "beat": self._beats,
            "attempt": self._part.attempt,
            "exit_code": self._part.exit_code,
            "left": left,
        }
        path = node_file(self._folder, self._rank)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, content, durable=False)
        except OSError as error:  # a beat may be missed; after many, this node counts as lost
            say(f"beat not written: {error}")
