"""Which checkpoints of a run are kept."""

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

from olmo_core.checkpoint import layout

log = logging.getLogger("olmo")


def apply_retention(
    run: Path, *, step: int, keep_sharded: int, keep_unsharded: int, spare: Collection[int] = ()
) -> None:
    """Delete what the intervals no longer keep, now that the checkpoint of `step` is whole.

    -1 keeps all. Ephemeral ones go once anything is newer. That of `step` is always kept; later
    ones, which this attempt has passed over as damaged, are neither counted nor touched, nor are
    those that do not say what they are. The steps in `spare` stay for now, though counted.
    """
    *older, newest = (item for item in layout.list_checkpoints(run) if item.step <= step)
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
            item.path.rename(layout.temporary(item.path))
            shutil.rmtree(layout.temporary(item.path))
            log.info("removed %s", item.path)


def _kind(checkpoint: layout.Checkpoint) -> str | None:
    try:
        return str(checkpoint.read_train()["kind"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: damaged, kept and not counted (%s)", checkpoint.path, error)
        return None
