"""The moments at which the drill kills a training process, each set up before training begins.

The run has twelve steps and a checkpoint after every fourth, of which one is kept. Each moment
loses at least one step that was done.
"""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fsspec.implementations.local import LocalFileSystem

from olmo_core import files
from olmo_core.checkpoint import layout, save, shards
from olmo_core.checkpoint.shards import Shards
from olmo_core.parallel.gradients import ReplicatedGradients
from olmo_core.parallel.sharding import ShardedGradients
from olmo_core.remote import storage
from olmo_core.run import job as jobs
from olmo_core.run.job import Job
from olmo_core.train import restore, step, trainer
from olmo_core.train.step import Readings

PATIENCE_SECONDS = 60  # of a thread that waits for the training, should that have ended


def kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # a signal to the whole process may reach it a moment later


def before(owner: object, name: str, act: Callable[..., Any], *, call: int = 1) -> None:
    """Let `act` happen before the `call`-th call of a function."""
    original, calls = getattr(owner, name), [0]

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            act(*arguments, **keywords)
        return original(*arguments, **keywords)

    setattr(owner, name, replaced)


def before_path(owner: object, name: str, part: str, act: Callable[..., Any]) -> None:
    """Let `act` happen before a function is called whose first argument is a path with `part`."""
    original = getattr(owner, name)

    def replaced(path: Any, *arguments: Any, **keywords: Any) -> Any:
        if part in str(path):
            act(path, *arguments, **keywords)
        return original(path, *arguments, **keywords)

    setattr(owner, name, replaced)


def once_a_step_is_logged(number: int) -> Callable[[], None]:
    """Something to call, that waits until the step is done; on the first rank."""
    done = threading.Event()
    original = Job.metric

    def metric(self: Job, row: Any) -> None:
        original(self, row)
        if row["step"] == number:
            done.set()

    setattr(Job, "metric", metric)  # noqa: B010 (for the type checker)
    return lambda: None if done.wait(PATIENCE_SECONDS) else os._exit(99)


def truncate_newest_checkpoint_and_die(*_: object, **__: object) -> None:
    """A power cut: the last checkpoint did not reach the disk whole either."""
    newest = layout.list_checkpoints(RUN[0])[-1].path / layout.STATE / "__0_0.distcp"
    os.truncate(newest, newest.stat().st_size // 2)
    kill()


RUN: list[Path] = []  # the folder of this process's run


def remember_run() -> None:
    before(Job, "ready", lambda job: RUN.append(job.folder))


def torn_row() -> None:
    def metric(self: Job, row: Any) -> None:
        with self.files.metrics.open("a") as metrics:
            metrics.write('{"step": 7, "train/CrossEnt')
        kill()

    before(Job, "metric", metric, call=7)


def in_a_shard(part: str, act: Callable[[], object]) -> None:
    """Act when a good part of the file is written, and what is written has left the process."""
    original = shards._DigestedStream.write

    def write(self: Any, content: Any) -> int:
        count = original(self, content)
        if part in str(self.name) and self.written > 4_000:
            self.flush()
            act()
        return count

    shards._DigestedStream.write = write


def no_space_in_step_8() -> None:
    """Not a death: the disk fills up in the middle of a file."""
    original = shards._DigestedStream.write

    def write(self: Any, content: Any) -> int:
        if "step8" in str(self.name) and self.written > 4_000:
            with Path("/dev/full").open("wb") as full:
                os.dup2(full.fileno(), self.fileno())
        return original(self, content)

    shards._DigestedStream.write = write


def while_the_next_steps_run() -> None:
    in_a_shard("step8", lambda: threading.Event().wait())
    before(trainer, "forward_backward", kill, call=10)


def after_the_name() -> None:
    step_9_is_done = once_a_step_is_logged(9)
    original = layout.publish

    def publish(temporary: Path, target: Path) -> None:
        original(temporary, target)
        if target.name == "step8":
            step_9_is_done()
            kill()

    layout.publish = publish


def in_a_file_sent(part: str, act: Callable[[], object]) -> None:
    """Act when half of a file with `part` in its address has arrived in `remote_save_folder`."""
    original = LocalFileSystem.put_file

    def put_file(self: Any, source: str, target: str, **more: Any) -> None:
        if part in target:
            Path(target).write_bytes(Path(source).read_bytes()[:100])
            act()
        original(self, source, target, **more)

    setattr(LocalFileSystem, "put_file", put_file)  # noqa: B010 (for the type checker)


def in_an_upload() -> None:
    step_10_is_done = once_a_step_is_logged(10)

    def act() -> None:
        step_10_is_done()
        kill()

    in_a_file_sent("step8", act)


def no_line_in_step_12() -> None:
    """Not a death: nothing of the last checkpoint can be sent."""

    def fail() -> None:
        raise ConnectionError("the line is dead")

    storage.PAUSES_SECONDS = ()
    in_a_file_sent("step12", fail)


def in_the_deletion() -> None:
    step_9_is_done = once_a_step_is_logged(9)

    def act(doomed: Path, **_: object) -> None:
        if not (doomed / layout.MANIFEST).exists():  # cleared for the checkpoint to come
            return
        (doomed / layout.TRAIN).unlink()
        step_9_is_done()
        kill()

    before_path(shutil, "rmtree", f"step4{layout.TEMPORARY}", act)


def in_the_model_file() -> None:
    remember_run()
    before_path(files, "fsync", "model.safetensors", truncate_newest_checkpoint_and_die)


def before_the_result() -> None:
    remember_run()
    before(jobs, "write_result", truncate_newest_checkpoint_and_die)


def set_up(moment: str, ranks: int) -> None:
    """Arrange that this process dies at `moment` of its training."""
    microbatches = 4 // ranks  # of a step, on each rank
    gradients = ReplicatedGradients if ranks == 1 else ShardedGradients
    moments: dict[str, Callable[[], None]] = {
        "second step": lambda: before(trainer, "forward_backward", kill, call=2),
        "forward": lambda: before(step, "cross_entropy", kill, call=6 * microbatches + 2),
        "backward": lambda: before(torch.Tensor, "backward", kill, call=6 * microbatches + 1),
        "reduction": lambda: before(gradients, "reduce", kill, call=7),
        "clipping": lambda: before(gradients, "normalise", kill, call=7),
        # one of the two groups of parameters has its update
        "update": lambda: before(torch, "_fused_adamw_", kill, call=6 * 2 + 2),
        "after the update": lambda: before(Readings, "put", kill, call=7),
        "torn row": torn_row,
        "copy of the state": lambda: before(Shards, "copy", kill, call=2),
        "between shards": lambda: before(Shards, "write", kill, call=2),
        "in a shard": lambda: in_a_shard("step8", kill),
        "before the index": lambda: before(Shards, "write_index", kill, call=2),
        "before train.json": lambda: before_path(save, "write_json", "step8", kill),
        "before the manifest": lambda: before_path(layout, "write_manifest", "step8", kill),
        "before the name": lambda: before_path(layout, "publish", "step8", kill),
        "after the name": after_the_name,
        "in the deletion": in_the_deletion,
        "in an upload": in_an_upload,
        "while the next steps run": while_the_next_steps_run,
        "last checkpoint": lambda: in_a_shard("step12", kill),
        "in the model file": in_the_model_file,
        "before the result": before_the_result,
        "resuming": lambda: before(restore, "load_state", kill),
    }
    moments[moment]()
