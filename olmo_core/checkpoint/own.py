"""Our own checkpoints: the newest whole one of a run, and reading one."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.index import IndexReader
from olmo_core.checkpoint.layout import Checkpoint, CorruptCheckpoint
from olmo_core.checkpoint.place import Place
from olmo_core.checkpoint.source import (
    Position,
    copy_strictly,
    read_model,
    require_same,
    require_same_model,
    weights_alone,
)
from olmo_core.checkpoint.state import MODEL, model_state, optimizer_state, single_process_is_meant
from olmo_core.checkpoint.tensors import open_safetensors
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import sha256_file
from olmo_core.parallel.world import World
from olmo_core.run.folder import RunFolder

log = logging.getLogger("olmo")


@dataclass(frozen=True)
class OwnCheckpoint:
    """A checkpoint of ours, verified, as something to start from (`source.Source`)."""

    checkpoint: Checkpoint
    world: World
    location: str
    model: ModelConfig  # the run's
    has_training_state: bool = True

    def position(self) -> Position:
        """Where the run stood."""
        content = self.checkpoint.read_train()
        return Position(step=content["step"], tokens=content["tokens"], order=content["order"])

    def identify(self) -> dict[str, Any]:
        """Its manifest's digest; for the last one of a finished run that of the weights too."""
        path = self.checkpoint.path
        result = RunFolder(path.parent.parent)
        facts = result.read_result()["report"]["data"] if result.finished else {}
        final = facts.get("checkpoint") == f"{path.parent.name}/{path.name}"
        return {
            "step": self.checkpoint.step,
            "manifest_sha256": sha256_file(path / layout.MANIFEST),
            "model_sha256": facts.get("model_sha256") if final else None,
        }

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        """See `load_state`; the models are compared before."""
        where = f"{self.location}/{layout.TRAIN}"
        require_same_model(where, read_model(self.checkpoint.read_train(), where), self.model)
        load_state(self.checkpoint, self.world, model, optimizer)


@dataclass(frozen=True)
class OwnWeights:
    """A model folder of ours, as a run or a soup leaves it (`source.Source`)."""

    location: str
    weights: Path
    config: Mapping[str, Any]  # its config.yaml
    model: ModelConfig  # the run's
    has_training_state: bool = False

    def position(self) -> Position:
        """None is stored: it begins anew."""
        return Position(step=0, tokens=0, order={})

    def identify(self) -> dict[str, Any]:
        """Its weights' digest."""
        return {"step": None, "model_sha256": sha256_file(self.weights)}

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        """Copy the weights."""
        where = f"{self.location}/config.yaml"
        require_same_model(where, read_model(self.config, where), self.model)
        stored = weights_alone(open_safetensors(self.weights))
        copy_strictly(self.location, stored, model, None)


def verify(checkpoint: Checkpoint, world: World) -> None:
    """Compare every file with the manifest; each rank reads its share, all learn the same.

    Raises:
        CorruptCheckpoint: the manifest or a file is missing, truncated or changed.
    """
    problem: str | None = None
    try:
        checkpoint.verify(share=(world.rank, world.size))
    except CorruptCheckpoint as error:
        problem = str(error)
    for found in world.gather(problem):
        if found is not None:
            raise CorruptCheckpoint(found)


def find_latest(run: Path, world: World) -> Checkpoint | None:
    """A run's own newest whole checkpoint, to resume from; None where it has none at all.

    A corrupt one is named and passed over.

    Raises:
        InputError: there are checkpoints, and not one of them is whole.
    """
    problems: list[str] = []
    for checkpoint in reversed(layout.list_checkpoints(run)):
        try:
            verify(checkpoint, world)
        except CorruptCheckpoint as error:
            log.error("refused checkpoint step%d: %s", checkpoint.step, error)
            problems.append(str(error))
        else:
            if problems:
                log.error("using the previous whole checkpoint: %s", checkpoint.path)
            return checkpoint
    if not problems:
        return None
    raise InputError(
        f"{layout.checkpoints_folder(run)}: no checkpoint is whole ({'; '.join(problems)}); "
        "move the folder aside to begin again"
    )


def open_checkpoint(place: Place, world: World, model: ModelConfig) -> OwnCheckpoint:
    """One checkpoint, verified; from elsewhere it is fetched by its manifest.

    Raises:
        InputError: it is not there, or not whole.
    """
    try:
        if place.is_remote:
            # the manifest first: it names the files and their digests
            checkpoint = Checkpoint.at(place.file(layout.MANIFEST).parent)
            for name, entry in checkpoint.read_manifest().items():
                place.file(name, entry["sha256"])
        else:
            checkpoint = Checkpoint.at(Path(place.location))
            verify(checkpoint, world)
    except CorruptCheckpoint as error:
        raise InputError(f"load_path: {error}{_whole_one_before(place, world)}") from None
    return OwnCheckpoint(checkpoint, world, place.location, model)


def open_newest(run: Place, names: list[str], world: World, model: ModelConfig) -> OwnCheckpoint:
    """The newest checkpoint of another run; where it is damaged, nothing else is taken for it."""
    newest = max(names, key=lambda name: int(name.removeprefix("step")))
    return open_checkpoint(run / layout.CHECKPOINTS / newest, world, model)


def _whole_one_before(damaged: Place, world: World) -> str:
    """What to point `load_path` at instead of a damaged checkpoint."""
    if damaged.is_remote:
        return ""
    path = Path(damaged.location)
    for checkpoint in reversed(layout.list_checkpoints(path.parent.parent)):
        if checkpoint.step < Checkpoint.at(path).step:
            try:
                verify(checkpoint, world)
            except CorruptCheckpoint:
                continue
            return f"; the whole one before it is {checkpoint.path}"
    return "; there is no whole one before it"


def load_state(
    checkpoint: Checkpoint,
    world: World,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
) -> None:
    """Read a verified checkpoint into the model and, unless None, the optimizer's moments.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape.
    """
    state = model_state(model)
    if optimizer is not None:
        state |= optimizer_state(model, optimizer)
    path = checkpoint.path / layout.STATE
    stored = IndexReader(path).read_metadata().state_dict_metadata
    shapes = {
        name: tuple(entry.size) if isinstance(entry, TensorStorageMetadata) else None
        for name, entry in stored.items()
        if optimizer is not None or name.startswith(MODEL)
    }
    require_same(str(path), shapes, state)
    # the reader copies into the tensors themselves
    with single_process_is_meant():
        load(state, storage_reader=IndexReader(path), no_dist=world.size == 1)
