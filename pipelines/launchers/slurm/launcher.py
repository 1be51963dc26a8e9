"""The Slurm engine: each job a batch job, found again by its own name, ended for good when told."""

import contextlib
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assets.launcher import JobState, Launch
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder, is_locked
from pipelines.launchers.slurm.cancel import end_jobs, end_those_queued
from pipelines.launchers.slurm.history import gone_job
from pipelines.launchers.slurm.queue import Client, Entry, Queue, SlurmUnavailable, Snapshot, client
from pipelines.launchers.slurm.script import workers_of
from pipelines.launchers.slurm.submit import Submission, named, submission_lock
from pipelines.launchers.submission import LauncherClosed, read_launch
from pipelines.site.file import ResourceSpec, Site, SlurmSite

ARRAY_TASKS = 500  # at once; each holds a lock, and so a file, until sbatch has returned


@dataclass(kw_only=True)
class SlurmLauncher:
    """Queues jobs, and says of each what the queue says."""

    site: Site
    ask: Client = client
    _closed: bool = field(default=False, repr=False)
    _queue: Queue | None = field(default=None, repr=False)
    _ends: dict[str, JobState] = field(default_factory=dict, repr=False)

    @property
    def slurm(self) -> SlurmSite:
        """The site file's section; a site with work for this engine has one."""
        return self.site.slurm or SlurmSite()

    @property
    def queue(self) -> Queue:
        """Made at the first look: a machine without Slurm has no use for it."""
        if self._queue is None:
            self._queue = Queue(self.slurm.poll_seconds, ask=self.ask)
        return self._queue

    def submit(self, launch: Launch) -> bool:
        """Queue the job unless it is finished, queued or at work; True if this call queued it.

        Raises:
            SlurmUnavailable: the controller does not answer; an earlier job may be in the queue.
            SlurmError: Slurm refuses the job.
        """
        return bool(self.submit_many([launch]))

    def submit_many(self, launches: Sequence[Launch]) -> list[Launch]:
        """Queue many jobs, those of one shape as one array; returns those that this call queued.

        A job with workers is an array of its own: it is the first task, they are the others.

        Raises:
            SlurmUnavailable, SlurmError: as for `submit`.
        """
        alike: dict[Hashable, list[Launch]] = {}
        for launch in sorted(launches, key=lambda launch: launch.folder.path):
            alike.setdefault(self._shape(launch), []).append(launch)
        started: list[Launch] = []
        for group in alike.values():
            size = 1 if workers_of(self.site.work_of(group[0]), group[0]) else ARRAY_TASKS
            for first in range(0, len(group), size):
                started += self._submit_alike(group[first : first + size])
        return started

    def close(self) -> None:
        """Queue no further job; those in the queue stay."""
        self._closed = True

    def queues(self, launch: Launch) -> bool:
        """Always: what there is no room for waits."""
        return True

    def dry_run(self, launch: Launch, work: ResourceSpec) -> str:
        """The batch script, and as a comment in it the command that queues it."""
        submission = Submission(site=self.slurm, work=work, launches=[launch], queue=self.queue)
        return submission.dry_run()

    def state(self, folder: RunFolder) -> JobState:
        """What the queue says of the folder's job, at most `poll_seconds` old."""
        launch = read_launch(folder)
        if launch.get("engine") != "slurm":
            return JobState(alive=False)
        if launch.get("job_id") is None:
            if is_locked(folder.path / "submit.lock"):
                return JobState(alive=True, queued=True, description="being submitted to Slurm")
            launch = self._adopted(folder)
        return self._state(launch, self.queue.look())

    def cancel(self, folder: RunFolder) -> None:
        """Ask the job for a safe point, then end every process of it, and let no other follow.

        Its workers are asked and ended with it.

        Raises:
            SlurmUnavailable: the controller does not answer; the cancel file alone asks the job.
            SlurmError: the job does not end.
        """
        folder.cancel.touch()
        self.cancel_many([folder])

    def cancel_many(self, folders: Sequence[RunFolder]) -> None:
        """As `cancel`, for those that have a job in the queue or at work; asks Slurm for all.

        Raises:
            SlurmUnavailable, SlurmError: as for `cancel`.
        """
        jobs = {folder: _jobs(self._recorded(folder)) for folder in folders}
        if not any(jobs.values()):
            return
        snapshot = self.queue.look(newer_than=time.time())
        alive = {job for job, entry in snapshot.entries.items() if entry.alive}
        for folder, own in jobs.items():
            if snapshot.error or not alive.isdisjoint(own):
                folder.cancel.touch()
        end_jobs([job for own in jobs.values() for job in own], self.queue, ask=self.ask)
        for folder, own in jobs.items():
            if not alive.isdisjoint(own):
                _note_end(folder, own[0])

    def _submit_alike(self, launches: Sequence[Launch]) -> Sequence[Launch]:
        with contextlib.ExitStack() as stack:
            # In the order of the paths: two who lock several never wait for each other.
            locks = [stack.enter_context(submission_lock(launch.folder)) for launch in launches]
            wanted = self._wanted(launches)
            if not wanted:
                return []
            if self._closed:
                folder = wanted[0].folder.path
                raise LauncherClosed(f"{folder}: not started, since the run was cancelled")
            self._submission(wanted).queue_up(locks)
            return wanted

    def _wanted(self, launches: Sequence[Launch]) -> list[Launch]:
        """Those that are neither finished nor in the queue, be it by a name nobody recorded."""
        open_ = [launch for launch in launches if not launch.folder.finished]
        before = [read_launch(launch.folder) for launch in open_]
        if not any(record.get("engine") == "slurm" for record in before):
            return open_
        snapshot = self.queue.look(newer_than=time.time())
        if snapshot.error:
            raise SlurmUnavailable(
                f"{open_[0].folder.path}: not submitted, since an earlier job of it may be in the "
                f"queue, and Slurm does not say: {snapshot.error}"
            )
        wanted: list[Launch] = []
        for launch, record in zip(open_, before, strict=True):
            if record.get("engine") == "slurm":
                record = self._identified(launch.folder, record, snapshot)
                if self._state(record, snapshot).alive:
                    continue
                # Of workers that still wait in the queue the new job has no use: it has its own.
                end_those_queued(_workers(record), snapshot, ask=self.ask)
            wanted.append(launch)
        return wanted

    def _submission(self, launches: Sequence[Launch]) -> Submission:
        work = self.site.work_of(launches[0])
        return Submission(site=self.slurm, work=work, launches=launches, queue=self.queue)

    def _shape(self, launch: Launch) -> Hashable:
        """What the tasks of one array have in common."""
        environment = tuple(sorted(launch.environment.items()))
        return (*named(launch), launch.distributed, environment, self.site.work_of(launch))

    def _recorded(self, folder: RunFolder) -> Mapping[str, Any]:
        """The record of the folder's job on this engine; empty where there is none."""
        launch = read_launch(folder)
        if launch.get("engine") != "slurm":
            return {}
        return launch if launch.get("job_id") is not None else self._adopted(folder)

    def _adopted(self, folder: RunFolder) -> Mapping[str, Any]:
        """The record of a launch whose submitter died between sbatch and the record."""
        with submission_lock(folder):
            launch = read_launch(folder)
            if launch.get("job_id") is not None:  # sbatch has returned meanwhile
                return launch
            return self._identified(folder, launch, self.queue.look(newer_than=time.time()))

    def _identified(
        self, folder: RunFolder, launch: Mapping[str, Any], snapshot: Snapshot
    ) -> Mapping[str, Any]:
        """A launch with its job's id, taken from the queue by the job's name if need be."""
        if launch.get("job_id") is not None:
            return launch
        task = launch.get("array_task")
        for entry in snapshot.named(str(launch.get("job_name"))):
            if task is None or entry.job_id.endswith(f"_{task}"):
                found = {**launch, "job_id": entry.job_id, "queued_at": snapshot.time}
                write_json(folder.launch, found)
                return found
        return launch

    def _state(self, launch: Mapping[str, Any], snapshot: Snapshot) -> JobState:
        job_id = launch.get("job_id")
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
        return self._gone(job_id)

    def _gone(self, job_id: str) -> JobState:
        """Of a job that the queue does not have any more."""
        if job_id not in self._ends:
            try:
                ended = gone_job(job_id, ask=self.ask)
            except SlurmUnavailable as error:
                return JobState(alive=True, description=f"Slurm does not answer: {error}")
            if ended is None:
                return JobState(alive=True, description=f"job {job_id}")
            self._ends[job_id] = ended
        return self._ends[job_id]


def _jobs(launch: Mapping[str, Any]) -> list[str]:
    """The job of a launch, and its workers; none where Slurm has not got it."""
    job_id = launch.get("job_id")
    return [] if job_id is None else [str(job_id), *_workers(launch)]


def _note_end(folder: RunFolder, job_id: str) -> None:
    """Record that a job was cancelled: of tasks that waited Slurm knows nothing afterwards."""
    with submission_lock(folder):
        launch = read_launch(folder)
        if launch.get("job_id") == job_id:  # and no later one
            write_json(folder.launch, {**launch, "ended": "CANCELLED"})


def _workers(launch: Mapping[str, Any]) -> list[str]:
    """The tasks that are the workers of a job, by the record of its launch."""
    count = int((launch.get("run") or {}).get("workers", 0))
    array = str(launch.get("job_id")).partition("_")[0]
    return [f"{array}_{number}" for number in range(1, count + 1)] if array.isdecimal() else []


def described(entry: Entry, workers: Sequence[Entry | None] = ()) -> JobState:
    """What the queue says of a job, and of its workers, in words."""
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
