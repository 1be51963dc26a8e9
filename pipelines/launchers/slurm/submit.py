"""Queue a job, or an array of jobs, once: recorded before and after, and known by its own name."""

import time
from collections.abc import Sequence
from pathlib import Path

from assets.launcher import Launch
from assets.paths import root
from olmo_core.environment import ROOT
from olmo_core.files import write_atomic
from pipelines.launchers import submission
from pipelines.launchers.slurm.queue import Queue, SlurmUnavailable, client
from pipelines.launchers.slurm.script import Batch, job_command
from pipelines.names import job_name
from pipelines.site.file import ResourceSpec, SlurmSite

PATIENCE_SECONDS = 120.0  # with a controller that is being restarted
RETRY_SECONDS = 3.0


def batch_of(
    site: SlurmSite, work: ResourceSpec, launches: Sequence[Launch], first: submission.Claim
) -> Batch:
    """Return what Slurm is given of jobs of one shape, named by the claim of the first.

    The script lies in the run folder or, an array's, in a folder of its own, which is of no job.
    """
    launch = launches[0]
    name = job_name(*named(launch), first.key, first.submission)
    path = launch.folder.log / f"submission{first.submission}.sbatch"
    if len(launches) > 1:
        path = Path(launch.environment.get(ROOT) or root()) / "slurm" / name / "array.sbatch"
    return Batch(site=site, work=work, launches=launches, name=name, path=path)


def queue_up(
    site: SlurmSite,
    work: ResourceSpec,
    launches: Sequence[Launch],
    queue: Queue,
    locks: Sequence[int],
) -> None:
    """Claim the folders, record the launches, call sbatch, and record the job's id.

    Args:
        site: What Slurm wants to know here.
        work: The shape of the jobs.
        launches: The jobs.
        queue: Where a job is looked for whose sbatch has failed.
        locks: The submission locks of the folders, which the caller holds.

    Raises:
        SlurmUnavailable: the controller did not come back in time.
        SlurmError: Slurm refuses the job.
    """
    claims = [submission.claim(launch.folder) for launch in launches]
    batch = batch_of(site, work, launches, claims[0])
    records = [
        submission.record_before(
            launch,
            work,
            made,
            engine="slurm",
            command=batch.command,
            start=job_command(site, work, launch),
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
    elif work.workers:  # Slurm writes the first task's log where everybody looks for it
        (folder / f"{batch.path.stem}.worker0.log").symlink_to(f"{batch.path.stem}.log")
    write_atomic(batch.path, batch.script)
    job_id = _sbatch(batch, queue, locks)
    for launch, record in zip(launches, records, strict=True):
        task = record["array_task"]
        own = job_id if task is None else f"{job_id}_{task}"
        submission.record_after(launch, record, job_id=own, queued_at=time.time())


def _sbatch(batch: Batch, queue: Queue, locks: Sequence[int]) -> str:
    """Call sbatch until the controller answers; returns the job's id.

    sbatch may fail after the job has been queued: then it is found by its name. It inherits the
    locks, so that they are held until it ends, also where this process is killed.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            said = client(batch.command, variables=batch.site.pass_environment, pass_fds=locks)
            return said.strip().partition(";")[0]
        except SlurmUnavailable:
            while True:
                time.sleep(RETRY_SECONDS)
                snapshot = queue.look(newer_than=time.time())
                if not snapshot.error:
                    break
                if time.monotonic() > deadline:
                    raise
        if queued := snapshot.named(batch.name):
            return queued[0].job_id.partition("_")[0]


def named(launch: Launch) -> tuple[str, str]:
    """Return the recipe and the asset, as the job's name has them."""
    return str(launch.identity["recipe"]), str(launch.identity["asset"])
