"""What Slurm says of jobs: its queue, and of those that it no longer has whatever still knows.

The queue is asked once an interval for all jobs that are followed on this machine. Threads and
processes share the answer through a small file. A controller that does not answer is no news of any
job: the last answer stands, with the error and the time since when.
"""

import functools
import hashlib
import json
import os
import re
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from assets.launcher import EngineError, EngineUnavailable, JobState
from olmo_core.files import read_end, write_json
from olmo_core.run.folder import locked

# Of this process's variables these go to Slurm's commands, and by sbatch to the job; not those that
# turn on options of squeue, scancel and the like.
LANGUAGE = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
PASSED = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", *LANGUAGE, "SLURM_CONF")
# What a command says when the controller, or the way to it, has failed, and not the command.
_SILENCE = re.compile(
    "contact slurm controller|timed out|Connection refused|Zero Bytes|unge"
    "|Unable to establish|Unexpected message|Transport endpoint|No route"
)
CLIENT_SECONDS = 60.0  # Slurm's clients try for some time by themselves
FIELDS = ("JobArrayID", "State", "exit_code", "RestartCnt", "NodeList", "Reason", "Name")
# All others may still become work: PENDING, RUNNING, COMPLETING, REQUEUED, SUSPENDED, …
FINAL = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
LOG_END_BYTES = 4 << 20  # of the log of completed jobs, where there is one
_JOB_ID = re.compile(r"[0-9]+(?:_[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One job, or one task of an array, as the queue has it."""

    job_id: str
    state: str
    exit_code: int | None
    restarts: int
    nodes: str
    reason: str
    name: str

    @property
    def alive(self) -> bool:
        """At work, or still to be, perhaps once more."""
        return self.state not in FINAL


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The queue as it was at `time`; with an error, as it was when Slurm last answered."""

    time: float = 0.0  # before squeue was started
    asked: float = 0.0  # when it was last asked, in vain perhaps
    error: str = ""
    text: str = ""  # what squeue said

    @functools.cached_property
    def entries(self) -> dict[str, Entry]:
        """Return the jobs by id, without those that have another's name."""
        entries: dict[str, Entry] = {}
        for line in self.text.splitlines():
            values = line.split("|")
            if len(values) != len(FIELDS) + 1 or not _JOB_ID.fullmatch(values[0]):
                continue  # another job of this user, with a name that has a | or a newline in it
            job_id, state, status, restarts, nodes, reason, name = values[:-1]
            entries[job_id] = Entry(
                job_id=job_id,
                state=state,
                exit_code=os.waitstatus_to_exitcode(int(status)) if status.isdecimal() else None,
                restarts=int(restarts) if restarts.isdecimal() else 0,
                nodes=nodes,
                reason="" if reason == "None" else reason,
                name=name,
            )
        return entries

    def named(self, name: str) -> list[Entry]:
        """Return the jobs of a name; the tasks of an array are several."""
        return [entry for entry in self.entries.values() if entry.name == name]

    def alive(self, job_ids: Sequence[str]) -> list[Entry]:
        """Return those of the jobs that are queued or at work."""
        found = (self.entries[job_id] for job_id in job_ids if job_id in self.entries)
        return [entry for entry in found if entry.alive]


Client = Callable[[Sequence[str]], str]


def client(
    command: Sequence[str], *, variables: Sequence[str] = (), pass_fds: Sequence[int] = ()
) -> str:
    """Return the output of one of Slurm's commands.

    Args:
        command: The command, in words.
        variables: The names of further environment variables that it is given.
        pass_fds: Open files that it inherits.

    Raises:
        EngineUnavailable: the controller did not answer.
        EngineError: the command was refused, or is not installed.
    """
    try:
        done = subprocess.run(
            command,
            env=passed_environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CLIENT_SECONDS,
            pass_fds=pass_fds,
            check=False,
        )
    except FileNotFoundError:
        raise EngineError(
            f"{command[0]}: not on the PATH; jobs can be sent to Slurm from a machine with its "
            "commands (Debian: apt-get install slurm-client)"
        ) from None
    except subprocess.TimeoutExpired:
        raise EngineUnavailable(f"{command[0]}: no answer in {CLIENT_SECONDS:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
    kind = EngineUnavailable if _SILENCE.search(said) else EngineError
    raise kind(said if said.startswith(command[0]) else f"{command[0]}: {said}")


def passed_environment(more: Sequence[str] = ()) -> dict[str, str]:
    """Return the few variables of this process that Slurm's commands are given."""
    return {name: os.environ[name] for name in (*PASSED, *more) if name in os.environ}


def answer(ask: Client, *command: str) -> str:
    """Return what one of Slurm's commands says; nothing where it is refused, or not answered."""
    try:
        return ask([*command])
    except EngineError:
        return ""


class Queue:
    """The queue of one cluster, as seen by everything that this user follows here."""

    def __init__(self, poll_seconds: float, *, ask: Client = client) -> None:
        self.poll_seconds = poll_seconds
        self.ask = ask
        self._asking = threading.Lock()
        self._last = Snapshot()

    def look(self, *, newer_than: float = 0.0) -> Snapshot:
        """Return the queue as of at most `poll_seconds` ago, and asked after `newer_than`."""
        with self._asking:
            if self._is_due(self._last, newer_than):
                cluster = hashlib.sha256(os.environ.get("SLURM_CONF", "").encode()).hexdigest()
                file = shared_folder() / f"squeue.{cluster[:16]}.json"
                with locked(file.with_suffix(".lock")):
                    self._last = _read(file)
                    if self._is_due(self._last, newer_than):
                        self._last = self._renew(self._last)
                        write_json(file, asdict(self._last), durable=False)
            return self._last

    def _is_due(self, snapshot: Snapshot, newer_than: float) -> bool:
        age = time.time() - snapshot.asked
        return not 0 <= age < self.poll_seconds or snapshot.asked < newer_than

    def _renew(self, before: Snapshot) -> Snapshot:
        asked = time.time()
        columns = ",".join(f"{name}:|" for name in FIELDS)
        options = ["--states=all", "--array", "--noheader", f"--Format={columns}"]
        try:
            text = self.ask(["squeue", f"--user={os.getuid()}", *options])
        except EngineError as error:
            return replace(before, asked=asked, error=str(error))
        return Snapshot(time=asked, asked=asked, text=text)


def shared_folder() -> Path:
    """Return a folder of this user on this machine that nobody else can write to.

    Raises:
        EngineError: somebody else has taken its name.
    """
    folder = Path(tempfile.gettempdir()) / f"olmo-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise EngineError(f"{folder}: not a folder of this user alone; remove it, or set TMPDIR")
    return folder


def _read(file: Path) -> Snapshot:
    try:
        return Snapshot(**json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Snapshot()  # none yet, torn by a crash, or of another version


def gone_job(job_id: str, *, ask: Client) -> JobState:
    """Return how a job ended, as far as anything still knows.

    It is alive if the controller does not answer, or has it in the queue after all.
    """
    try:
        found = _fields(ask(["scontrol", "show", "job", "--oneliner", job_id]))
    except EngineUnavailable as error:
        return JobState(alive=True, description=f"Slurm does not answer: {error}")
    except EngineError:  # Invalid job id: purged
        said = f"job {job_id} is no longer known to Slurm, and no accounting says how it ended"
        unknown = JobState(alive=False, description=said)
        return _accounted(job_id, ask) or _logged(job_id, ask) or unknown
    if found.get("JobState") not in FINAL:
        return JobState(alive=True, description=f"job {job_id}")
    return _ended(found["JobState"], found.get("ExitCode", ""))


def _accounted(job_id: str, ask: Client) -> JobState | None:
    """Return what Slurm's accounting says, where a cluster has one."""
    columns = "--format=State,ExitCode"
    text = answer(ask, "sacct", "-n", "-P", "-X", f"--jobs={job_id}", columns)
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 1]
    return _ended(*rows[-1]) if rows else None


def _logged(job_id: str, ask: Client) -> JobState | None:
    """Return what the log of completed jobs says, where it is a file that can be read here."""
    text = answer(ask, "scontrol", "show", "config")
    settings = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", text, re.MULTILINE))
    path = Path(settings.get("JobCompLoc", ""))
    if settings.get("JobCompType") != "jobcomp/filetxt" or not os.access(path, os.R_OK):
        return None
    lines = read_end(path, LOG_END_BYTES).decode(errors="replace").splitlines()
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
