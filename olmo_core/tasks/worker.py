# pyright: basic
"""Join a job that leads on another node, until its run is over: `… worker RUN_FOLDER`.

The engine starts workers beside a job, on nodes of their own. None is needed: what a worker does
not do, or is killed over, the leader does.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from typing import Any

from distributed import Nanny, Status

from olmo_core import environment
from olmo_core.errors import ConfigError
from olmo_core.run.command import set_up_logging
from olmo_core.run.folder import RunFolder, folder_argument
from olmo_core.tasks.cluster import Meeting, configure, kill, nanny_options

log = logging.getLogger("olmo")

# A job that was preempted comes back after two minutes at the earliest (Slurm's cred_expire), but
# it may also wait for this very node.
LEADERLESS_SECONDS = 180.0
IDLE_SECONDS = 300.0
POLL_SECONDS = 0.5
START_SECONDS = 60.0
ANSWER_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> None:
    """Work for the job of a run folder; exits 0 when there is nothing more to come."""
    folder = folder_argument(
        arguments, "Do tasks of the job that leads in a run folder, until its run is over."
    )
    set_up_logging()
    configure()
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(folder))


async def _run(folder: RunFolder) -> None:
    own = asyncio.current_task()
    assert own is not None
    # Cancelled, preempted; the time limit is near. Tasks at work are begun again elsewhere.
    for asking in (signal.SIGTERM, signal.SIGUSR1):
        asyncio.get_running_loop().add_signal_handler(asking, own.cancel, asking.name)
    log.info("%d processes", environment.processes())
    log.info("ends: %s", await join_leaders(folder))


async def join_leaders(folder: RunFolder) -> str:
    """Work for one leader after the other; return why there is nothing more to come."""
    left = ""  # the scheduler that was worked for
    waits_since = time.monotonic()
    while not (reason := _over(folder)):
        meeting = Meeting.read(folder.path / "work" / "dask")
        if meeting is not None and meeting.id != left:
            left = meeting.id
            if await _work(folder, meeting):
                return f"idle for {IDLE_SECONDS:.0f} s"
            waits_since = time.monotonic()
        elif time.monotonic() - waits_since > LEADERLESS_SECONDS:
            return f"nobody has led it for {LEADERLESS_SECONDS:.0f} s"
        await asyncio.sleep(POLL_SECONDS)
    return reason


def _over(folder: RunFolder) -> str:
    """Return why there is nothing more to come; empty while there may be."""
    if folder.finished:
        return "the run is finished"
    if folder.cancel.exists():
        return "the run was asked to stop"
    if folder.failure.exists():
        return "the run was given up"
    return ""


async def _work(folder: RunFolder, meeting: Meeting) -> bool:
    """Work for a leader until it is gone; return True once it has long had nothing to do."""
    processes = environment.processes()
    try:
        meeting.code.require()
    except ConfigError as error:
        log.error("%s; does no task", error)
        return False
    options = nanny_options(meeting.security, meeting.code, processes)
    nannies = [
        Nanny(meeting.address, death_timeout=START_SECONDS, **options) for _ in range(processes)
    ]
    try:
        start = asyncio.gather(*nannies)
        while not (await asyncio.wait([start], timeout=POLL_SECONDS))[0]:
            if _over(folder):  # a scheduler that has ended is called for long
                start.cancel()
                return False
        await start
        log.info("works for %s", meeting.address)
        return await _until_gone_or_idle(folder, nannies)
    except (OSError, RuntimeError, TimeoutError, ConfigError) as error:
        log.warning("%s: %r", meeting.address, error)
        return False
    finally:
        kill(nannies)
        closed = [asyncio.ensure_future(nanny.close()) for nanny in nannies]
        await asyncio.wait(closed, timeout=ANSWER_SECONDS)


async def _until_gone_or_idle(folder: RunFolder, nannies: Sequence[Nanny]) -> bool:
    worked = time.monotonic()
    while not _over(folder):
        await asyncio.sleep(POLL_SECONDS)
        if any(nanny.status != Status.running for nanny in nannies):
            break  # the connection to the leader was lost
        addresses = [nanny.worker_address for nanny in nannies if nanny.worker_address]
        scheduler: Any = nannies[0].scheduler
        # One that has ended is called again and again for half a minute, were there no limit.
        processing = await asyncio.wait_for(scheduler.processing(workers=addresses), ANSWER_SECONDS)
        if any(processing.values()):
            worked = time.monotonic()
        elif time.monotonic() - worked > IDLE_SECONDS:
            return True
    return False


if __name__ == "__main__":
    main()
