"""Write a checkpoint so that it is whole or not there, and keep the previous one until it is.

Training waits only while its tensors are copied to the host; the files are written in a thread.
"""

import contextlib
import functools
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch import distributed as dist

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.state import state_of
from olmo_core.errors import InputError
from olmo_core.files import fsync, write_json
from olmo_core.optim.adamw import AdamW
from olmo_core.parallel.world import World
from olmo_core.run.result import describe

if TYPE_CHECKING:
    from torch.distributed.checkpoint.utils import _DistWrapper

    from olmo_core.checkpoint.shards import Shards, Written

Kind = Literal["sharded", "unsharded", "ephemeral"]  # OLMo's three; one format is written for all

log = logging.getLogger("olmo")

_SPARE_BYTES = 64 << 20  # beside the tensors: metadata, metrics, and room for others
_TIMEOUT = timedelta(hours=1)  # a rank may write this much longer than another


class Saver:
    """Write the checkpoints of a run, one after the other; every rank makes one and calls it.

    As a context it waits for what is being written when the block ends; where the block fails, an
    error of the saving is logged and does not hide the block's own.

    Args:
        run: The run folder.
        world: The ranks, each of which writes and digests its own shards.
        asynchronous: Whether `save` returns once the tensors are copied. The files are the same.

    Attributes:
        whole_step: Step of the newest checkpoint that this saver knows to be whole.
    """

    def __init__(self, run: Path, world: World, *, asynchronous: bool) -> None:
        self.run, self.asynchronous = run, asynchronous
        self.whole_step: int | None = None
        # On gloo: on the training's group the messages of a save in the background and those of a
        # step would be taken for each other, and both would wait for ever.
        self._gloo: Any = None
        if world.size > 1:
            self._gloo = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        self._shards: Shards | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether a save has failed, on whichever rank; `finish` says how."""
        return self._error is not None

    def save(
        self,
        model: nn.Module,
        optimizer: AdamW,
        train: Mapping[str, Any],
        *,
        kind: Kind,
        then: Callable[[], None] | None = None,
    ) -> Path:
        """Write `<run>/checkpoints/step{N}`, waiting first for the save before it.

        Args:
            model: Its parameters.
            optimizer: Its moments.
            train: Content of `train.json`; `step` and `order` are among it.
            kind: By which interval it is kept (see `olmo_core.train.saving`).
            then: What the first rank does when the checkpoint is whole.

        Returns:
            Where it will be; it is there when `whole_step` says so, or after `finish`.

        Raises:
            InputError: there is not enough free space, or the save before this one failed.
                Earlier checkpoints are untouched.
        """
        self.finish()
        target = self.run / layout.CHECKPOINTS / f"step{int(train['step'])}"
        state = state_of(model, optimizer.state)
        self._prepare(target, state)
        if self._shards is None:
            from olmo_core.checkpoint.shards import Shards

            self._shards = Shards(state, self._group)
        self._shards.copy(state)
        arguments = (self._shards, target, {**train, "kind": kind}, then)
        # a daemon: where nobody waits for it, as after an error, it must not keep the process
        self._thread = threading.Thread(
            target=self._write, args=arguments, name="save", daemon=True
        )
        self._thread.start()
        if not self.asynchronous:
            self.finish()
        return target

    def finish(self) -> None:
        """Wait until all that was saved is whole, on every rank.

        Raises:
            InputError: a file could not be written; names it, the reason, and the checkpoint that
                is kept.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, *_: object
    ) -> None:
        try:
            self.finish()
        except InputError as error:
            if kind is None:
                raise
            if error is not raised:
                log.error("%s", error)

    @functools.cached_property
    def _group(self) -> "_DistWrapper":
        """Return torch's wrapper of the gloo group, made at the first save; it also acts alone."""
        from torch.distributed.checkpoint.utils import _DistWrapper  # 1.5 s, at the first save

        return _DistWrapper(self._gloo, use_dist=self._gloo is not None, coordinator_rank=0)

    def _prepare(self, target: Path, state: Mapping[str, Tensor]) -> None:
        """Make the temporary folder, or find on all ranks alike that there is no room."""
        problems: list[str] = []
        if self._group.is_coordinator:
            with _noted(problems):
                self.run.mkdir(parents=True, exist_ok=True)
                _require_space(self.run, state)
                shutil.rmtree(layout.temporary(target), ignore_errors=True)
                (layout.temporary(target) / layout.STATE).mkdir(parents=True)
        for problem in self._group.broadcast_object(problems):
            raise InputError(problem)

    def _write(
        self,
        shards: "Shards",
        target: Path,
        train: Mapping[str, Any],
        then: Callable[[], None] | None,
    ) -> None:
        """Write this rank's file, learn how the others fared, publish; runs in the thread."""
        whole, problems = False, list[str]()
        try:
            part: list[Written] = []
            with _noted(problems):
                part.append(shards.write(layout.temporary(target) / layout.STATE))
            gathered = self._group.gather_object((part, problems))
            if gathered is not None:
                problems = [problem for _, found in gathered for problem in found]
                with _noted(problems):
                    if not problems:
                        parts = [written for found, _ in gathered for written in found]
                        _complete(shards, parts, target, train)
                        whole = True
                        if then is not None:
                            then()
                if not whole:
                    shutil.rmtree(layout.temporary(target), ignore_errors=True)
            whole, problems = self._group.broadcast_object((whole, problems))
            if whole:
                self.whole_step = int(train["step"])
            if problems:
                self._error = InputError(_advice(self.run, target, whole, problems))
        except Exception as error:  # another rank has ended, or cannot be reached
            log.exception("saving %s", target)
            self._error = InputError(_advice(self.run, target, False, [str(error)]))


def _complete(
    shards: "Shards", parts: "list[Written]", target: Path, train: Mapping[str, Any]
) -> None:
    """Write index, `train.json`, manifest, name: in this order, by the first rank."""
    temporary = layout.temporary(target)
    digests = shards.write_index(temporary / layout.STATE, [results for results, _ in parts])
    for _, own in parts:
        digests |= own
    files = {f"{layout.STATE}/{name}": entry for name, entry in digests.items()}
    write_json(temporary / layout.TRAIN, dict(train))
    files[layout.TRAIN] = describe(temporary / layout.TRAIN)
    fsync(temporary / layout.STATE)
    layout.write_manifest(temporary, files, train["order"], int(train["step"]))
    layout.publish(temporary, target)


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """Add to `problems` what goes wrong: the other ranks have to be told, whatever it is."""
    try:
        yield
    except (InputError, OSError) as error:
        problems.append(str(error))
    except Exception as error:
        log.exception("saving a checkpoint")
        problems.append(f"{type(error).__name__}: {error}")


def _advice(run: Path, target: Path, whole: bool, problems: list[str]) -> str:
    if whole:
        return f"{target} is whole, but what followed failed: {'; '.join(problems)}"
    step = layout.Checkpoint(target).step
    earlier = [found for found in layout.list_checkpoints(run) if found.step < step]
    kept = f"{earlier[-1].path} is kept" if earlier else "there is no earlier one"
    return (
        f"{target}: not saved: {'; '.join(problems)}; {kept}: remove the cause (free some space, "
        "say) and start again to resume"
    )


def _require_space(run: Path, state: Mapping[str, Tensor]) -> None:
    needed = sum(tensor.nbytes for tensor in state.values()) + _SPARE_BYTES
    free = shutil.disk_usage(run).free
    if free < needed:
        raise InputError(
            f"{run}: {free / 1e6:.0f} MB free, a checkpoint and some room beside it need "
            f"{needed / 1e6:.0f} MB; what was saved is untouched: free some space and start again"
        )
