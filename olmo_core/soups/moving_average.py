"""The mean of a run's last checkpoints, a tensor in memory at a time.

Known as latest weight averaging (Kaddour, https://arxiv.org/abs/2209.14981).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors

from olmo_core.checkpoint.index import IndexReader
from olmo_core.checkpoint.layout import CHECKPOINTS, STATE, list_checkpoints
from olmo_core.checkpoint.state import MODEL
from olmo_core.checkpoint.tensor_file import TensorFile, TensorSpec, write_tensors
from olmo_core.checkpoint.weights import CONFIG, WEIGHTS
from olmo_core.errors import InputError, listed
from olmo_core.files import write_atomic
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """A checkpoint that is in the mean."""

    step: int
    tokens: int


def average_checkpoints(
    run: Path, target: Path, *, count: int, save_interval: int, job: Job
) -> list[Averaged]:
    """Write the mean of a run's last checkpoints as a model folder; sums in f64, rounded once.

    They are those of the run's end and of the multiples of `save_interval` before it: which further
    ones a run has kept, for whatever reason, does not change the result.

    Args:
        run: A finished training run.
        target: Receives the weights in f32 and the run's `config.yaml`.
        count: Checkpoints to average.
        save_interval: Steps from one to the next.
        job: The running job.

    Raises:
        InputError: one of them is not there any more, damaged, or of other tensors than the run's.
    """
    last = int(RunFolder(run).read_result()["report"]["data"]["step"])
    steps = last_steps(last, count=count, save_interval=save_interval)
    found = {each.step: each for each in list_checkpoints(run)}
    if len(steps) < count or not found.keys() >= set(steps):
        wanted = listed(f"step{step}" for step in steps)
        have = listed(f"step{step}" for step in found) or "none"
        raise InputError(
            f"{run / CHECKPOINTS}: the mean of the last {count} with save_interval {save_interval} "
            f"needs {wanted}{'' if len(steps) == count else ' and more'}; there are: {have}; "
            f"make the run again with this save_interval (olmo run --force)"
        )
    specs = TensorFile(run / "model" / WEIGHTS).tensors
    chosen = [found[step] for step in steps]
    for checkpoint in chosen:
        job.progress(0, len(specs), unit="tensors", message=f"verifying {checkpoint.path.name}")
        checkpoint.verify()
        _require_tensors(checkpoint.path / STATE, specs)
    done = 0

    def averaged(name: str) -> bytes:
        nonlocal done
        done += 1
        job.progress(done, len(specs), unit="tensors", message=f"{run.parent.name}: {name}")
        total = np.zeros(specs[name].shape, np.float64)
        for checkpoint in chosen:
            total += _read(checkpoint.path / STATE, name, specs[name].shape)
        return (total / len(chosen)).astype("<f4").tobytes()

    with job.timed("average checkpoints"):
        write_tensors(target / WEIGHTS, specs, averaged)
    write_atomic(target / CONFIG, (run / "model" / CONFIG).read_text(encoding="utf-8"))
    known = [checkpoint.read_train() for checkpoint in chosen]
    return [Averaged(step=int(each["step"]), tokens=int(each["tokens"])) for each in known]


def last_steps(last: int, *, count: int, save_interval: int) -> list[int]:
    """Return the steps of a run's last checkpoints, in order: fewer where there were not so many.

    Args:
        last: The run's last step, which always has one.
        count: How many are wanted.
        save_interval: Every such step has one.
    """
    before = range((last - 1) // save_interval * save_interval, 0, -save_interval)
    return sorted([last, *before[: count - 1]])


def _require_tensors(state: Path, specs: Mapping[str, TensorSpec]) -> None:
    entries: Mapping[str, Any] = IndexReader(state).read_metadata().state_dict_metadata
    shapes = {
        name.removeprefix(MODEL): tuple(entry.size)
        for name, entry in entries.items()
        if name.startswith(MODEL) and isinstance(entry, TensorStorageMetadata)
    }
    expected = {name: spec.shape for name, spec in specs.items()}
    if different := sorted(dict(shapes.items() ^ expected.items())):
        raise InputError(f"{state}: other tensors than the run's model: {listed(different)}")


def _read(state: Path, name: str, shape: Sequence[int]) -> np.ndarray:
    tensor = torch.empty(tuple(shape), dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as meant
        load_tensors({MODEL + name: tensor}, storage_reader=IndexReader(state))
    return tensor.numpy()
