"""The loader: the batch of any global step, the same for any number of ranks and workers.

Step s of epoch e holds positions [s·B, (s+1)·B) of the epoch's order. Rank r of w takes every w-th
of them, starting with the r-th, as in OLMo. A last, incomplete batch of an epoch is dropped.
"""

import copy
import dataclasses
import functools
import itertools
import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from olmo_core.config.duration import BEGINNING, Batching, Origin
from olmo_core.config.train import InstanceFilterConfig
from olmo_core.data.instances import Instances
from olmo_core.data.manifest import Manifest
from olmo_core.data.order import VERSIONS, Order, OrderName, make_order
from olmo_core.errors import InputError

_READ_AHEAD = 4  # batches
_LEAVE_SECONDS = 5.0  # for a read in progress; one that hangs on a network dies with the process
_FEWEST_REPEATS = 3  # OLMo's detection cannot see fewer
_PROBES = 4  # positions looked at in every run that is long enough


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's part of a global batch: b instances of T tokens."""

    input_ids: np.ndarray  # int64 (b, T)
    instance_mask: np.ndarray  # bool (b,): false is masked from the loss
    label_mask: np.ndarray | None  # bool (b, T), where the data has masks
    positions: np.ndarray | None  # int64 (b, T): of each token in its document, where asked for
    instances: np.ndarray  # int64 (b,): window numbers in the manifest


@dataclass(kw_only=True, eq=False)
class Loader:
    """Random access to global batches, without state that a checkpoint would have to save.

    Raises:
        InputError: a file does not fit, or there is less than one global batch.
    """

    manifest: Manifest
    sequence_length: int  # tokens of an instance
    global_batch_size: int  # instances of a step, over all ranks
    seed: int  # of the order
    order: OrderName = "olmo"  # see `olmo_core.data.order`
    instance_filter: InstanceFilterConfig | None = None  # masks instances that repeat themselves
    vocab_size: int | None = None  # of the model; an id at or beyond it is an error
    # The id that ends documents, if each token's position in its document is wanted.
    document_eos: int | None = None
    first_epoch: int = 0  # of step 0: OLMo's `epoch`

    def __post_init__(self) -> None:
        length, size, eos = self.sequence_length, self.global_batch_size, self.document_eos
        self.data = Instances(self.manifest, sequence_length=length, vocab_size=self.vocab_size)
        self.batching = Batching(instances=self.data.count, size=size)
        if self.batching.per_epoch == 0:
            raise InputError(
                f"{self.data.count} instances of {length} tokens do not fill a global batch of "
                f"{size}: {size * length} tokens are needed at least"
            )
        for file in self.data.files.values():
            written = file.header and file.header.eos_token_id
            if eos is not None and written not in (None, eos):
                raise InputError(
                    f"{file.path}: its documents end in token {written}, but they are told apart "
                    f"by {eos} (model.eos_token_id)"
                )
        # Two epochs: prefetching at the end of one reads the next.
        self._order = functools.lru_cache(maxsize=2)(self._make_order)

    def beginning_at(self, origin: Origin) -> "Loader":
        """Return a loader of the same data whose batches count from `origin` on."""
        other = copy.copy(self)
        other.batching = dataclasses.replace(self.batching, origin=origin)
        return other

    def instances(self, step: int) -> np.ndarray:
        """Return the window numbers of a step's global batch in order, int64; steps from 0."""
        epoch, start = self.batching.place(step)
        return self._order(epoch).windows(np.arange(start, start + self.global_batch_size))

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return the part of `rank` in the global batch of `step`; epochs follow each other.

        Raises:
            InputError: a file was truncated, or an id lies beyond the vocabulary.
        """
        if self.global_batch_size % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"rank {rank} of {world_size}: the global batch of {self.global_batch_size} "
                "instances must divide evenly"
            )
        return self.read(self.instances(step)[rank::world_size])

    def read(self, instances: np.ndarray) -> Batch:
        """Return the instances with these window numbers as a batch; raise as `batch` does."""
        tokens, eos = self.data.read(instances), self.document_eos
        return Batch(
            input_ids=tokens.astype(np.int64),
            instance_mask=instance_mask(tokens, self.instance_filter),
            label_mask=self.data.read_label_masks(instances) if self.data.has_label_masks else None,
            positions=None if eos is None else document_positions(tokens, eos),
            instances=instances,
        )

    def iterate(
        self,
        start_step: int = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
        stop_step: int | None = None,
    ) -> Generator[Batch]:
        """Yield batches from `start_step` on, endlessly without `stop_step`; a thread reads ahead.

        An error in the thread is raised here, at the step where it occurred. Close the generator
        (or drop it) to end the thread.
        """
        steps = itertools.count(start_step) if stop_step is None else range(start_step, stop_step)
        ready: queue.SimpleQueue[Batch | BaseException | None] = queue.SimpleQueue()
        room, closed = threading.Semaphore(_READ_AHEAD), threading.Event()

        def read_ahead() -> None:
            try:
                for step in steps:
                    room.acquire()
                    if closed.is_set():
                        return
                    ready.put(self.batch(step, rank=rank, world_size=world_size))
                ready.put(None)
            except BaseException as error:
                ready.put(error)

        thread = threading.Thread(target=read_ahead, name="loader", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                room.release()
                yield item
        finally:
            closed.set()
            room.release()
            thread.join(_LEAVE_SECONDS)

    def order_spec(self) -> dict[str, Any]:
        """Return what fixes the sequence of global batches; checkpoints and exports keep it."""
        origin = self.batching.origin
        return {
            "algorithm": self.order,
            "version": VERSIONS[self.order],
            "seed": self.seed,
            "first_epoch": self.first_epoch,
            "windows": self.data.count,
            "sequence_length": self.sequence_length,
            "global_batch_size": self.global_batch_size,
            "manifest_sha256": self.data.manifest.sha256,
            **({} if origin == BEGINNING else {"origin": dataclasses.asdict(origin)}),
        }

    def steps_of(self, instance: int, *, epochs: int = 1) -> list[int]:
        """Return the steps that hold an instance in the first `epochs` epochs; none in a tail."""
        places = [
            int(self._order(epoch).positions(np.asarray([instance]))[0]) for epoch in range(epochs)
        ]
        steps = itertools.starmap(self.batching.step_of, enumerate(places))
        return [step for step in steps if step is not None]

    def _make_order(self, epoch: int) -> Order:
        number = self.first_epoch + epoch
        return make_order(self.order, count=self.data.count, seed=self.seed, epoch=number)


# What follows from an instance's tokens, its documents and whether it repeats itself, is defined as
# in OLMo: allenai/OLMo `olmo/data/util.py`, `get_document_lengths`, `find_periodic_sequences`.


def document_positions(tokens: np.ndarray, eos_token_id: int) -> np.ndarray:
    """Return each token's position within its document, int64 (b, T), from 0.

    Token i shares its document with those from i - positions[i] on. An EOS ends its document and
    belongs to it. An instance begins a document wherever it was cut, and what follows its last EOS
    is a document too.

    Args:
        tokens: Ids of any integer dtype, shape (b, T).
        eos_token_id: The id at the end of each document.
    """
    begins = np.empty(tokens.shape, dtype=np.bool_)
    begins[:, 0] = True
    np.equal(tokens[:, :-1], eos_token_id, out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    # Positions as a running sum: one more each token, and back to 0 where a document begins.
    positions = np.ones(tokens.size, dtype=np.int64)
    positions[starts[1:]] -= np.diff(starts)
    positions[:1] = 0
    return np.cumsum(positions, out=positions).reshape(tokens.shape)


def instance_mask(tokens: np.ndarray, config: InstanceFilterConfig | None) -> np.ndarray:
    """Return which instances count in the loss, bool (b,); one that repeats itself does not.

    With e[i] = (t[i] == t[i - p]) for a period p, a run of L true values in e is L // p + 1
    consecutive repeats; `repetition_max_count` of them are too many. Most rows need no full scan.

    Args:
        tokens: Ids of any integer dtype, shape (b, T).
        config: Periods and repeats; None: all count.
    """
    kept = np.ones(len(tokens), dtype=np.bool_)
    if config is None:
        return kept
    repeats = max(config.repetition_max_count, _FEWEST_REPEATS)
    longest = min(config.repetition_max_period, tokens.shape[1] // 3)  # as in OLMo
    for period in range(config.repetition_min_period, longest + 1):
        run = (repeats - 1) * period  # true values of e that make `repeats` repeats
        for row in _candidates(tokens, period, run):
            if kept[row] and _has_run(tokens[row, period:] == tokens[row, :-period], run):
                kept[row] = False
    return kept


def _candidates(tokens: np.ndarray, period: int, run: int) -> np.ndarray:
    """Return rows that may contain a run of `run` equal values, judged by a few positions of each.

    A run covers at least `probes` consecutive positions of a grid of that stride, so rows without
    that many neighbouring hits have none. A few rows in a thousand are left for the full scan.
    """
    probes = min(_PROBES, run)
    stride = run // probes
    equal = tokens[:, period::stride] == tokens[:, : tokens.shape[1] - period : stride]
    if equal.shape[1] < probes:
        return np.empty(0, dtype=np.intp)
    hits = equal[:, : equal.shape[1] - probes + 1].copy()
    for shift in range(1, probes):
        hits &= equal[:, shift : equal.shape[1] - probes + 1 + shift]
    return np.flatnonzero(hits.any(axis=1))


def _has_run(equal: np.ndarray, run: int) -> bool:
    """Return whether a bool array of shape (n,) holds `run` consecutive true values."""
    ends = np.flatnonzero(~equal)
    edges = np.concatenate(([-1], ends, [len(equal)]))
    return bool((np.diff(edges) - 1).max() >= run)
