"""A training run as its folder tells it: what it reads, in which order, and how far it has come.

Steps count from 1, as in `metrics.jsonl` and in the names of checkpoints.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from olmo_core.checkpoint.layout import MANIFEST, list_checkpoints
from olmo_core.config.duration import Batching, Origin
from olmo_core.config.train import InstanceFilterConfig
from olmo_core.data.document_index import DocumentSpan
from olmo_core.data.instances import Instances
from olmo_core.data.loader import instance_mask
from olmo_core.data.manifest import Manifest, Range
from olmo_core.data.order import VERSIONS, Order, make_order
from olmo_core.errors import InputError
from olmo_core.lineage.steps import StepLog
from olmo_core.run.folder import RunFolder

_ORDERS = 2  # epochs whose order is kept: `olmo` takes 8 bytes per window of each


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A window in a batch: the step, and where it stood in the step's batch."""

    window: int  # number in the manifest
    step: int
    epoch: int  # from the run's first on
    instance: int  # place in the global batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A part of a window: tokens of one file."""

    range: Range
    offset: int  # of its first token in the window
    labels: np.ndarray | None  # bool (T,), of the window's tokens; None: all are labels

    def holds(self, document: DocumentSpan) -> bool:
        """Return whether any of its tokens is a document's."""
        mine = self.range
        same = mine.path == document.file
        return same and mine.start < document.end and document.start < mine.stop

    def share(self, document: DocumentSpan) -> tuple[int, int]:
        """Return which tokens of a document it holds: [start, stop), counted from its first."""
        start, stop = max(self.range.start, document.start), min(self.range.stop, document.end)
        return start - document.start, stop - document.start

    def labelled(self, document: DocumentSpan) -> bool:
        """Return whether any of the tokens that it holds of a document is a label."""
        if self.labels is None:
            return True
        start, stop = self.share(document)
        shift = self.offset + document.start - self.range.start
        return bool(self.labels[start + shift : stop + shift].any())


@dataclass(kw_only=True, eq=False)
class TrainingRun:
    """What a run has read. Everything is computed from its folder and the manifest of its mix."""

    name: str  # of the asset: stage1
    folder: RunFolder
    data: Instances
    batching: Batching
    spec: Mapping[str, Any]  # `Loader.order_spec()`, as the run has recorded it
    instance_filter: InstanceFilterConfig | None
    log: StepLog
    first_step: int  # the first that it took itself; those before are its parent's
    last_step: int  # the last that it has taken so far
    finished: bool
    parent: Mapping[str, Any] | None  # the checkpoint that it started from
    ranks_of_its_attempt: int | None  # of a finished run that was made in one attempt

    def __post_init__(self) -> None:
        self._order = functools.lru_cache(maxsize=_ORDERS)(self._make_order)

    @property
    def label(self) -> str:
        """Return asset and version, as `stage1/da57c51991a7`."""
        return f"{self.name}/{self.folder.path.name}"

    def require_taken(self, step: int) -> None:
        """Refuse a step that the run has not taken.

        Raises:
            InputError: says which steps it has taken.
        """
        if step < self.first_step and step > 0:
            raise InputError(
                f"{self.label}: step {step}: it went on from step {self.first_step - 1} of another "
                f"run; its own steps are {self.first_step} to {self.last_step}"
            )
        if not self.first_step <= step <= self.last_step:
            so_far = "" if self.finished else " so far (it has not finished)"
            raise InputError(
                f"{self.label}: step {step}: expected {self.first_step} to {self.last_step}, "
                f"the steps that it has taken{so_far}"
            )

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch of a step, and the windows of its global batch in order, int64.

        Raises:
            InputError: the run has not taken this step.
        """
        self.require_taken(step)
        epoch, start = self.batching.place(step - 1)
        return epoch, self._order(epoch).windows(np.arange(start, start + self.batching.size))

    def windows_up_to(self, step: int, most: int) -> Iterator[np.ndarray]:
        """Yield the windows that the run has read up to a step, `most` of an epoch at once.

        Raises:
            InputError: the run has not taken this step.
        """
        self.require_taken(step)
        done = self.first_step - 1
        while done < step:
            epoch, start = self.batching.place(done)
            steps = min(step - done, (self.batching.instances - start) // self.batching.size)
            done, stop = done + steps, start + steps * self.batching.size
            for first in range(start, stop, most):
                yield self._order(epoch).windows(np.arange(first, min(stop, first + most)))

    def taken(self, windows: np.ndarray) -> list[Taken]:
        """Return where these windows stood in the batches of the run, by step.

        Those that an epoch drops, or that come after the last step, are not there.
        """
        return sorted(self._taken(windows), key=lambda each: (each.step, each.instance))

    def _taken(self, windows: np.ndarray) -> Iterator[Taken]:
        if not len(windows) or self.last_step < self.first_step:
            return
        first, last = (
            self.batching.place(step - 1)[0] for step in (self.first_step, self.last_step)
        )
        for epoch in range(first, last + 1):
            for window, position in zip(
                windows.tolist(), self._order(epoch).positions(windows).tolist(), strict=True
            ):
                before = self.batching.step_of(epoch, position)
                if before is None or not self.first_step <= before + 1 <= self.last_step:
                    continue
                _, start = self.batching.place(before)
                yield Taken(window=window, step=before + 1, epoch=epoch, instance=position - start)

    def masked(self, step: int, windows: np.ndarray) -> np.ndarray:
        """Return which of a step's windows count in no loss since they repeat themselves, (b,)."""
        if self.instance_filter is None or self.log.masked_instances(step) == 0:
            return np.zeros(len(windows), dtype=np.bool_)
        return ~instance_mask(self.data.read(windows), self.instance_filter)

    def parts(self, window: int) -> Iterator[Part]:
        """Yield where the tokens of a window lie, in order."""
        labels = None
        if self.data.has_label_masks:
            [labels] = self.data.read_label_masks(np.asarray([window]))
        offset = 0
        for part in self.data.pieces(window):
            yield Part(range=part, offset=offset, labels=labels)
            offset += part.stop - part.start

    def ranks(self, step: int) -> int | None:
        """Return how many ranks a step's batch was divided between; None where nothing says it."""
        known = self.log.ranks(step)
        return self.ranks_of_its_attempt if known is None else known

    def _make_order(self, epoch: int) -> Order:
        spec = self.spec
        number = spec["first_epoch"] + epoch
        return make_order(spec["algorithm"], count=self.data.count, seed=spec["seed"], epoch=number)


def open_run(folder: Path, *, manifest: Path, tokens: Path) -> TrainingRun:
    """Read a training run.

    Args:
        folder: The run.
        manifest: Of the mix that it reads, `manifest.json`.
        tokens: The run folder of `tokens`, which the manifest's paths are relative to.

    Raises:
        InputError: the run has recorded no order yet, or another than manifest and code give; or
            a token file is not there.
    """
    run = RunFolder(folder)
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    log = StepLog(run, skips=config["core"]["skip_step"] is not None)
    ranks: int | None = None
    if run.finished:
        report = run.read_result()["report"]
        known = report["data"]
        ranks = report["numbers"]["ranks"] if len(log.attempts) == 1 else None
        spec, last, before = known["order"], known["step"], known["first_step"]
    else:
        whole = [each for each in list_checkpoints(folder) if (each.path / MANIFEST).is_file()]
        if not whole:
            raise InputError(
                f"{folder}: has no checkpoint yet, and the order of its data is recorded with the "
                "first one"
            )
        known = whole[-1].read_train()
        spec, last, before = known["order"], max(known["step"], log.last), known["origin"]
    data = Instances(Manifest.read(manifest, root=tokens), sequence_length=spec["sequence_length"])
    _require_same(folder, spec, data)
    chosen = config["data"]["instance_filter"]
    return TrainingRun(
        name=folder.parent.name,
        folder=run,
        data=data,
        batching=Batching(
            instances=data.count,
            size=spec["global_batch_size"],
            origin=Origin(**spec.get("origin", {})),
        ),
        spec=spec,
        instance_filter=None if chosen is None else InstanceFilterConfig(**chosen),
        log=log,
        first_step=before + 1,
        last_step=last,
        finished=run.finished,
        parent=known["parent"],
        ranks_of_its_attempt=ranks,
    )


def _require_same(folder: Path, spec: Mapping[str, Any], data: Instances) -> None:
    here = {
        "windows": data.count,
        "manifest_sha256": data.manifest.sha256,
        "version": VERSIONS[spec["algorithm"]],
    }
    for key, value in here.items():
        if spec[key] != value:
            raise InputError(
                f"{folder}: read in an order of {key} {spec[key]!r}; found {value!r}. What it has "
                "read cannot be computed from other data, or by another version of the order"
            )
