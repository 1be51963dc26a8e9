"""How a job ended that the queue no longer has: scontrol, then accounting, then the log of jobs."""

import os
import re
from pathlib import Path

from assets.launcher import JobState
from pipelines.launchers.slurm.queue import FINAL, Client, SlurmError, SlurmUnavailable

LOG_END_BYTES = 4 << 20  # of the log of completed jobs, where there is one


def gone_job(job_id: str, *, ask: Client) -> JobState:
    """Return how a job ended, as far as anything still knows.

    It is alive if the controller does not answer, or has it in the queue after all.
    """
    try:
        found = _fields(ask(["scontrol", "show", "job", "--oneliner", job_id]))
    except SlurmUnavailable as error:
        return JobState(alive=True, description=f"Slurm does not answer: {error}")
    except SlurmError:  # Invalid job id: purged
        said = f"job {job_id} is no longer known to Slurm, and no accounting says how it ended"
        unknown = JobState(alive=False, description=said)
        return _accounted(job_id, ask) or _logged(job_id, ask) or unknown
    if found.get("JobState") not in FINAL:
        return JobState(alive=True, description=f"job {job_id}")
    return _ended(found["JobState"], found.get("ExitCode", ""))


def _accounted(job_id: str, ask: Client) -> JobState | None:
    """Return what Slurm's accounting says, where a cluster has one."""
    columns = "--format=State,ExitCode"
    try:
        text = ask(["sacct", "-n", "-P", "-X", f"--jobs={job_id}", columns])
    except SlurmError:
        return None
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 1]
    return _ended(*rows[-1]) if rows else None


def _logged(job_id: str, ask: Client) -> JobState | None:
    """Return what the log of completed jobs says, where it is a file that can be read here."""
    try:
        text = ask(["scontrol", "show", "config"])
    except SlurmError:
        return None
    settings = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", text, re.MULTILINE))
    path = Path(settings.get("JobCompLoc", ""))
    if settings.get("JobCompType") != "jobcomp/filetxt" or not os.access(path, os.R_OK):
        return None
    with path.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    array, _, task = job_id.partition("_")
    wanted = {"ArrayJobId": array, "ArrayTaskId": task} if task else {"JobId": job_id}
    for line in reversed(lines):
        found = _fields(line)
        if wanted.items() <= found.items():
            return _ended(found.get("JobState", ""), found.get("ExitCode", ""))
    return None


def _ended(state: str, exit_code: str) -> JobState:
    """Return the state that `CANCELLED by 1000` or `FAILED`, and `code:signal`, stand for."""
    code, _, number = exit_code.partition(":")
    ending = None
    if code.isdecimal():
        ending = -int(number) if number.isdecimal() and int(number) else int(code)
    return JobState(alive=False, exit_code=ending, ended=(state.split() or [""])[0])


def _fields(text: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S*)", text))
