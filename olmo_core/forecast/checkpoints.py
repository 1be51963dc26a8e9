"""Checkpoints as a forecast sees them: which a run keeps, and whether one has been scored."""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.config.train import TrainConfig
from olmo_core.forecast.like import different_keys
from olmo_core.forecast.loads import EVALUATION_OF, Work
from olmo_core.forecast.past import PastRun, find_runs
from olmo_core.run.folder import RunFolder


def kept_steps(config: TrainConfig, steps: int) -> list[int]:
    """Return the steps whose checkpoints are left of a run of so many; the last is always kept.

    As `olmo_core.train.saving` has it: of the kinds due at a step the longest kept wins, and
    ephemeral ones are gone once anything is newer.
    """
    last = "unsharded" if config.save_interval_unsharded else "sharded"
    unsharded = set(range(0, steps, config.save_interval_unsharded or steps)) - {0}
    sharded = set(range(0, steps, config.save_interval or steps)) - {0}
    keep = {
        "unsharded": config.save_num_unsharded_checkpoints_to_keep,
        "sharded": config.save_num_checkpoints_to_keep,
    }
    first = {0} if not config.no_pre_train_checkpoint and config.load_path is None else set[int]()
    written = {
        "unsharded": sorted(unsharded),
        "sharded": sorted(first | (sharded - unsharded if keep["unsharded"] else sharded)),
    }
    kept: list[int] = []
    for kind, most in keep.items():
        older = most - (kind == last)  # the last one is of them
        every = written[kind]
        kept += every if most < 0 else every[max(0, len(every) - max(0, older)) :]
    return sorted([*kept, steps])


def evaluations(work: Work, roots: Sequence[Path]) -> list[PastRun]:
    """Return finished evaluations of checkpoints that a checkpoint's may be like.

    On an engine without a queue evaluations take turns in one process. The first loads the
    libraries for all: it is like others that came first, and they are like others that did not.
    """
    in_process: dict[tuple[Any, ...], list[PastRun]] = defaultdict(list)
    for run in find_runs(roots, [*EVALUATION_OF]):
        status = run.folder.read(run.folder.status) or {}
        # A record without them is taken for that of a process of its own.
        process = tuple(status.get(key, run.name) for key in ("host", "pid", "start_ticks"))
        in_process[process].append(run)
    found: list[PastRun] = []
    for each in in_process.values():
        first, *others = sorted(each, key=lambda run: run.result["started"])
        found += [first] if work.first_in_process else others
    return [run for run in found if run.result["asset"] == work.asset]


def scored_as_model(
    checkpoint: Path, asset: str, config: Mapping[str, Any], roots: Sequence[Path]
) -> bool:
    """Return whether a checkpoint's weights have been scored as those of an exported model.

    It is its run's last one, and that run's export is what the same evaluation has scored: the
    checkpoint's will find the scores in the cache.

    Args:
        checkpoint: Its folder.
        asset: Of the sweep.
        config: Of that evaluation, identity-bearing.
        roots: Of this installation.
    """
    run = RunFolder(checkpoint.parents[1])
    if not run.finished or checkpoint.name != f"step{_last_step(run.path)}":
        return False
    return any(
        run.path in each.exported and not different_keys(config, each.config)
        for each in find_runs(roots, [EVALUATION_OF[asset]])
    )


@functools.lru_cache(maxsize=512)
def _last_step(run: Path) -> int:
    """Return the last step of a finished training run, which is fixed."""
    return int(RunFolder(run).read_result()["report"]["numbers"]["steps"])
