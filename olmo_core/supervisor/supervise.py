"""Watch over one job until it is finished or not to be saved: `… supervise RUN_FOLDER`.

Runs beside the job and needs nobody: it starts the command of launch.json, tells a hung job from a
slow one, resumes what failed, asks the engine for another turn when its time is up, and gives up
with a diagnosis (failure.json) what fails again and again.
"""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

from olmo_core import environment
from olmo_core.environment import ATTEMPT, RUN_FOLDER
from olmo_core.errors import AlreadyRunning, ExitCode, exit_codes
from olmo_core.run import attempts
from olmo_core.run.attempts import CAUSES, Ended
from olmo_core.run.folder import RunFolder, folder_argument, is_locked, locked
from olmo_core.run.process import hung_detail, is_srun, terminate
from olmo_core.supervisor import requeue
from olmo_core.supervisor.classify_exit import Attempt, classify_exit
from olmo_core.supervisor.failure import Failure, read_nodes, sentence, write_failure
from olmo_core.supervisor.launch_spec import LaunchSpec, free_port, read_launch_spec

LOCK_PATIENCE_SECONDS = 120.0  # a file system may hold a dead node's lock for a while
TICK_SECONDS = 1.0
LAST_WORDS_SECONDS = 5.0  # for a node's ranks to end by themselves once another node has failed

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # USR1: the time limit is near
WATCHED = (*ASKING, signal.SIGCHLD)


def main(arguments: list[str] | None = None) -> None:
    """Supervise the job of a run folder; exits as the job did, 0 once it is finished."""
    folder = folder_argument(
        arguments,
        "Start the job of a run folder and see it to its end.",
        "The command is the one in launch.json, under run.",
    )
    # From here on they are waited for, never delivered: none can come at a wrong moment.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    with exit_codes():
        raise SystemExit(supervise(folder, read_launch_spec(folder, "command")))


def supervise(folder: RunFolder, spec: LaunchSpec) -> int:
    """See a job to its end; returns the exit code."""
    with locked(folder.path / "supervise.lock", wait=False) as lock:
        # The other one may be of this very job, on a node that it has lost.
        last = attempts.began(folder).get(attempts.latest(folder), {})
        if lock is None and last.get("job_id") != spec.job_id:
            raise AlreadyRunning(f"{folder.path}: another supervisor is at work here")
        return Supervisor(folder, spec).run()


class Supervisor:
    """Attempts at one run, one after the other."""

    def __init__(self, folder: RunFolder, spec: LaunchSpec) -> None:
        self.folder, self.spec = folder, spec
        self._running_since: float | None = None  # another job was first seen in the folder

    def run(self) -> int:
        """See the job to its end; returns the exit code."""
        code = self._attempts()
        if self.folder.finished or self.folder.failure.exists():
            requeue.end_workers(at_work=False)
            # The key by which nodes meet, where a kill left it.
            shutil.rmtree(self.folder.path / "work" / "dask", ignore_errors=True)
        return code

    def _attempts(self) -> int:
        self.folder.failure.unlink(missing_ok=True)
        nodes = os.environ.get("SLURM_JOB_NODELIST") if self.spec.slurm_job else None
        while not self.folder.finished:
            if self.folder.cancel.exists():  # before it began, or between two attempts
                self.folder.cancel.unlink()
                _say("was asked to stop before it began; start it again to go on")
                return ExitCode.STOPPED
            number = attempts.begin(
                self.folder,
                engine=self.spec.engine,
                job_id=self.spec.job_id,
                nodes=[nodes or socket.gethostname()],  # as the engine names them
                restart=environment.restart(),
            )
            attempt = self.watch(number)
            if attempts.latest(self.folder) > number:
                _say(f"attempt {number}: a later one has begun elsewhere; leaving it the folder")
                return ExitCode.RUNNING
            ended, failure = classify_exit(attempt)
            if ended.cause == "running" and not self._lock_is_free():
                ended = replace(ended, next="stop")
            attempts.end(self.folder, number, ended)
            if ended.cause == "hung":  # perhaps for a worker that holds a call and does not move
                requeue.end_workers(at_work=True)
            then = f"; {ended.next}" if ended.next else ""
            _say(f"attempt {number}: {sentence(ended, detail=attempt.hung)}{then}")
            if ended.next == "stop":
                return self._give_up(attempt, ended, failure)
            if ended.next == "requeue":
                return self._requeue(attempt, ended, failure)
        return ExitCode.FINISHED

    def watch(self, number: int) -> Attempt:
        """Start the command and wait for its end, passing on who asks it to stop."""
        attempt = Attempt(self.folder, self.spec, number)
        child = self._start(number)
        _say(f"attempt {number}: process {child.pid}: {' '.join(self.spec.command)}")
        while child.poll() is None:
            received = signal.sigtimedwait(WATCHED, TICK_SECONDS)
            if received is not None and received.si_signo in ASKING:
                attempt.asked = attempt.asked or signal.Signals(received.si_signo)
                self._ask(child, number)
            elif received is None and not attempt.hung and (seen := attempt.hang()):
                attempt.hung = f"{seen}{hung_detail(self.folder.path, number)}"
                _say(f"attempt {number}: hung: {attempt.hung}; ending it")
                terminate(self.folder.path, number, child)
            elif received is None and self.spec.in_jobset and self._failed_elsewhere(number):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(LAST_WORDS_SECONDS)  # most ranks notice by themselves
                terminate(self.folder.path, number, child)
        attempt.end(child.returncode)
        terminate(self.folder.path, number, child)  # what has lost its parent
        return attempt

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            RUN_FOLDER: str(self.folder.path),
            ATTEMPT: str(number),
            "PYTHONFAULTHANDLER": "1",  # a hung process says where it hangs, when it is ended
            "PYTHONUNBUFFERED": "1",
        }
        if not ("MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ):
            # Where the ranks of this attempt meet: on this node, at a port that nobody has.
            environment["MASTER_ADDR"] = (
                socket.gethostname() if self.spec.slurm_job else "127.0.0.1"
            )
            environment["MASTER_PORT"] = str(free_port())
        if self.spec.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.spec.threads)
        return subprocess.Popen(
            self.spec.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=functools.partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, WATCHED),
        )

    def _ask(self, child: "subprocess.Popen[bytes]", number: int) -> None:
        """Ask the job to reach a safe point and stop at once.

        The file reaches the first rank on whatever node it lies. The signal is faster, but srun
        would kill the ranks on it.
        """
        self.folder.stop.write_text(str(number))
        if not is_srun(child):
            child.send_signal(signal.SIGTERM)

    def _lock_is_free(self) -> bool:
        """Wait for another job to leave the folder, for two minutes in all."""
        self._running_since = self._running_since or time.monotonic()
        while is_locked(self.folder.path / "job.lock"):
            if time.monotonic() - self._running_since > LOCK_PATIENCE_SECONDS:
                return False
            if signal.sigtimedwait(ASKING, TICK_SECONDS) is not None:
                return False
        return True

    def _failed_elsewhere(self, number: int) -> bool:
        """Return whether a node has failed: there is nothing like srun to end the others for it."""
        return any(
            failure.exit_code != ExitCode.STOPPED for failure in read_nodes(self.folder, number)
        )

    def _requeue(self, attempt: Attempt, ended: Ended, failure: Failure) -> int:
        if self.spec.in_pod:
            return ExitCode.REQUEUE
        requeue.end_workers(at_work=False)  # one of them would take this job's place
        job = self.spec.slurm_job
        if job is None or requeue.job_state(job) not in (None, "RUNNING"):
            return CAUSES[ended.cause].exit_code  # Slurm has decided already
        error = requeue.requeue(job)
        if not error:
            signal.sigtimedwait(ASKING, LOCK_PATIENCE_SECONDS)  # Slurm ends this process now
            return CAUSES[ended.cause].exit_code
        return self._give_up(attempt, ended, failure, detail=error)

    def _give_up(
        self, attempt: Attempt, ended: Ended, failure: Failure, *, detail: str = ""
    ) -> int:
        if ended.cause == "stopped":
            self.folder.cancel.unlink(missing_ok=True)  # it has been answered
        write_failure(
            self.folder,
            attempt.number,
            ended,
            failure,
            times=attempts.failures_in_a_row(self.folder),
            detail=detail or attempt.hung,
        )
        return CAUSES[ended.cause].exit_code


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} supervisor: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
