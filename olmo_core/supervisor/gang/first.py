"""The first node: waits for the others, runs the supervisor, and leads each of its attempts."""

import sys
import time

from olmo_core.environment import ANOTHER_TURN
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor.failure import Failure, write_node
from olmo_core.supervisor.gang.beats import LOST_SECONDS, Lost, Others
from olmo_core.supervisor.gang.plan import Plan, is_over
from olmo_core.supervisor.gang.process import (
    EXIT_AGAIN,
    EXIT_STOPPED,
    LAST_WORDS_SECONDS,
    TICK_SECONDS,
    asked,
    exit_code,
    finish,
    say,
    start,
)
from olmo_core.supervisor.terminate import terminate

SIGN_SECONDS = 15.0  # within which a node that lives gives one, also through a slow file system
MEETING_SECONDS = 60.0  # for all to be there; then the attempt is given up, and waiting has no end


def first(folder: RunFolder, plan: Plan) -> int:
    """The first node: the supervisor, over and over while it wants another turn."""
    command = [sys.executable, "-m", "olmo_core.supervisor.supervise", str(folder.path)]
    while not is_over(folder, plan.submission):
        others = Others(folder, plan.nodes)
        while not others.all_here():
            if number := asked(TICK_SECONDS):
                return 128 + number
        supervisor = start(command, {ANOTHER_TURN: str(EXIT_AGAIN)})
        leaving = False
        while supervisor.poll() is None:
            if number := asked(TICK_SECONDS):
                leaving = True
                supervisor.send_signal(number)
        if leaving or supervisor.returncode != EXIT_AGAIN:
            return exit_code(supervisor.returncode)
        say("waiting until all nodes are there again")
    return 0 if folder.finished else 1  # the last word was spoken before this pod was lost


def lead(folder: RunFolder, plan: Plan, attempt: int) -> int:
    """One attempt on all nodes: returns when this node's part ends, or another's has failed."""
    others = Others(folder, plan.nodes)
    deadline = time.monotonic() + MEETING_SECONDS
    while not others.all_here():
        if time.monotonic() > deadline:
            say(f"attempt {attempt}: not all nodes are there")
            return EXIT_AGAIN
        if asked(TICK_SECONDS):
            return EXIT_AGAIN
    others.take(attempt)
    child = start(plan.each_node, {})
    while child.poll() is None:
        if number := asked(TICK_SECONDS):
            child.send_signal(number)
        others.look()
        if lost := others.lost(LOST_SECONDS):
            terminate(folder.path, attempt, child)
            return _lost(folder, attempt, lost)
        # Who has stopped as asked may be waited for: the first rank still writes the checkpoint.
        code = others.failed(attempt)
        if code is not None and code != EXIT_STOPPED:
            finish(child, LAST_WORDS_SECONDS)
            terminate(folder.path, attempt, child)
            return code
    if child.returncode == 0:
        return 0
    lost = _missing(others, attempt)
    return exit_code(child.returncode) if lost is None else _lost(folder, attempt, lost)


def _missing(others: Others, attempt: int) -> Lost | None:
    """The node whose loss may have made this one fail: it says nothing any more."""
    ended = time.monotonic()
    while others.failed(attempt) is None:  # else it is told which rank was first
        asked(TICK_SECONDS)
        others.look()
        since = time.monotonic() - ended
        lost = others.lost(since)
        if since > SIGN_SECONDS or (since > LAST_WORDS_SECONDS and lost is None):
            return lost
    return None


def _lost(folder: RunFolder, attempt: int, lost: Lost) -> int:
    say(f"attempt {attempt}: node {lost.rank} ({lost.host}) was lost: {lost.message}")
    failure = Failure(node=lost.host, exit_code=EXIT_AGAIN, message=lost.message)
    write_node(folder, attempt, lost.rank, [failure])
    return EXIT_AGAIN
