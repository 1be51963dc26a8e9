"""One training run in its run folder: build, find where to start, train, write the result."""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import yaml

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.load import find_latest, load_state, resolve
from olmo_core.config.load import ConfigError, to_dict
from olmo_core.config.train import TrainConfig
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import ASSET, Manifest
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from olmo_core.optim.build import build_optimizer
from olmo_core.parallel.world import World, joined, read_world, set_threads
from olmo_core.run.files import sha256_file, write_atomic
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import InputError, Job
from olmo_core.train.result import CONTENT, write_outputs
from olmo_core.train.state import State
from olmo_core.train.tracking import Tracker
from olmo_core.train.trainer import Trainer

log = logging.getLogger("olmo")


def run(config: TrainConfig, without_meaning: Sequence[str] = ()) -> None:
    """Train as `config` says, resuming what `save_folder` holds; every rank calls it.

    Raises:
        ConfigError, InputError: before the first step.
        Stopped, Diverged: see `Trainer.fit`.
    """
    folder = RunFolder(config.save_folder)
    if folder.finished:
        log.info("%s: already finished, nothing to do", folder.path)
        return
    world = read_world(os.environ)
    if config.global_train_batch_size % world.size:
        raise ConfigError(
            f"global_train_batch_size {config.global_train_batch_size} does not divide by "
            f"{world.size} ranks"
        )
    with contextlib.ExitStack() as stack:
        job = stack.enter_context(Job.open(folder.path, resumable=True)) if world.first else None
        stop_requested = stack.enter_context(_stop_flag(job))
        threads = prepare_arithmetic(config.core.threads)
        stack.enter_context(joined(world))
        if job is not None:
            if without_meaning:
                log.info("official keys without meaning here: %s", ", ".join(without_meaning))
            log.info("%d ranks, %d threads each, %s", world.size, threads, world.device)
            if not folder.config.exists():
                write_atomic(folder.config, yaml.safe_dump(to_dict(config), sort_keys=False))
        trainer = build_trainer(config, world, job, stop_requested)
        tracker = Tracker(config.wandb if job else None, folder.path, to_dict(config))
        try:
            if job is not None:
                job.ready()
            with job.stage("train") if job else contextlib.nullcontext():
                trainer.fit(tracker)
        finally:
            tracker.finish()
        world.barrier()
        if job is not None:
            with job.stage("write model"):
                report = write_outputs(trainer)
            job.finish(report, content=CONTENT)


def prepare_arithmetic(threads: int | None) -> int:
    """Make equal inputs give equal bits on this machine; returns the number of threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not, without it
    torch.use_deterministic_algorithms(True)
    # the default fills every fresh tensor so that reading one unwritten is reproducible too; none
    # is read, and the fill costs a pass over memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
    return set_threads(threads)


def build_trainer(
    config: TrainConfig, world: World, job: Job | None, stop_requested: Callable[[], bool]
) -> Trainer:
    """Build data, model and optimizer, and bring them to where the run stands.

    Raises:
        ConfigError, InputError: data, checkpoint or configuration do not fit.
    """
    loader = build_loader(config)
    loader.data.check_sample()
    model = Transformer(config.model)
    initialise(model, config.seed)
    model.to(world.device)
    optimizer = build_optimizer(config.optimizer, model)
    state, resumed = _restore(config, world, loader, model, optimizer)
    trainer = Trainer(
        config,
        world=world,
        loader=loader,
        model=model,
        optimizer=optimizer,
        state=state,
        job=job,
        stop_requested=stop_requested,
    )
    if resumed:
        trainer.saved_step = state.step
    elif not config.no_pre_train_checkpoint and config.load_path is None:
        trainer.save("sharded")  # proves, before any step is spent, that saving works
    return trainer


def build_loader(config: TrainConfig) -> Loader:
    """The data that `core.manifest` or `data.paths` names.

    Raises:
        ConfigError: neither is given, or the manifest's root is not.
        InputError: a file does not fit.
    """
    data, core = config.data, config.core
    if core.manifest is not None:
        if ASSET not in core.roots:
            raise ConfigError(f"core.roots.{ASSET}: missing: where the manifest's files lie")
        manifest = Manifest.read(core.manifest, root=core.roots[ASSET])
    elif data.paths is not None:
        manifest = Manifest.from_paths(
            data.paths, dtype=data.memmap_dtype, label_mask_paths=data.label_mask_paths
        )
    else:
        raise ConfigError("no data: give data.paths or core.manifest")
    _require_same_vocabulary(config, manifest)
    return Loader(
        manifest=manifest,
        sequence_length=config.sequence_length,
        global_batch_size=config.global_train_batch_size,
        seed=config.seed if data.seed is None else data.seed,
        order=core.order,
        instance_filter=data.instance_filter,
        vocab_size=config.model.rows,
    )


def _require_same_vocabulary(config: TrainConfig, manifest: Manifest) -> None:
    for key in ("vocab_size", "eos_token_id"):
        of_data, of_model = getattr(manifest, key), getattr(config.model, key)
        if of_data is not None and of_data != of_model:
            raise InputError(f"model.{key} is {of_model}; the tokens were made with {of_data}")


def _restore(
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


@contextlib.contextmanager
def _stop_flag(job: Job | None) -> Iterator[Callable[[], bool]]:
    """Whether this rank was asked to stop; the first rank's job already listens."""
    if job is not None:
        yield lambda: job.stop_requested
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, before)
