"""Weights & Biases beside metrics.jsonl: offline without a key or an answer; never fails a run."""

import functools
import logging
import netrc
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.config.placement import WandbConfig
from olmo_core.files import write_atomic

log = logging.getLogger("olmo")

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
        if config is None or os.environ.get("WANDB_MODE") == "disabled":
            return
        try:
            self._run = _begin(config, folder, values)
        except Exception as error:  # tracking is a convenience; metrics.jsonl is the truth
            log.warning("W&B is off for this run: %s", error)

    @property
    def url(self) -> str | None:
        """Return where the curves are shown; None offline, where W&B would warn at each request."""
        return None if self._run is None or self._run.offline else self._run.url

    def log(self, row: Mapping[str, float], step: int, *, always: bool = False) -> None:
        """Send one step's metrics, those of `log_interval`'s steps alone unless `always`."""
        if self._run is None or (step % self._interval and not always):
            return
        try:
            self._run.log(dict(row), step=step)
        except Exception as error:  # as above
            log.warning("W&B is off from step %d on: %s", step, error)
            self._run = None

    def finish(self) -> None:
        """Flush and close."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:  # as above
            log.warning("W&B did not finish: %s", error)


def _begin(config: WandbConfig, folder: Path, values: Mapping[str, Any]) -> Any:
    """Return W&B's run; if its server does not answer, one that is kept in the folder."""
    import wandb

    run_id = folder / "wandb" / "run_id"
    if not run_id.exists():
        write_atomic(run_id, uuid.uuid4().hex[:8])
    timeouts = {
        "init_timeout": float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT_SECONDS)),
        "finish_timeout": float(os.environ.get("WANDB_FINISH_TIMEOUT", _FINISH_TIMEOUT_SECONDS)),
    }
    begin = functools.partial(
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
        settings=timeouts,
    )
    mode = _mode()
    if mode != "offline":
        try:
            return begin(mode=mode)
        except Exception as error:  # whatever W&B and the network raise
            log.warning(
                "W&B goes on offline (%s); `wandb sync` sends %s/wandb/offline-run-* later",
                error,
                folder,
            )
            wandb.teardown()  # else the id counts as in use
    return begin(mode="offline")


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
