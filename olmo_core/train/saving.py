"""Decide when a checkpoint is due, and which older ones are deleted once it is whole."""

import functools
import logging
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from olmo_core.checkpoint.layout import Checkpoint, list_checkpoints, temporary
from olmo_core.checkpoint.mirror import Mirror
from olmo_core.checkpoint.save import Kind
from olmo_core.config.train import TrainConfig

log = logging.getLogger("olmo")


def kind_due(config: TrainConfig, step: int) -> Kind | None:
    """Return the kind of checkpoint that is due at `step`, if any; the longest kept wins."""
    intervals: tuple[tuple[Kind, int | None, int], ...] = (
        (
            "unsharded",
            config.save_interval_unsharded,
            config.save_num_unsharded_checkpoints_to_keep,
        ),
        ("sharded", config.save_interval, config.save_num_checkpoints_to_keep),
        ("ephemeral", config.save_interval_ephemeral, 1),
    )
    for kind, interval, keep in intervals:
        if interval and keep != 0 and step % interval == 0:
            return kind
    return None


def saves_first(config: TrainConfig) -> bool:
    """Return whether first weights are saved: that proves, before any step, that saving works."""
    return not config.no_pre_train_checkpoint and config.load_path is None


def last_kind(config: TrainConfig) -> Kind:
    """Return the kind of the checkpoint at a run's end, which is always kept."""
    return "unsharded" if config.save_interval_unsharded else "sharded"


def open_mirror(config: TrainConfig, step: int) -> Mirror | None:
    """Return what sends the checkpoints to `remote_save_folder`, if one is given.

    Those up to `step`, where the run goes on, are sent first, as far as they have not been.
    """
    if config.remote_save_folder is None:
        return None
    retain = functools.partial(_retain, config)
    mirror = Mirror(config.save_folder, config.remote_save_folder, retain)
    for checkpoint in list_checkpoints(config.save_folder):
        if checkpoint.step <= step:
            mirror.send(checkpoint.step)
    return mirror


def once_whole(config: TrainConfig, step: int, mirror: Mirror | None) -> Callable[[], None]:
    """Return what the first rank does when the checkpoint of `step` is whole.

    It drops what is not kept; where there is a mirror, once the copy is verified.
    """
    start = time.perf_counter()

    def act() -> None:
        log.info("saved step%d in %.2f s", step, time.perf_counter() - start)
        if mirror is None:
            _retain(config, step)
        else:
            mirror.send(step)

    return act


def _retain(config: TrainConfig, step: int, unsent: Collection[int] = ()) -> None:
    apply_retention(
        config.save_folder,
        step=step,
        keep_sharded=config.save_num_checkpoints_to_keep,
        keep_unsharded=config.save_num_unsharded_checkpoints_to_keep,
        spare=unsent,
    )


def apply_retention(
    run: Path, *, step: int, keep_sharded: int, keep_unsharded: int, spare: Collection[int] = ()
) -> None:
    """Delete what the intervals no longer keep, now that the checkpoint of `step` is whole.

    -1 keeps all. Ephemeral ones go once anything is newer. That of `step` is always kept; later
    ones, which this attempt has passed over as damaged, are neither counted nor touched, nor are
    those that do not say what they are. The steps in `spare` stay for now, though counted.
    """
    *older, newest = (item for item in list_checkpoints(run) if item.step <= step)
    newest_kind = newest.read_train()["kind"]
    kinds = {item.step: _kind(item) for item in older}
    doomed = [item for item in older if kinds[item.step] == "ephemeral"]
    for kind, keep in (("sharded", keep_sharded), ("unsharded", keep_unsharded)):
        own = [item for item in older if kinds[item.step] == kind]
        if keep >= 0:
            keep -= newest_kind == kind
            doomed += own[: max(0, len(own) - max(0, keep))]
    for item in doomed:
        if item.step not in spare:
            # renamed first: a kill in the middle of the deletion leaves nothing that looks whole
            item.path.rename(temporary(item.path))
            shutil.rmtree(temporary(item.path))
            log.info("removed %s", item.path)


def _kind(checkpoint: Checkpoint) -> str | None:
    try:
        return str(checkpoint.read_train()["kind"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: damaged, kept and not counted (%s)", checkpoint.path, error)
        return None
