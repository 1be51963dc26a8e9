"""Write a checkpoint so that it is whole or not there, and keep the previous one until it is."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.state import model_state, optimizer_state, single_process_is_meant
from olmo_core.parallel.world import World
from olmo_core.run.files import write_json
from olmo_core.run.job import InputError

Kind = Literal["sharded", "unsharded", "ephemeral"]  # OLMo's three; one format is written for all

log = logging.getLogger("olmo")

_SPARE_BYTES = 64 << 20  # beside the tensors: metadata, metrics, and room for others


def save_checkpoint(
    run: Path,
    world: World,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Mapping[str, Any],
    *,
    kind: Kind,
) -> Path:
    """Write `<run>/checkpoints/step{N}`; every rank calls it and all return when it is whole.

    Args:
        run: The run folder.
        world: The ranks, each of which writes and digests its own shards.
        model: Its parameters.
        optimizer: Its moments.
        train: Content of `train.json`; `step` and `order` are among it.
        kind: By which interval it is kept (see `apply_retention`).

    Raises:
        InputError: there is not enough free space; nothing has been written.
    """
    step = int(train["step"])
    target = layout.checkpoints_folder(run) / f"step{step}"
    temporary = target.with_name(target.name + layout.TEMPORARY)
    state = {**model_state(model), **optimizer_state(model, optimizer)}
    if world.first:
        _require_space(run, state)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    world.barrier()
    files = write_state(state, temporary, world)
    if world.first:
        write_json(temporary / layout.TRAIN, {**train, "kind": kind})
        files |= layout.describe_files(temporary, [layout.TRAIN])
        layout.write_manifest(temporary, files, train["order"], step)
        layout.publish(temporary, target)
    world.barrier()
    return target


def write_state(state: dict[str, Tensor], folder: Path, world: World) -> dict[str, dict[str, Any]]:
    """Write the tensors, all ranks together; returns the manifest's entries of their files."""
    path = folder / layout.STATE
    # one file a rank and one thread: the bytes are the same each time
    writer = FileSystemWriter(path, single_file_per_rank=True, thread_count=1)
    with single_process_is_meant():
        save(state, storage_writer=writer, no_dist=world.size == 1)
    # each rank digests what it wrote; the first also what belongs to none (.metadata)
    own = [
        f"{layout.STATE}/{entry.name}"
        for entry in sorted(path.iterdir())
        if entry.name.startswith(f"__{world.rank}_")
        or (world.first and not entry.name.startswith("__"))
    ]
    files: dict[str, dict[str, Any]] = {}
    for part in world.gather(layout.describe_files(folder, own)):
        files |= part  # pyright: ignore[reportOperatorIssue]
    return files


def apply_retention(run: Path, *, step: int, keep_sharded: int, keep_unsharded: int) -> None:
    """Delete what the intervals no longer keep, now that the checkpoint of `step` is whole.

    -1 keeps all. Ephemeral ones go once anything is newer. That of `step` is always kept; later
    ones, which this attempt has passed over as damaged, are neither counted nor touched.
    """
    *older, newest = (item for item in layout.list_checkpoints(run) if item.step <= step)
    newest_kind = newest.read_train()["kind"]
    kinds = {item.step: item.read_train()["kind"] for item in older}
    doomed = [item for item in older if kinds[item.step] == "ephemeral"]
    for kind, keep in (("sharded", keep_sharded), ("unsharded", keep_unsharded)):
        own = [item for item in older if kinds[item.step] == kind]
        if keep >= 0:
            keep -= newest_kind == kind
            doomed += own[: max(0, len(own) - max(0, keep))]
    for item in doomed:
        _remove(item)


def _remove(checkpoint: layout.Checkpoint) -> None:
    # renamed first: a kill in the middle of the deletion leaves nothing that looks whole
    doomed = checkpoint.path.with_name(checkpoint.path.name + layout.TEMPORARY)
    checkpoint.path.rename(doomed)
    shutil.rmtree(doomed)
    log.info("removed %s", checkpoint.path)


def _require_space(run: Path, state: Mapping[str, Tensor]) -> None:
    needed = sum(tensor.nbytes for tensor in state.values()) + _SPARE_BYTES
    free = shutil.disk_usage(run).free
    if free < needed:
        raise InputError(
            f"{run}: {free / 1e6:.0f} MB free, a checkpoint needs {needed / 1e6:.0f} MB; "
            "earlier checkpoints are untouched: free some space and start again to resume"
        )
