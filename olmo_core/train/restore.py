"""Where a run starts: its own latest checkpoint, another run's, or first weights."""

import logging
from typing import Any

import torch

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.load import find_latest, load_state, resolve
from olmo_core.config.train import TrainConfig
from olmo_core.data.loader import Loader
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.world import World
from olmo_core.run.files import sha256_file
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import InputError
from olmo_core.train.state import State

log = logging.getLogger("olmo")


def restore(
    config: TrainConfig,
    world: World,
    loader: Loader,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
) -> tuple[State, bool]:
    """Bring model and optimizer to where the run stands.

    The run's own latest checkpoint comes first and takes everything with it; then `load_path`, by
    OLMo's flags; else first weights. Returns the state, and whether the run itself was resumed.
    """
    run = config.save_folder
    if world.first:
        layout.remove_unfinished(run)
    world.barrier()
    latest = find_latest(run) if config.try_load_latest_save else None
    if latest is not None:
        content = latest.read_train()
        _require_same_order(latest, content, loader)
        load_state(latest, world, model, optimizer)
        log.info("resuming from %s", latest.path)
        return State.from_dict(content), True
    if config.load_path is None:
        return State(), False
    source = resolve(config.load_path)
    content = source.read_train()
    load_state(source, world, model, None if config.reset_optimizer_state else optimizer)
    log.info("starting from %s", source.path)
    state = State(parent=_parent(source))
    if not config.reset_trainer_state and config.restore_dataloader:
        _require_same_order(source, content, loader)
        state.step, state.tokens = content["step"], content["tokens"]
        state.origin = state.step
    if config.reset_optimizer_state and not config.reset_trainer_state:
        in_tokens = config.scheduler.units == "tokens"
        state.bolted_on_at = state.tokens if in_tokens else state.step
    return state, False


def _require_same_order(source: layout.Checkpoint, content: dict[str, Any], loader: Loader) -> None:
    then, now = content["order"], loader.order_spec()
    changed = [key for key in now if then.get(key) != now[key]]
    if changed:
        what = ", ".join(f"{key} {then.get(key)!r} -> {now[key]!r}" for key in changed)
        raise InputError(
            f"{source.path}: it was trained on other data or in another order ({what}); "
            "restore_dataloader: false starts at the first batch"
        )


def _parent(source: layout.Checkpoint) -> dict[str, Any]:
    """What identifies the checkpoint that a run starts from, wherever it lies."""
    result = RunFolder(source.path.parent.parent)
    facts = result.read_result()["report"]["data"] if result.finished else {}
    final = facts.get("checkpoint") == f"{source.path.parent.name}/{source.path.name}"
    return {
        "step": source.step,
        "manifest_sha256": sha256_file(source.path / layout.MANIFEST),
        "model_sha256": facts.get("model_sha256") if final else None,
    }
