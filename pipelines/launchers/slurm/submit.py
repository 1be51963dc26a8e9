"""Queue a job, or an array of jobs, once: recorded before and after, and known by its own name."""

import contextlib
import fcntl
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.launcher import Launch
from assets.paths import root
from olmo_core.environment import ROOT
from olmo_core.files import write_atomic
from olmo_core.run.folder import RunFolder
from pipelines.launchers.slurm import script as slurm_script
from pipelines.launchers.slurm.queue import Queue, SlurmUnavailable, run_client
from pipelines.launchers.slurm.script import Batch
from pipelines.launchers.submission import claim, next_claim, record_after, record_before
from pipelines.names import job_name
from pipelines.site.file import ResourceSpec, SlurmSite

PATIENCE_SECONDS = 120.0  # with a controller that is being restarted
RETRY_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Jobs of one shape, whose submission locks the caller holds."""

    site: SlurmSite
    work: ResourceSpec
    launches: Sequence[Launch]
    queue: Queue

    @property
    def folder(self) -> Path:
        """Where the batch script lies, and the log: the run folder's, or one of the array's own."""
        return self.launches[0].folder.log

    def dry_run(self) -> str:
        """The batch script, and in it the command that would queue it; writes nothing."""
        made = next_claim(self.launches[0].folder)
        path = self.folder / f"submission{made.submission}.sbatch"
        batch = self.batch(job_name(*named(self.launches[0]), made.key, made.submission), path)
        command = slurm_script.quoted(slurm_script.sbatch_arguments(batch, path))
        first, rest = slurm_script.script(batch).split("\n", 1)
        # A path may hold a newline, and the comment would end there.
        command = command.replace("\n", "\\n")
        return f"{first}\n# {command}\n{rest}"

    def queue_up(self, locks: Sequence[int]) -> None:
        """Claim the folders, record the launches, call sbatch, and record the job's id.

        Raises:
            SlurmUnavailable: the controller did not come back in time.
            SlurmError: Slurm refuses the job.
        """
        claims = [claim(launch.folder) for launch in self.launches]
        for launch in self.launches:
            launch.folder.cancel.unlink(missing_ok=True)  # of an earlier submission
        name = job_name(*named(self.launches[0]), claims[0].key, claims[0].submission)
        single = len(self.launches) == 1
        place = self.folder if single else array_folder(self.launches[0], name)
        path = place / (f"submission{claims[0].submission}.sbatch" if single else "array.sbatch")
        batch = self.batch(name, path)
        command = slurm_script.sbatch_arguments(batch, path)
        records = [
            record_before(
                launch,
                made,
                engine="slurm",
                command=command,
                job_name=name,
                array_task=task if batch.last_task else None,
                run=slurm_script.run_facts(self.site, self.work, launch),
            )
            for task, (launch, made) in enumerate(zip(self.launches, claims, strict=True))
        ]
        write_atomic(path, slurm_script.script(batch))
        if batch.workers:  # Slurm writes the first task's log where everybody looks for it
            (place / f"{path.stem}.worker0.log").symlink_to(f"{path.stem}.log")
        if not single:
            for task, (launch, record) in enumerate(zip(self.launches, records, strict=True)):
                (place / f"{task}.log").symlink_to(launch.folder.path / record["log"])
        job_id = self._sbatch(command, name, locks)
        for launch, record in zip(self.launches, records, strict=True):
            task = record["array_task"]
            own = job_id if task is None else f"{job_id}_{task}"
            record_after(launch, record, job_id=own, queued_at=time.time())

    def batch(self, name: str, path: Path) -> Batch:
        """What Slurm is given under this name, with its script at `path`."""
        return Batch(
            site=self.site,
            work=self.work,
            launches=self.launches,
            name=name,
            log=path.with_suffix(".log") if len(self.launches) == 1 else path.parent,
        )

    def _sbatch(self, command: Sequence[str], name: str, locks: Sequence[int]) -> str:
        """Call sbatch until the controller answers. Returns the job's id.

        sbatch may fail after the job has been queued: then it is found by its name. It inherits
        the locks, so that they are held until it ends, also where this process is killed.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        environment = slurm_script.batch_environment(self.site)
        while True:
            try:
                said = run_client(command, environment, pass_fds=locks)
                return said.strip().partition(";")[0]
            except SlurmUnavailable as error:
                found = self._found(name, deadline, error)
                if found is not None:
                    return found

    def _found(self, name: str, deadline: float, error: SlurmUnavailable) -> str | None:
        """Wait until the queue answers; the id of the job of that name, if there is one."""
        while True:
            time.sleep(RETRY_SECONDS)
            snapshot = self.queue.look(newer_than=time.time())
            if not snapshot.error:
                entries = snapshot.named(name)
                return entries[0].job_id.partition("_")[0] if entries else None
            if time.monotonic() > deadline:
                raise error


def array_folder(launch: Launch, name: str) -> Path:
    """What belongs to an array and to none of its run folders: the script, links to the logs."""
    results = Path(launch.environment.get(ROOT) or root())
    folder = results / "slurm" / name
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def submission_lock(folder: RunFolder) -> Generator[int]:
    """Hold the folder's submission lock; yields its descriptor, for sbatch to hold on to."""
    folder.path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.path / "submit.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def named(launch: Launch) -> tuple[str, str]:
    """The recipe and the asset, as the job's name has them."""
    return str(launch.identity["recipe"]), str(launch.identity["asset"])
