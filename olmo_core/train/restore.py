"""Where a run starts: its own latest checkpoint, another's, or first weights."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.load import find_latest, load_state, resolve
from olmo_core.checkpoint.mirror import bring_back, remote_steps
from olmo_core.checkpoint.source import Position
from olmo_core.checkpoint.state import state_of
from olmo_core.config.duration import Origin, changed_batch_size
from olmo_core.config.load import Tree, load, parse
from olmo_core.config.train import TrainConfig, build_train_config, identity
from olmo_core.data.loader import Loader
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import write_atomic
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import AdamW
from olmo_core.parallel.world import World
from olmo_core.remote.storage import read_file
from olmo_core.run.folder import RunFolder
from olmo_core.train.state import State

log = logging.getLogger("olmo")

# What may differ when a run is resumed: how far it goes, how much of a batch is computed at once,
# what a resumed run does not ask for, and where the data lie: the order that is in the checkpoint
# tells whether they are the same.
_MAY_CHANGE = {
    "data.paths",
    "data.label_mask_paths",
    "stop_at",
    "device_train_microbatch_size",
    "reset_optimizer_state",
    "reset_trainer_state",
    "restore_dataloader",
}


def restore(
    config: TrainConfig, world: World, loader: Loader, model: Transformer, optimizer: AdamW
) -> tuple[State, Loader, bool]:
    """Bring model and optimizer to where the run stands.

    The run's own latest checkpoint comes first and takes everything with it; then `load_path`, by
    OLMo's flags; else first weights. Returns the state, the loader from there on, and whether the
    run itself was resumed.

    Raises:
        InputError: a checkpoint is not whole, or does not fit the model or the data.
    """
    run = config.save_folder
    _clear(config, world)
    latest = find_latest(run, world) if config.try_load_latest_save else None
    if latest is not None:
        content = latest.read_train()
        order = dict(content["order"])
        loader = loader.beginning_at(Origin(**order.get("origin", {})))
        _require_same_order(str(latest.path), order, loader)
        load_state(latest, state_of(model, optimizer.state))
        log.info("resuming from %s", latest.path)
        return State.from_dict(content), loader, True
    if config.load_path is None:
        return State(), loader, False
    source = resolve(config.load_path, model=config.model, world=world, cache=config.core.cache)
    fresh = source.position is None or config.reset_optimizer_state
    source.load(state_of(model, None if fresh else optimizer.state))
    log.info("starting from %s", source.location)
    state = State(parent=source.identify() if world.first else None)
    if source.position is None:
        log.info("it holds weights alone: moments and counters are fresh")
    elif not config.reset_trainer_state:
        if config.restore_dataloader:
            position = source.position()
            loader = _go_on(source.location, position, loader)
            state.step, state.tokens = position.step, position.tokens
            state.origin = state.step
        if config.reset_optimizer_state:
            in_tokens = config.scheduler.units == "tokens"
            state.rewarmup_start = state.tokens if in_tokens else state.step
    return state, loader, False


def fetch_copy(config: TrainConfig) -> None:
    """Fetch the newest copy in `remote_save_folder`, where it is later than the run folder's own.

    Raises:
        ConfigError: the copies are of a run that learns by other values, or are not to be resumed.
        InputError: the folder cannot be read.
    """
    url = config.remote_save_folder
    if url is None or not (steps := remote_steps(url)):
        return
    held = f"remote_save_folder {url}: holds copies up to step {steps[-1]}"
    if not config.try_load_latest_save:
        raise ConfigError(
            f"{held}, and try_load_latest_save is false; nothing there is replaced: give another "
            "remote_save_folder"
        )
    written = f"{url.rstrip('/')}/config.yaml"
    content = read_file(written)
    if content is None:
        raise ConfigError(f"{held}, but no config.yaml that says of which run; give another")
    tree = parse(content.decode(errors="replace"), file=written)
    _require_same_identity(config, tree, key="remote_save_folder")
    bring_back(config.save_folder, url)
    if not (own := RunFolder(config.save_folder).config).exists():
        write_atomic(own, content)


def begins_again(config: TrainConfig) -> bool:
    """Return whether the run leaves what its folder holds and starts from the start."""
    return config.save_overwrite and not config.try_load_latest_save


def require_startable(config: TrainConfig) -> None:
    """Refuse, before anything is built, a folder that the run cannot start in.

    Raises:
        ConfigError: the folder's checkpoints are of a run that learns by other values, or are
            neither to be resumed nor replaced.
    """
    run = config.save_folder
    earlier = layout.list_checkpoints(run)
    if not earlier:
        return
    if config.try_load_latest_save:
        require_same_run(config)
    elif not config.save_overwrite:
        raise ConfigError(
            f"save_folder {run}: holds checkpoints up to step {earlier[-1].step}, and "
            "try_load_latest_save is false; save_overwrite: true begins again and moves them "
            "aside, or give another save_folder"
        )


def require_same_run(config: TrainConfig) -> None:
    """Compare what a resumed run learns with what its folder says that it did.

    Raises:
        ConfigError: they differ; names the keys.
    """
    run = config.save_folder
    written = RunFolder(run).config
    if not written.exists():
        raise ConfigError(
            f"{written}: missing, so nothing says by which values the checkpoints here were made. "
            "Put it back, or go on from one of them in another save_folder, with "
            f"load_path={run}/{layout.CHECKPOINTS}/step…"
        )
    _require_same_identity(config, load(written), key="save_folder")


def _require_same_identity(config: TrainConfig, written: Tree, *, key: str) -> None:
    earlier, _ = build_train_config(written)
    before, now = (dict(_flat(identity(one))) for one in (earlier, config))
    everywhere = before.keys() | now.keys()
    changes = _changes(before, now, sorted(everywhere - _MAY_CHANGE))
    if changes:
        raise ConfigError(
            f"{written.file}: this folder holds a run that learns by other values ({changes}); "
            f"give those, or another {key}"
        )


def _clear(config: TrainConfig, world: World) -> None:
    """Remove what a killed attempt had begun to write; move aside what is to be replaced."""
    run = config.save_folder
    world.barrier()  # every rank has looked at the folder (`require_startable`)
    if world.first:
        layout.remove_unfinished(run)
        if begins_again(config):
            aside = layout.set_aside(run)
            if aside is not None:
                log.info("beginning again; what was there is now in %s", aside)
    world.barrier()


def _require_same_order(where: str, then: Mapping[str, Any], loader: Loader) -> None:
    changes = _changes(then, loader.order_spec(), then)
    if changes:
        raise InputError(
            f"{where}: it was trained on other data or in another order ({changes}); "
            "restore_dataloader: false starts at the first batch"
        )


def _go_on(where: str, position: Position, loader: Loader) -> Loader:
    """Return the loader from where another run stood in its data, whatever its batch size.

    Raises:
        InputError: it was trained on other data or in another order, or stood elsewhere.
    """
    then = dict(position.order)
    size, origin = then.pop("global_batch_size", None), Origin(**then.pop("origin", {}))
    _require_same_order(where, then, loader)
    now = loader.batching
    before = dataclasses.replace(now, size=size or now.size, origin=origin)
    epoch, instance = before.place(position.step)
    if position.examples not in (None, instance):  # ours follows from the step; others' may not
        raise InputError(
            f"{where}: it has seen {position.examples} instances of its epoch at step "
            f"{position.step}; with this data and a batch of {before.size} they would be "
            f"{instance}; restore_dataloader: false starts at the first batch"
        )
    if before.size != now.size:
        origin = Origin(step=position.step, tokens=position.tokens, epoch=epoch, instance=instance)
        log.warning("%s", changed_batch_size(before.size, now.size, origin))
    return loader.beginning_at(origin)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(cast(dict[str, Any], value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Return which of the keys have other values, and which; empty where none has."""
    return ", ".join(
        f"{key} {before.get(key)!r} -> {now.get(key)!r}"
        for key in keys
        if before.get(key) != now.get(key)
    )
