"""The Slurm engine: each job a batch job, found again by its own name, ended for good when told."""

import contextlib
import functools
import shlex
import time
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.launcher import EngineUnavailable, JobState, Launch
from assets.paths import root
from olmo_core.environment import ROOT
from olmo_core.files import write_atomic, write_json
from olmo_core.run.folder import RunFolder
from pipelines.launchers import submission
from pipelines.launchers.slurm.cancel import end_jobs, scancel
from pipelines.launchers.slurm.queue import Client, Entry, Queue, Snapshot, client, gone_job
from pipelines.launchers.slurm.script import Batch, job_command
from pipelines.names import job_name
from pipelines.site.file import Site, SlurmSite

ARRAY_TASKS = 500  # at once; each holds a lock, and so a file, until sbatch has returned
PATIENCE_SECONDS = 120.0  # with a controller that is being restarted
RETRY_SECONDS = 3.0


@dataclass(kw_only=True)
class SlurmLauncher:
    """Queues jobs, and says of each what the queue says."""

    site: Site
    ask: Client = client
    _ends: dict[str, JobState] = field(default_factory=dict, repr=False)

    @property
    def slurm(self) -> SlurmSite:
        """The site file's section; a site with work for this engine has one."""
        return self.site.slurm or SlurmSite()

    @functools.cached_property
    def queue(self) -> Queue:
        """The queue, asked for all jobs together."""
        return Queue(self.slurm.poll_seconds, ask=self.ask)

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        """Queue those jobs that are neither finished, queued nor at work; returns them.

        Jobs of one shape become one array. A job with workers is an array of its own: it is the
        first task, they are the others.

        Raises:
            EngineUnavailable: the controller does not answer; an earlier job may be in the queue.
            EngineError: Slurm refuses a job.
        """
        alike: dict[Hashable, list[Launch]] = defaultdict(list)
        for launch in sorted(launches, key=lambda launch: launch.folder.path):
            variables = tuple(sorted(launch.environment.items()))
            shape = (launch.distributed, variables, self.site.work_of(launch))
            alike[launch.names, shape].append(launch)
        started: list[Launch] = []
        for group in alike.values():
            size = 1 if self.site.work_of(group[0]).workers else ARRAY_TASKS
            for first in range(0, len(group), size):
                started += self._submit_alike(group[first : first + size])
        return started

    def dry_run(self, launch: Launch) -> str:
        """Return the batch script, with the command that queues it as a comment."""
        batch = self._batch([launch], submission.next_claim(launch.folder))
        first, rest = batch.script.split("\n", 1)
        # A path may hold a newline, and the comment would end there.
        command = shlex.join(batch.command).replace("\n", "\\n")
        return f"{first}\n# {command}\n{rest}"

    def queues(self, launch: Launch) -> bool:
        """Return True: what there is no room for waits."""
        return True

    def state(self, folder: RunFolder) -> JobState:
        """Return what the queue says of the folder's job, at most `poll_seconds` old."""
        if not _is_ours(folder):
            return JobState(alive=False)
        if submission.read_launch(folder)["job_id"] is None and submission.under_way(folder):
            return JobState(alive=True, queued=True, description="being submitted to Slurm")
        return self._state(self._record(folder), self.queue.look())

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        """End the jobs that are queued or at work, with their workers, and let no other follow.

        A job at work is asked for a safe point first.

        Raises:
            EngineUnavailable: the controller does not answer; the cancel file alone asks the job.
            EngineError: a job does not end.
        """
        jobs = {folder: self._jobs(folder) for folder in folders}
        if not any(jobs.values()):
            return
        snapshot = self.queue.look(newer_than=time.time())
        at_work = [folder for folder, own in jobs.items() if snapshot.alive(own)]
        for folder in jobs if snapshot.error else at_work:
            folder.cancel.touch()
        end_jobs([job for own in jobs.values() for job in own], self.queue)
        for folder in at_work:  # of tasks that waited Slurm knows nothing afterwards
            with submission.lock(folder):
                launch = submission.read_launch(folder)
                if launch.get("job_id") == jobs[folder][0]:  # and no later one
                    write_json(folder.launch, {**launch, "ended": "CANCELLED"})

    def _submit_alike(self, launches: Sequence[Launch]) -> list[Launch]:
        with contextlib.ExitStack() as stack:
            # In the order of the paths: two who lock several never wait for each other.
            locks = [stack.enter_context(submission.lock(launch.folder)) for launch in launches]
            wanted = self._wanted(launches)
            if wanted:
                self._queue_up(wanted, [lock for lock in locks if lock is not None])
            return wanted

    def _batch(self, launches: Sequence[Launch], first: submission.Claim) -> Batch:
        """Return what Slurm is given of jobs of one shape, named by the claim of the first.

        The script lies in the run folder or, an array's, in a folder of its own, which is no job's.
        """
        launch = launches[0]
        name = job_name(*launch.names, first.key, first.submission)
        path = launch.folder.log / f"submission{first.submission}.sbatch"
        if len(launches) > 1:
            path = Path(launch.environment.get(ROOT) or root()) / "slurm" / name / "array.sbatch"
        work = self.site.work_of(launch)
        return Batch(site=self.slurm, work=work, launches=launches, name=name, path=path)

    def _queue_up(self, launches: Sequence[Launch], locks: Sequence[int]) -> None:
        """Claim the folders, record the launches, call sbatch, and record the job's id."""
        claims = [submission.claim(launch.folder) for launch in launches]
        batch = self._batch(launches, claims[0])
        records = [
            submission.record_before(
                launch,
                batch.work,
                made,
                energy=self.site.energy,
                engine="slurm",
                command=batch.command,
                start=job_command(batch.site, batch.work, launch),
                job_name=batch.name,
                array_task=task if batch.last_task else None,
            )
            for task, (launch, made) in enumerate(zip(launches, claims, strict=True))
        ]
        folder = batch.path.parent
        if batch.is_array:
            folder.mkdir(parents=True)
            for task, (launch, record) in enumerate(zip(launches, records, strict=True)):
                (folder / f"{task}.log").symlink_to(launch.folder.path / record["log"])
        elif batch.work.workers:  # Slurm writes the first task's log where everybody looks for it
            (folder / f"{batch.path.stem}.worker0.log").symlink_to(f"{batch.path.stem}.log")
        write_atomic(batch.path, batch.script)
        job_id = self._sbatch(batch, locks)
        for launch, record in zip(launches, records, strict=True):
            task = record["array_task"]
            own = job_id if task is None else f"{job_id}_{task}"
            submission.record_after(launch, record, job_id=own, queued_at=time.time())

    def _sbatch(self, batch: Batch, locks: Sequence[int]) -> str:
        """Call sbatch until the controller answers; returns the job's id.

        sbatch may fail after the job has been queued: then it is found by its name. It inherits the
        locks, so that they are held until it ends, also where this process is killed.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                said = client(batch.command, variables=batch.site.pass_environment, pass_fds=locks)
                return said.strip().partition(";")[0]
            except EngineUnavailable:
                while True:
                    time.sleep(RETRY_SECONDS)
                    snapshot = self.queue.look(newer_than=time.time())
                    if not snapshot.error:
                        break
                    if time.monotonic() > deadline:
                        raise
            if queued := snapshot.named(batch.name):
                return queued[0].job_id.partition("_")[0]

    def _wanted(self, launches: Sequence[Launch]) -> list[Launch]:
        """Return those neither finished nor in the queue, even by a name that nobody recorded."""
        wanted = {one.folder.path: one for one in launches if not one.folder.finished}
        before = [one.folder for one in wanted.values() if _is_ours(one.folder)]
        if not before:
            return [*wanted.values()]
        snapshot = self.queue.look(newer_than=time.time())
        if snapshot.error:
            raise EngineUnavailable(
                f"{before[0].path}: not submitted, since an earlier job of it may be in the "
                f"queue, and Slurm does not say: {snapshot.error}"
            )
        for folder in before:
            record = _identified(folder, snapshot)
            if self._state(record, snapshot).alive:
                del wanted[folder.path]
            # Of workers that still wait in the queue the new job has no use: it has its own.
            elif workers := snapshot.alive(_workers(record)):
                scancel(self.ask, *(worker.job_id for worker in workers))
        return [*wanted.values()]

    def _jobs(self, folder: RunFolder) -> list[str]:
        """Return the folder's job, and its workers; empty where Slurm has not got it."""
        if not _is_ours(folder):
            return []
        launch = self._record(folder)
        return [] if launch["job_id"] is None else [str(launch["job_id"]), *_workers(launch)]

    def _record(self, folder: RunFolder) -> Mapping[str, Any]:
        """Return launch.json, completed where its submitter died between sbatch and the record."""
        launch = submission.read_launch(folder)
        if launch["job_id"] is not None:
            return launch
        with submission.lock(folder):
            return _identified(folder, self.queue.look(newer_than=time.time()))

    def _state(self, launch: Mapping[str, Any], snapshot: Snapshot) -> JobState:
        job_id = launch["job_id"]
        if snapshot.error:
            since = time.strftime("since %H:%M:%S", time.localtime(snapshot.time))
            when = since if snapshot.time else "yet"
            said = f"Slurm has not answered {when}, waiting for it: {snapshot.error}"
            return JobState(alive=True, queued=job_id is None, description=said, silence=said)
        if job_id is None:
            return JobState(alive=False, description="never came into Slurm's queue")
        entry = snapshot.entries.get(job_id)
        if entry is not None:
            return described(entry, [snapshot.entries.get(job) for job in _workers(launch)])
        if snapshot.time < float(launch["queued_at"]):
            return JobState(alive=True, queued=True, description=f"job {job_id} just submitted")
        if launch.get("ended"):
            return JobState(alive=False, ended=launch["ended"])
        if job_id not in self._ends:
            state = gone_job(job_id, ask=self.ask)
            if state.alive:
                return state
            self._ends[job_id] = state
        return self._ends[job_id]


def _is_ours(folder: RunFolder) -> bool:
    return submission.read_launch(folder).get("engine") == "slurm"


def _identified(folder: RunFolder, snapshot: Snapshot) -> Mapping[str, Any]:
    """Return launch.json with the job's id, taken from the queue by the job's name if need be."""
    launch = submission.read_launch(folder)
    if launch["job_id"] is not None:
        return launch
    task = launch["array_task"]
    for entry in snapshot.named(launch["job_name"]):
        if task is None or entry.job_id.endswith(f"_{task}"):
            found = {**launch, "job_id": entry.job_id, "queued_at": snapshot.time}
            write_json(folder.launch, found)
            return found
    return launch


def _workers(launch: Mapping[str, Any]) -> list[str]:
    """Return the tasks that are the workers of a job, by the record of its launch."""
    count = int((launch.get("run") or {}).get("workers", 0))
    array = str(launch.get("job_id")).partition("_")[0]
    return [f"{array}_{number}" for number in range(1, count + 1)] if array.isdecimal() else []


def described(entry: Entry, workers: Sequence[Entry | None] = ()) -> JobState:
    """Return what the queue says of a job, and of its workers, in words."""
    if not entry.alive:
        return JobState(alive=False, exit_code=entry.exit_code, ended=entry.state)
    again = f", its turn {entry.restarts + 1}" if entry.restarts else ""
    said = f"job {entry.job_id} {entry.state.lower()}"
    if entry.nodes:
        if workers:
            at_work = sum(1 for worker in workers if worker and worker.state == "RUNNING")
            again += f", {at_work} of {len(workers)} workers"
        return JobState(alive=True, description=f"{said} on {entry.nodes}{again}")
    reason = f": {entry.reason}" if entry.reason else ""
    return JobState(alive=True, queued=True, description=f"{said}{reason}{again}")
