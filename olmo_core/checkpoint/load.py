"""Find the checkpoint to start from and read it, strictly: nothing missing, nothing left over."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.layout import Checkpoint, CorruptCheckpoint
from olmo_core.checkpoint.state import MODEL, model_state, optimizer_state, single_process_is_meant
from olmo_core.parallel.world import World
from olmo_core.run.job import InputError

log = logging.getLogger("olmo")


def find_latest(run: Path) -> Checkpoint | None:
    """The run's newest whole checkpoint; None where it has none at all.

    A corrupt one is named and passed over.

    Raises:
        InputError: there are checkpoints, and not one of them is whole.
    """
    found = layout.list_checkpoints(run)
    problems: list[str] = []
    for checkpoint in reversed(found):
        try:
            checkpoint.verify()
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


def resolve(load_path: str) -> Checkpoint:
    """The verified checkpoint that `load_path` means: one folder, or the latest of a run folder.

    Raises:
        InputError: it is not there, or not whole.
    """
    path = Path(load_path)
    if "://" in load_path:
        raise InputError(f"load_path {load_path}: only folders of this machine can be read")
    if layout.is_checkpoint(path):
        name = path.name.removeprefix("step")
        checkpoint = Checkpoint(path, int(name) if name.isdigit() else 0)
        try:
            checkpoint.verify()
        except CorruptCheckpoint as error:
            raise InputError(f"load_path: {error}") from None
        return checkpoint
    latest = find_latest(path)
    if latest is None:
        raise InputError(
            f"load_path {path}: neither a checkpoint ({layout.STATE}/, {layout.MANIFEST}) nor a "
            "run folder with checkpoints/step…/"
        )
    return latest


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
    _require_same(path, state, whole=optimizer is not None)
    # the reader copies into the tensors themselves
    with single_process_is_meant():
        load(state, storage_reader=FileSystemReader(path), no_dist=world.size == 1)


def _require_same(path: Path, state: dict[str, Tensor], *, whole: bool) -> None:
    stored = FileSystemReader(path).read_metadata().state_dict_metadata
    expected = {name for name in stored if whole or name.startswith(MODEL)}
    for title, names in (
        ("lacks", state.keys() - expected),
        ("has, unexpectedly,", expected - state.keys()),
    ):
        if names:
            some = ", ".join(sorted(names)[:5])
            raise InputError(f"{path}: the checkpoint {title} {len(names)} tensors: {some}")
    for name, tensor in state.items():
        shape = getattr(stored[name], "size", None)
        if shape is not None and tuple(shape) != tuple(tensor.shape):
            raise InputError(f"{path}: {name} is {tuple(shape)}, the model's {tuple(tensor.shape)}")
