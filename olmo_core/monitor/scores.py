"""Send the scores of checkpoints to the W&B run of the training that made them.

Scores wait in the training's folder (`outbox`). While the training goes on, its own tracker sends
them, since a W&B run has one writer; when it has finished, whoever ends an evaluation does, as does
`python -m olmo_core.monitor.scores RUN_FOLDER`. Nothing here fails an evaluation.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.config.load import build, load, to_dict
from olmo_core.config.placement import WandbConfig
from olmo_core.monitor.outbox import Outbox, Scores
from olmo_core.monitor.tracking import RUN_ID, begin
from olmo_core.run.folder import RunFolder, folder_argument, locked

log = logging.getLogger("olmo")

# The machine that evaluates is none of the training's: its load and its log stay out.
QUIET = {"x_disable_stats": True, "x_disable_meta": True, "console": "off"}


def report(run: RunFolder) -> None:
    """Send what a finished job is about: a checkpoint's scores, or a training's that waited.

    Whatever goes wrong is logged, with what becomes of the scores.
    """
    try:
        checkpoint = _checkpoint(run)
        training = run if checkpoint is None else RunFolder(checkpoint.parents[1])
        config = _tracked(training)
        if config is None:
            return
        if checkpoint is not None:
            Outbox(training.path).put(_name(run), _scores(run))
        if training.finished:
            send(training, config)
        else:
            log.info("W&B: %s sends the scores with its next steps", training.path)
    except Exception as error:  # tracking is a convenience; the store of results has the scores
        log.warning(
            "W&B was not told of the scores of %s: %s. What waits in wandb/scores of the training "
            "is sent with its next evaluation, or by python -m olmo_core.monitor.scores",
            *(run.path, error),
        )


def send(training: RunFolder, config: WandbConfig) -> int:
    """Send the scores of a finished training that wait; return of how many evaluations.

    They stand at steps beyond the training's last one, as W&B drops what comes at an earlier step;
    their axis is `tokens`.
    """
    outbox = Outbox(training.path)
    if not outbox.waiting():
        return 0
    last = int(training.read_result()["report"]["data"]["step"])
    values: dict[str, Any] = to_dict(load(training.config))
    with locked(training.path / "wandb" / "scores.lock"):  # one writer at a time
        waiting = outbox.waiting()
        if not waiting:
            return 0
        tracked = begin(
            config, training.path, values, settings=QUIET, offline=_waits_for_sync(training)
        )
        taken: list[str] = []
        try:
            for name in waiting:
                step = last + 1 + outbox.taken()
                if (scores := outbox.take(name)) is not None:
                    taken.append(name)
                    tracked.log(scores.row(), step=step)
            tracked.finish()
        except Exception as error:
            raise RuntimeError(outbox.doubtful(taken, error)) from error
    if tracked.offline:
        kept = training.path / "wandb"
        log.info("W&B offline; to send the scores: wandb sync %s/offline-run-*", kept)
    return len(taken)


def _tracked(training: RunFolder) -> WandbConfig | None:
    """Return the section `wandb` of a training that W&B knows; None: it does not."""
    off = os.environ.get("WANDB_MODE") == "disabled"
    if off or not (training.path / RUN_ID).is_file():
        return None
    section = load(training.config).get("wandb")
    return None if section is None else build(WandbConfig, section, where="wandb")


def _waits_for_sync(training: RunFolder) -> bool:
    """Return whether a part of the W&B run is on this disk alone.

    Scores that arrived before it would leave W&B no step at which it could take the rest.
    """
    return any(
        not any(folder.glob("*.wandb.synced"))
        for folder in training.path.glob("wandb/offline-run-*")
    )


def _checkpoint(run: RunFolder) -> Path | None:
    inputs = load(run.config).get("inputs")
    path = inputs.get("checkpoint") if isinstance(inputs, Mapping) else None
    return None if path is None else Path(str(path))


def _name(run: RunFolder) -> str:
    """Return what tells an evaluation from all others: the checkpoint, its asset and version."""
    result = run.read_result()
    names = (result["recipe"], result["asset"], result["partition"], run.path.name)
    return "--".join(str(name) for name in names)


def _scores(run: RunFolder) -> Scores:
    """Return an evaluation's figures; those of a set's sources and domains stand in its rows."""
    import pyarrow.parquet as pq  # which an evaluation has loaded

    columns = ["tokens", "task", "metric", "value"]
    rows = pq.read_table(run.path / "rows.parquet", columns=columns).to_pylist()
    return Scores(
        tokens=next(row["tokens"] for row in rows),
        figures={
            f"{row['task']}/{row['metric']}": row["value"] for row in rows if "/" not in row["task"]
        },
    )


def main() -> None:
    """Send what waits in the folder of a finished training."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    run = folder_argument(None, "Send the scores of a finished training's checkpoints to W&B.")
    config = _tracked(run)
    if config is None:
        raise SystemExit(f"{run.path}: not tracked by W&B: no section wandb, or no {RUN_ID}")
    if not run.finished:
        raise SystemExit(f"{run.path}: has not finished; it sends the scores itself as it goes on")
    print(f"{send(run, config)} evaluations sent")


if __name__ == "__main__":
    main()
