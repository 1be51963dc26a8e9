"""Ask the engine for another turn: Slurm can put the job that this process is of into its queue.

The one place of the core that knows an engine's commands: the supervisor must be able to ask when
nothing else of ours runs.
"""

import os
import subprocess
import sys
import time

from olmo_core import environment

TRIES = 6
PAUSE_SECONDS = 5.0  # a controller that is restarted answers again within this, times TRIES
_ANSWER_SECONDS = 20.0


def job_state(job: str | None) -> str | None:
    """Slurm's word for its job: RUNNING, CANCELLED, …; None without one, or without an answer.

    A job that Slurm is ending is COMPLETING, whatever the reason; if its restart count has not
    risen, it was cancelled.
    """
    if job is None:
        return None
    done = _run(["scontrol", "--oneliner", "show", "job", job])
    if done.returncode != 0:
        return None
    fields = dict(field.split("=", 1) for field in done.stdout.split() if "=" in field)
    turns = os.environ.get("SLURM_RESTART_COUNT") or "0"
    if fields.get("JobState") == "COMPLETING" and fields.get("Restarts", turns) == turns:
        return "CANCELLED"
    return fields.get("JobState")


def lost_nodes(job: str | None) -> str:
    """Return the job's nodes that Slurm has given up; empty if none, or without an answer."""
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if job is None or nodes is None:
        return ""
    done = _run(["sinfo", "--noheader", f"--nodes={nodes}", "--states=down", "--format=%N"])
    return ",".join(sorted(set(done.stdout.split()))) if done.returncode == 0 else ""


def requeue(job: str) -> str:
    """Put Slurm's job into the queue again; return what went wrong, empty if nothing did."""
    error = ""
    for tried in range(TRIES):
        if tried:
            time.sleep(PAUSE_SECONDS)
        done = _run(["scontrol", "requeue", job])
        if done.returncode == 0:
            return ""
        error = done.stderr.strip() or f"exit code {done.returncode}"
        print(f"scontrol requeue {job}: {error}", file=sys.stderr, flush=True)
    return f"scontrol requeue {job}: {error}"


def end_workers(*, at_work: bool) -> None:
    """Take the workers of this process's job out of Slurm's queue; those that have begun, if told.

    Those at work end by themselves once the run is over; those that wait would come yet.
    """
    array, workers = os.environ.get("SLURM_ARRAY_JOB_ID"), environment.workers()
    if array is None or not workers:
        return
    which = [] if at_work else ["--state=PENDING"]
    done = _run(["scancel", *which, f"{array}_[1-{workers}]"])
    if done.returncode != 0 and done.stderr:
        print(f"scancel: {done.stderr.strip()}", file=sys.stderr, flush=True)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=str(error))
