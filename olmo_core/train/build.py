"""Build what a run trains with: data, model, optimizer, and all of it where the run stands."""

from collections.abc import Callable

import torch

from olmo_core.config.train import TrainConfig
from olmo_core.data.check import check_tokens
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import ASSET, Manifest
from olmo_core.errors import ConfigError, InputError
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import build_optimizer
from olmo_core.parallel.parameters import held_rows
from olmo_core.parallel.prepare import prepare
from olmo_core.parallel.world import World
from olmo_core.run.job import Job
from olmo_core.train.in_loop import InLoopEvaluation
from olmo_core.train.restore import fetch_copy, require_startable, restore
from olmo_core.train.saving import open_mirror
from olmo_core.train.step import count_sums
from olmo_core.train.trainer import Trainer


def build_trainer(
    config: TrainConfig, world: World, job: Job | None, stop_requests: Callable[[], int]
) -> Trainer:
    """Build data, model and optimizer, and bring them to where the run stands.

    Raises:
        ConfigError, InputError: data, checkpoint or configuration do not fit.
    """
    fetch_copy(config)
    require_startable(config)
    loader = build_loader(config)
    _check_tokens(loader, world)
    with torch.device("meta"):
        model = Transformer(config.model)
    gradients = prepare(model, config, world, sums=count_sums(world.size))
    optimizer = build_optimizer(config.optimizer, model)
    state, loader, resumed = restore(config, world, loader, model, optimizer)
    if not resumed and config.load_path is None:
        initialise(model, config.seed, held_rows)
    trainer = Trainer(
        config=config,
        world=world,
        loader=loader,
        model=model,
        optimizer=optimizer,
        gradients=gradients,
        state=state,
        resumed=resumed,
        job=job,
        mirror=open_mirror(config, state.step) if world.first else None,
        evaluation=InLoopEvaluation(config, world, job, step=state.step, resumed=resumed),
        stop_requests=stop_requests,
    )
    if state.step + (not resumed) > trainer.last_step:  # resumed: its result may be missing yet
        raise ConfigError(
            f"stop_at: the run would end at step {trainer.last_step}, but its start is step "
            f"{state.step} already; a later stop_at, or restore_dataloader=false to count from 0"
        )
    return trainer


def build_loader(config: TrainConfig) -> Loader:
    """Return the data that `core.manifest` or `data.paths` names.

    Raises:
        ConfigError: neither is given, or the manifest's root is not.
        InputError: a file does not fit.
    """
    data, core = config.data, config.core
    if core.manifest is not None:
        if ASSET not in core.roots:
            raise ConfigError(f"core.roots.{ASSET}: missing: where the manifest's files lie")
        manifest = Manifest.read(core.manifest, root=core.roots[ASSET])
    elif data.paths:
        manifest = Manifest.from_paths(
            data.paths,
            dtype=data.memmap_dtype,
            label_mask_paths=data.label_mask_paths,
            cache=core.cache,
        )
    else:
        raise ConfigError("no data: give data.paths or core.manifest")
    for key in ("vocab_size", "eos_token_id"):
        of_data, of_model = getattr(manifest, key), getattr(config.model, key)
        if of_data is not None and of_data != of_model:
            raise InputError(f"model.{key} is {of_model}; the tokens were made with {of_data}")
    return Loader(
        manifest=manifest,
        sequence_length=config.sequence_length,
        global_batch_size=config.global_train_batch_size,
        seed=config.seed if data.seed is None else data.seed,
        order=core.order,
        first_epoch=config.epoch or 0,
        instance_filter=data.instance_filter,
        vocab_size=config.model.vocab_size,
        document_eos=config.model.eos_token_id if data.generate_doc_lengths else None,
    )


def _check_tokens(loader: Loader, world: World) -> None:
    """Check the tokens once per machine, whose ranks read the same files; tell all ranks."""
    problem: str | None = None
    if world.local_rank == 0:
        try:
            check_tokens(loader)
        except InputError as error:
            problem = str(error)
    for found in world.gather(problem):
        if found is not None:
            raise InputError(str(found))
