"""One training run in its run folder: build, find where to start, train, write the result."""

import contextlib
import functools
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence

import torch
import yaml

from olmo_core.checkpoint.weights import lend_shards
from olmo_core.config.load import to_dict
from olmo_core.config.train import CoreConfig, TrainConfig, load_train_config
from olmo_core.errors import ConfigError, Diverged, Stopped
from olmo_core.files import write_atomic
from olmo_core.monitor.tracking import Tracker
from olmo_core.parallel.world import joined, read_world, set_threads
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job
from olmo_core.train.build import build_trainer
from olmo_core.train.host_memory import keep_freed_memory
from olmo_core.train.restore import begins_again, require_same_run
from olmo_core.train.result import CONTENT, write_outputs

log = logging.getLogger("olmo")


def run(config: TrainConfig, ignored_keys: Sequence[str] = ()) -> None:
    """Train as `config` says, resuming what `save_folder` holds; every rank calls it.

    Raises:
        ConfigError, InputError: before the first step.
        Stopped, Diverged: see `Trainer.fit`; of several ranks, on the first alone.
    """
    folder = RunFolder(config.save_folder)
    if folder.finished and not begins_again(config):
        _require_nothing_to_do(config, folder)
        log.info("%s: already finished, nothing to do", folder.path)
        return
    world = read_world(os.environ)
    if config.global_train_batch_size % world.size:
        raise ConfigError(
            f"global_train_batch_size {config.global_train_batch_size} does not divide by "
            f"{world.size} ranks"
        )
    with contextlib.ExitStack() as stack:
        job = stack.enter_context(Job.open(folder.path, resumable=True)) if world.first else None
        stop_requests = stack.enter_context(_counting_requests(job))
        threads = prepare_arithmetic(config.core)
        if world.device.type == "cpu":
            keep_freed_memory()
        stack.enter_context(joined(world))
        if job is not None:
            if ignored_keys:
                log.info("official keys without meaning here: %s", ", ".join(ignored_keys))
            log.info("ranks: %d, threads of each: %d, %s", world.size, threads, world.device)
        trainer = build_trainer(config, world, job, stop_requests)
        if job is not None:
            _record(config, folder)
            if trainer.mirror is not None:
                trainer.mirror.start()
        tracker = Tracker(config.wandb if job else None, folder.path, to_dict(config))
        try:
            if job is not None:
                job.ready()
            with job.timed("train") if job else contextlib.nullcontext():
                trainer.fit(tracker)
        except (Stopped, Diverged):
            # All ranks end here, and torchrun kills the others as soon as one has failed: only the
            # first says so, which has something left to write.
            if job is not None:
                raise
            return
        finally:
            tracker.finish()
        world.barrier()
        if job is not None:
            with job.timed("write model"):
                report = write_outputs(trainer)
            if trainer.mirror is not None:
                with job.timed("send checkpoints"):
                    trainer.mirror.finish(
                        functools.partial(_wait_for_mirror, job, trainer.state.step)
                    )
            job.finish(report, content=CONTENT)
        else:
            lend_shards(trainer.model)


def _wait_for_mirror(job: Job, steps: int, what: str) -> None:
    """Report progress while the last checkpoint is sent, unless the job is asked to stop."""
    if job.stop_requests:
        raise Stopped(f"on request, while {what}; the next attempt goes on with that")
    job.progress(steps, steps, unit="steps", message=what)


def _require_nothing_to_do(config: TrainConfig, folder: RunFolder) -> None:
    """Refuse other values, or more steps, for a finished run: nothing would be done."""
    require_same_run(config)
    step = folder.read_result()["report"]["data"]["step"]
    if config.stop_at is not None and config.stop_at > step:
        raise ConfigError(
            f"{folder.path}: finished at step {step}, before stop_at {config.stop_at}; to go "
            f"further, give another save_folder and load_path={folder.path}"
        )


def _record(config: TrainConfig, folder: RunFolder) -> None:
    """Let the folder say what is trained in it: evaluation reads it, and the next attempt."""
    if not folder.config.exists() or load_train_config(folder.config)[0] != config:
        write_atomic(folder.config, yaml.safe_dump(to_dict(config), sort_keys=False))


def prepare_arithmetic(config: CoreConfig) -> int:
    """Make equal inputs give equal bits on this machine, if asked to; return the threads used."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not, without it
    # `use_deterministic_algorithms` would import the compiler; where there is something to compile,
    # `compile_blocks` calls it
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    # the default fills every fresh tensor so that reading one unwritten is reproducible too; none
    # is read, and the fill costs a pass over memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
    return set_threads(config.threads)


@contextlib.contextmanager
def _counting_requests(job: Job | None) -> Iterator[Callable[[], int]]:
    """Count how often SIGTERM or Ctrl-C asked this rank to stop; a third Ctrl-C ends it as it is.

    The first rank's job already listens to SIGTERM. Where SIGINT is ignored, it stays so. Srun and
    the node runner may both ask: a rank that has been asked is not ended by SIGTERM on its way out.
    """
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        if asked.count(signal.SIGINT) > 2:
            raise KeyboardInterrupt

    numbers = [] if job is not None else [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: len(asked) + (job.stop_requests if job is not None else 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if asked else handler)
