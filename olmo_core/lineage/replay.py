"""Make steps of a training again, from one of its checkpoints; `compare_replay` compares them.

A replay is a training of its own, in a folder of its own: it holds a copy of the checkpoint, so it
resumes there as an interrupted run does, with the data, the order and the values of the run that it
repeats. Nothing is written into that run's folder.
"""

import contextlib
import dataclasses
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.checkpoint.layout import CHECKPOINTS, Checkpoint, list_checkpoints
from olmo_core.config.load import to_dict
from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.errors import InputError
from olmo_core.run.folder import RunFolder, read_metrics

LOSS = "train/CrossEntropyLoss"  # of a logged step, unless it has no label


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The steps of a run from the one after `start` to `end`.

    With `end` equal to `start`, no step: the model is written from that checkpoint. With
    `from_beginning` no checkpoint is taken: the run's first weights are made or loaded again.
    """

    run: RunFolder
    start: int
    end: int
    from_beginning: bool = False

    @property
    def name(self) -> str:
        """Return a name for a folder: `step300-320`."""
        return f"step{self.start}-{self.end}"


def stretch_before(run: RunFolder, step: int, steps: int) -> Stretch:
    """Return the stretch that has `step` and the `steps` - 1 after it, as far as the run went.

    It begins at the last checkpoint before `step`, or at the run's beginning.

    Raises:
        InputError: the run has not made that step, or none of its figures were logged.
    """
    rows = {row["step"]: row for row in read_metrics(run.metrics) if LOSS in row}
    if not rows:
        raise InputError(f"{run.metrics}: no step's figures, so there is nothing to compare with")
    made = max([*rows, *(one.step for one in list_checkpoints(run.path))])
    origin = _origin(run)
    if not origin < step <= made:
        raise InputError(f"step {step}: the run {run.path} has steps {origin + 1} to {made}")
    end = min(made, step + steps - 1)
    kept = [one.step for one in list_checkpoints(run.path) if one.step < step]
    if not kept:
        return Stretch(run=run, start=origin, end=end, from_beginning=True)
    return Stretch(run=run, start=max(kept), end=end)


def last_stretch(run: RunFolder, steps: int) -> Stretch:
    """Return up to `steps` steps of a finished run from its last checkpoint that has any after it.

    Where there is none, they are its first steps, from its first weights on.
    """
    last = int(run.read_result()["report"]["data"]["step"])
    kept = [one.step for one in list_checkpoints(run.path) if one.step < last]
    start = max(kept, default=_origin(run))
    end = min(last, start + steps)
    return Stretch(run=run, start=start, end=end, from_beginning=not kept)


def proving_stretches(run: RunFolder, steps: int) -> list[Stretch]:
    """Return what proves a change of code harmless for a finished run.

    Its first steps, those after its first and its last checkpoint that have steps after them, and
    the model as it is written at the end.

    Raises:
        InputError: the run has no checkpoint of its end.
    """
    last = int(run.read_result()["report"]["data"]["step"])
    kept = [one.step for one in list_checkpoints(run.path)]
    if last not in kept:
        raise InputError(f"{run.path}: no checkpoint of step {last}, its last, to write anew")
    origin, inner = _origin(run), [step for step in kept if step < last]
    first = Stretch(run=run, start=origin, end=min(last, origin + steps), from_beginning=True)
    starts = sorted({*inner[:1], *inner[-1:]} - {origin})
    made = [Stretch(run=run, start=start, end=min(last, start + steps)) for start in starts]
    return [first, *made, Stretch(run=run, start=last, end=last)]


def _origin(run: RunFolder) -> int:
    """Return the step that a run began after: not 0 where it counts on from another's."""
    if run.finished:
        return int(run.read_result()["report"]["data"].get("first_step", 0))
    kept = list_checkpoints(run.path)
    return int(kept[0].read_train().get("origin", 0)) if kept else 0


def prepare(stretch: Stretch, folder: Path) -> dict[str, Any]:
    """Lay a replay's checkpoint into its folder, and return the configuration to train by.

    What an earlier replay has left in the folder is removed.

    Raises:
        InputError: the run's files are not there, or the checkpoint is damaged.
    """
    run = stretch.run
    if not run.config.is_file():
        raise InputError(f"{run.config}: missing, so nothing says by which values the run learned")
    config, _ = load_train_config(run.config)
    shutil.rmtree(folder, ignore_errors=True)
    if not stretch.from_beginning:
        source = Checkpoint(run.path / CHECKPOINTS / f"step{stretch.start}")
        source.verify()
        shutil.copytree(source.path, folder / CHECKPOINTS / source.path.name, copy_function=_link)
    return to_dict(_replayed(config, stretch, folder))


def _replayed(config: TrainConfig, stretch: Stretch, folder: Path) -> TrainConfig:
    """Return the run's configuration, with the replay's end and folder, and nobody to report to."""
    return dataclasses.replace(
        config,
        save_folder=folder,
        stop_at=stretch.end,
        remote_save_folder=None,
        try_load_latest_save=True,
        no_pre_train_checkpoint=True,
        save_num_checkpoints_to_keep=-1,
        save_num_unsharded_checkpoints_to_keep=-1,
        console_log_interval=1,
        evaluators=(),
        wandb=None,
    )


def _link(source: str, target: str) -> None:
    """Give a file a second name, or copy it to another file system; neither name is written to."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
