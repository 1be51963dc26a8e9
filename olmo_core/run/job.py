"""The frame of every job: one at a time in a folder, a heartbeat, honest errors, the result last.

A job knows its run folder and nothing of who started it. `olmo_core.run.command.run_job` is the
whole life of an ordinary job; training, whose configuration file is an OLMo YAML, opens a `Job`.
"""

import contextlib
import functools
import json
import logging
import mmap
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from olmo_core import environment
from olmo_core.errors import AlreadyRunning, ExitCode, InputError, Stopped, redacted
from olmo_core.files import PARTIAL, append_line, write_json
from olmo_core.run import attempts
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder, locked, read_evaluations
from olmo_core.run.marker import markers_folder, remove_earlier_attempt
from olmo_core.run.process import TreeUsage, own_peak_memory_bytes, start_ticks
from olmo_core.run.result import write_result

log = logging.getLogger("olmo")

HEARTBEAT_SECONDS = 1.0
LOCK_PATIENCE_SECONDS = 3.0  # an observer may hold the lock, shared, for a moment


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a finished job shows; everything must be JSON-able."""

    numbers: Mapping[str, int | float | str] = field(default_factory=dict[str, int | float | str])
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(
        default_factory=dict[str, Sequence[Mapping[str, Any]]]
    )
    samples: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    markdown: Mapping[str, str] = field(default_factory=dict[str, str])  # texts, shown whole
    plots: Mapping[str, str] = field(default_factory=dict[str, str])  # name -> png in the folder
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])  # facts for jobs and checks


class Job:
    """A running job: progress, metrics, timings and the end of one run folder.

    Use `Job.open`; a second job in the same folder is refused there.
    """

    def __init__(self, folder: Path, *, resumable: bool) -> None:
        self.folder = folder
        self.files = RunFolder(folder)
        self.resumable = resumable
        self.scratch = folder / "work"
        self.processes = environment.processes()
        self.workers = environment.workers()  # nodes that may join this one: tasks/map.py
        self.at_end = contextlib.ExitStack()  # closed before the result is written
        self.executor: Executor | None = None  # of its processes, once begun
        # Each SIGTERM is one; the cancel file is the first, and the supervisor's two: at once.
        self.stop_requests = 0
        self._terminated = False
        self.timings: dict[str, float] = {}
        self.attempt = self._attempt()
        self._usage = TreeUsage()
        now = time.time()
        submitted = environment.submitted_at() or self._usage.process.create_time()
        self._status: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "state": "running",
            "attempt": self.attempt,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start_ticks": start_ticks(os.getpid()),
            "submitted": submitted,
            "started": now,
            "done": 0,
            "total": None,
            "unit": "",
            "message": "",
            "counted_from": None,
            "progressed": None,
            "busy": None,
            "peak_memory_bytes": 0,
            "error": None,
        }
        self._end = threading.Event()
        self._writing = threading.Lock()
        self._heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, *, resumable: bool = False) -> Generator["Job"]:
        """Take the folder's lock and run the heartbeat; an error ends as `failed` in status.json.

        Raises:
            AlreadyRunning: another process holds the lock.
            InputError: the folder cannot be made or written to.
        """
        folder = folder.absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "job.lock").touch()
        except OSError as error:
            raise InputError(
                f"{folder}: no folder that a run can write to: {error.strerror}"
            ) from error
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        with contextlib.ExitStack() as stack:
            while stack.enter_context(locked(folder / "job.lock", wait=False)) is None:
                if time.monotonic() > deadline:
                    raise AlreadyRunning(f"{folder}: another job is at work here")
                time.sleep(0.1)
            job = cls(folder, resumable=resumable)
            stack.enter_context(job._alive())
            yield job

    @property
    def cache(self) -> Path:
        """Return what jobs keep for each other, below the root of results; it may be deleted."""
        return (environment.root() or self.folder.parents[2]) / "cache"

    @functools.cached_property
    def markers(self) -> Path:
        """Return where this job's finished tasks are marked."""
        return markers_folder(self.files)

    def ready(self) -> None:
        """Say that imports and set-up are over and the work begins (for the timings)."""
        self._status["ready"] = time.time()

    def progress(
        self,
        done: float,
        total: float | None = None,
        *,
        unit: str = "",
        message: str = "",
        figures: Mapping[str, int | float | str | None] | None = None,
    ) -> None:
        """Report how far the work is; cheap, the heartbeat writes it.

        Args:
            done: Of `total`.
            total: None where it is not known.
            unit: What is counted.
            message: What else a person wants to read at this moment.
            figures: Fields of status.json of this kind of job (training: step, loss, …).
        """
        if self.stop_requests and not self.resumable:
            raise Stopped
        before = self._status
        if (total, unit) != (before["total"], before["unit"]) or done < before["done"]:
            self.counts(done, total, unit=unit)
        self._status.update(figures or {}, done=done, message=message)
        self._status["progressed"] = time.time()

    def counts(self, done: float, total: float | None, *, unit: str) -> None:
        """Say that a part of the work begins, of which `done` was done before: rates begin here."""
        now = time.time()
        self._status.update(
            done=done, total=total, unit=unit, message="", counted_from={"done": done, "time": now}
        )

    def computes(self) -> None:
        """Say that others compute for this job: while it waits for them it does not hang."""
        self._status["busy"] = time.time()

    def metric(self, row: Mapping[str, Any]) -> None:
        """Append one row to metrics.jsonl, with the attempt and the time."""
        line = json.dumps({**row, "attempt": self.attempt, "time": round(time.time(), 3)})
        append_line(self.files.metrics, line)

    @contextlib.contextmanager
    def timed(self, name: str) -> Generator[None]:
        """Time a part of the work; the seconds land in the result's timings."""
        log.info("%s", name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def finish(self, report: Report, *, content: Sequence[str] | None = None) -> None:
        """Digest the outputs and write result.json, the marker of a finished run.

        Args:
            report: What the asset shows.
            content: Output paths, relative to the folder, that the digest covers; all by default.
        """
        # A job shorter than a heartbeat has no sample. Its processes are still there; the peak of
        # this one is kept by the kernel.
        memory_bytes, _ = self._usage.look()
        self.at_end.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._status["peak_memory_bytes"] = max(
            self._status["peak_memory_bytes"], memory_bytes, own_peak_memory_bytes()
        )
        write_result(
            self.files,
            report=asdict(report),
            content=content,
            status=self._status,
            timings=self.timings,
            threads=self.processes,
        )
        self._record()
        self._report()
        self._set_state("done")

    def _record(self) -> None:
        """Add what was evaluated to the store of results, where it outlives this folder.

        That is what an evaluation has found, and a training while it trained. If it fails, the job
        has finished all the same: who reads the store next adds it.
        """
        if (root := environment.root()) is None:
            return
        try:  # pyarrow is imported where there are rows alone; an evaluation has loaded it
            if (self.folder / "rows.parquet").is_file():
                from olmo_core.evals.store.write import record

                record(self.files, root.absolute())
            elif next(read_evaluations(self.files.metrics), None) is not None:
                from olmo_core.evals.store.in_loop import record_in_loop

                record_in_loop(self.files, root.absolute())
        except (OSError, ValueError) as error:
            log.error(
                "not added to the results of %s, but to be added by who reads them: %s", root, error
            )

    def _report(self) -> None:
        """Tell W&B of a checkpoint's scores, where its training is tracked."""
        names = ("rows.parquet", "wandb")  # an evaluation, a training that may have scores waiting
        if any((self.folder / name).exists() for name in names):
            from olmo_core.monitor.scores import report

            report(self.files)

    def _attempt(self) -> int:
        if (given := environment.attempt()) is not None:
            return given
        if self.files.claim.exists() or self.files.attempts.exists():
            return attempts.next_number(self.files)
        status = self.files.read_status()  # started by hand
        return int(status["attempt"]) + 1 if status else 1

    @contextlib.contextmanager
    def _alive(self) -> Generator[None]:
        before = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            if environment.attempt() is None:  # else it is for the supervisor to say who is asked
                self.files.cancel.unlink(missing_ok=True)
            for torn in self.folder.glob(f"{self.files.status.name}.*{PARTIAL}"):
                torn.unlink()  # a heartbeat that a kill cut short
            if not self.resumable:
                remove_earlier_attempt(self.files)
            self.scratch.mkdir(exist_ok=True)
            self._drop_torn_row()
            self._write_status()
            self._heartbeat.start()
            with self.at_end:
                yield
        except BaseException as error:
            stopped = isinstance(error, Stopped | KeyboardInterrupt)
            if not isinstance(error, SystemExit):
                self._status["error"] = redacted(f"{type(error).__name__}: {error}")
            with contextlib.suppress(OSError):  # a full disk, say: what ended the job is the news
                self._set_state("stopped" if stopped else "failed")
            raise
        finally:
            self._end.set()
            if self._heartbeat.is_alive():
                self._heartbeat.join()
            # Whoever asks may ask again: a job that is on its way out keeps its exit code.
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self.stop_requests else before)

    def _drop_torn_row(self) -> None:
        """Cut off a last row that a crash cut short; the resumed job writes it again."""
        with contextlib.suppress(FileNotFoundError), self.files.metrics.open("rb+") as metrics:
            if metrics.seek(0, os.SEEK_END):
                with mmap.mmap(metrics.fileno(), 0, access=mmap.ACCESS_READ) as rows:
                    whole_bytes = rows.rfind(b"\n") + 1
                metrics.truncate(whole_bytes)

    def _on_sigterm(self, signum: int, frame: object) -> None:
        again, self._terminated = self._terminated, True
        self.stop_requests += 1
        if not self.resumable and not again:
            raise Stopped("SIGTERM")

    def _set_state(self, state: str) -> None:
        self._status["state"] = state
        self._end.set()
        self._write_status(durable=True)

    def _write_status(self, *, durable: bool = False) -> None:
        with self._writing:
            self._status["heartbeat"] = time.time()
            write_json(self.files.status, self._status, durable=durable)

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT_SECONDS):
            if attempts.latest(self.files) > self.attempt:
                # Its node was given up, and another writes here now: not one byte more.
                log.error("attempt %d: a later one has begun; ending", self.attempt)
                os._exit(ExitCode.RUNNING)  # another job holds the folder
            memory_bytes, busy = self._usage.look()
            self._status["peak_memory_bytes"] = max(self._status["peak_memory_bytes"], memory_bytes)
            if busy:
                self._status["busy"] = time.time()
            if self.files.cancel.exists():
                self.stop_requests = max(1, self.stop_requests)
            if self.files.stops_at_once(self.attempt):
                self.stop_requests = max(2, self.stop_requests)
            try:
                self._write_status()
            except OSError as error:  # a full disk must not end the heartbeat: the work will say it
                log.warning("heartbeat not written: %s", error)
