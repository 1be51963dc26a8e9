"""What launch.json says of a job of several nodes, and attempts.jsonl of its end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor.gang.process import say


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What launch.json says of a job of several nodes."""

    submission: int
    nodes: int
    each_node: list[str]  # the command that runs one node's part of an attempt
    log: str


def read_plan(folder: RunFolder) -> Plan:
    """What launch.json says.

    Raises:
        SystemExit: it is not there, or says too little.
    """
    launch = folder.read(folder.launch) or {}
    run: Mapping[str, Any] = launch.get("run") or {}
    if not run.get("each_node"):
        say(f"{folder.launch}: no run.each_node: the run was not launched as a gang")
        raise SystemExit(2)
    return Plan(
        submission=int(launch["submission"]),
        nodes=int(run["nodes"]),
        each_node=[str(word) for word in run["each_node"]],
        log=str(launch["log"]),
    )


def is_over(folder: RunFolder, submission: int) -> bool:
    """Whether the supervisor of a submission has spoken its last word."""
    if folder.finished:
        return True
    rows = attempts.read(folder)
    own = [row["attempt"] for row in rows if row.get("submission") == submission]
    last = [row for row in rows if row["event"] == "ended" and row["attempt"] in own[-1:]]
    return bool(last) and last[-1]["next"] not in ("resume", "requeue")
