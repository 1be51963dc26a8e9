"""Weights & Biases beside metrics.jsonl: offline without a key or an answer; never fails a run.

In-loop figures, and the scores of the run's checkpoints that others leave in its folder (`outbox`),
have the axis `tokens`.
"""

import functools
import logging
import math
import netrc
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.config.placement import WandbConfig
from olmo_core.files import write_atomic
from olmo_core.monitor.outbox import AXIS, SCORES, Outbox
from olmo_core.run.folder import read_first

log = logging.getLogger("olmo")

RUN_ID = "wandb/run_id"  # in the run folder
TOKENS = "throughput/total_tokens"
_STEP = re.compile(rb'\{"step": (\d+),')  # how a row of metrics.jsonl begins
LOOK_SECONDS = 30.0  # between two looks for scores that wait

# W&B's own is 90. Without a network its login has waited 10 seconds before.
_INIT_TIMEOUT_SECONDS = 10
# W&B's own is none: with a network that went away meanwhile, a run that is done would not end.
_FINISH_TIMEOUT_SECONDS = 60


class Tracker:
    """A W&B run; does nothing without a `wandb:` section, with WANDB_MODE=disabled, or after an
    error.

    The run's id is kept in the run folder, so that a resumed run continues the same curves.
    """

    def __init__(self, config: WandbConfig | None, folder: Path, values: Mapping[str, Any]) -> None:
        self._run: Any = None
        self._interval = config.log_interval if config else 1
        self._counted = _Counted(folder, values)
        self._outbox = Outbox(folder)
        self._waiting: list[str] = []
        self._looked = -math.inf
        self._open_step: int | None = None  # W&B's last one, while nothing in it has an axis
        self._repeats = 0  # steps up to this one were logged by an earlier attempt
        if config is None or os.environ.get("WANDB_MODE") == "disabled":
            return
        try:
            self._repeats = _last_step(folder / "metrics.jsonl")
            self._run = begin(config, folder, values)
        except Exception as error:  # tracking is a convenience; metrics.jsonl is the truth
            log.warning("W&B is off for this run: %s", error)

    @property
    def url(self) -> str | None:
        """Return where the curves are shown; None offline, where W&B would warn at each request."""
        return None if self._run is None or self._run.offline else self._run.url

    def log(self, row: Mapping[str, float], step: int, *, always: bool = False) -> None:
        """Send one step's metrics, those of `log_interval`'s steps alone.

        Args:
            row: The metrics.
            step: Their step.
            always: They are of an evaluation: sent at any step, over tokens.
        """
        if self._run is None:
            return
        self._counted.see(row, step)
        if step % self._interval and not always:
            return
        try:
            if not always:
                self._send_scores()
            tokens = self._counted.tokens_at(step) if always else None
            self._run.log(dict(row) if tokens is None else {**row, AXIS: tokens}, step=step)
            self._open_step = None if always or step <= self._repeats else step
        except Exception as error:  # as above
            log.warning("W&B is off from step %d on: %s", step, error)
            self._run = None

    def _send_scores(self) -> None:
        """Send one evaluation's scores with the step before, which has no other value of the axis.

        W&B takes what comes at its last step or later, and joins what comes at the same; it drops
        what a resumed run repeats.
        """
        if self._open_step is None:
            return
        if not self._waiting and time.monotonic() >= self._looked + LOOK_SECONDS:
            self._looked = time.monotonic()
            self._waiting = self._outbox.waiting()
        if self._waiting and (scores := self._outbox.take(name := self._waiting.pop(0))):
            try:
                self._run.log(scores.row(), step=self._open_step)
            except Exception as error:
                raise RuntimeError(self._outbox.doubtful([name], error)) from error

    def finish(self) -> None:
        """Flush and close."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:  # as above
            log.warning("W&B did not finish: %s", error)


class _Counted:
    """Tells the tokens of any step of a run from those of a step that was logged."""

    def __init__(self, folder: Path, values: Mapping[str, Any]) -> None:
        self._metrics = folder / "metrics.jsonl"
        instances = values.get("global_train_batch_size", 0)
        self._per_step = instances * values.get("model", {}).get("max_sequence_length", 0)
        self._known: tuple[int, float] | None = None

    def see(self, row: Mapping[str, float], step: int) -> None:
        """Take in a step's metrics."""
        if TOKENS in row:
            self._known = step, row[TOKENS]

    def tokens_at(self, step: int) -> float | None:
        """Return the tokens of the run after a step; None before any was logged, by any attempt."""
        if self._known is None and (row := read_first(self._metrics, TOKENS)) is not None:
            self._known = row["step"], row[TOKENS]
        if self._known is None:
            return None
        at, tokens = self._known
        return tokens + (step - at) * self._per_step


def _last_step(metrics: Path) -> int:
    """Return the last step that any attempt has logged; 0: none."""
    if not metrics.exists():
        return 0
    with metrics.open("rb") as lines:
        found = (_STEP.match(line) for line in lines)
        return max((int(step[1]) for step in found if step), default=0)


def begin(
    config: WandbConfig,
    folder: Path,
    values: Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    offline: bool = False,
) -> Any:
    """Return W&B's run of a folder; if its server does not answer, one that is kept there.

    Args:
        config: The section `wandb`.
        folder: The training's; its file `wandb/run_id` keeps the id.
        values: The training's configuration.
        settings: Of W&B's, beside ours.
        offline: Whatever W&B's own variables say.
    """
    import wandb

    run_id = folder / RUN_ID
    if not run_id.exists():
        write_atomic(run_id, uuid.uuid4().hex[:8])
    timeouts = {
        "init_timeout": float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT_SECONDS)),
        "finish_timeout": float(os.environ.get("WANDB_FINISH_TIMEOUT", _FINISH_TIMEOUT_SECONDS)),
    }
    make = functools.partial(
        wandb.init,
        dir=folder,
        project=config.project,
        entity=config.entity,
        group=config.group,
        name=config.name or values.get("run_name"),
        tags=config.tags,
        config=dict(values),
        id=run_id.read_text().strip(),
        resume="allow",
        settings={**timeouts, **(settings or {})},
    )
    mode = "offline" if offline else _mode()
    if mode != "offline":
        try:
            return _with_axis(make(mode=mode))
        except Exception as error:  # whatever W&B and the network raise
            log.warning(
                "W&B goes on offline (%s); `wandb sync` sends %s/wandb/offline-run-* later",
                error,
                folder,
            )
            wandb.teardown()  # else the id counts as in use
    return _with_axis(make(mode="offline"))


def _with_axis(run: Any) -> Any:
    """Tell W&B which metrics are drawn over tokens: a prefix and `*` is all that it understands."""
    run.define_metric(AXIS, hidden=True)
    for prefix in ("eval/", SCORES):
        run.define_metric(f"{prefix}*", step_metric=AXIS, step_sync=False)
    return run


def _mode() -> Any:
    """Return WANDB_MODE if set; else online if there is a key, offline otherwise."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        found = netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        found = None
    return "online" if found else "offline"
