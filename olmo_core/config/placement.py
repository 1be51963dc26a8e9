"""Keys of a training run that only place or watch it: where it lies, runs, and what it keeps.

Free of torch. Defaults are OLMo's. None of them is part of what a run learns, so neither their
values nor this module are part of its identity; a key that does count belongs in `train.py`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.config.compute import ActivationCheckpointing, DistributedStrategy
from olmo_core.config.evaluators import EvaluatorConfig
from olmo_core.remote.storage import is_remote


@dataclass(frozen=True, kw_only=True)
class WandbConfig(Bounded):
    """Official keys of `wandb:`."""

    project: str | None = None
    entity: str | None = "ai2-llm"
    group: str | None = None
    name: str | None = None
    tags: list[str] | None = None
    log_artifacts: bool = False
    rank_zero_only: bool = True
    log_interval: int = at_least(1, default=1)  # steps


@dataclass(frozen=True, kw_only=True)
class CompileConfig:
    """Official keys of `compile:`; each block is compiled alone, for fixed shapes."""

    mode: str | None = None
    fullgraph: bool = False
    backend: str = "inductor"


@dataclass(frozen=True, kw_only=True)
class FSDPConfig(Bounded):
    """Official keys of `fsdp:`; the units of sharding are the same, whatever the wrapping."""

    sharding_strategy: Literal[
        "FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "_HYBRID_SHARD_ZERO2"
    ] = "FULL_SHARD"
    precision: Literal["pure", "mixed"] | None = "pure"
    # None: one replica per node
    hybrid_sharding_num_model_replicas: int | None = at_least(1, default=None)
    wrapping_strategy: str | None = None
    use_orig_params: bool = True

    @property
    def keeps_gathered(self) -> bool:
        """Return whether weights, once gathered, stay so until gradients are reduced (ZeRO-2)."""
        return self.sharding_strategy in ("SHARD_GRAD_OP", "_HYBRID_SHARD_ZERO2")


@dataclass(frozen=True, kw_only=True)
class DDPConfig:
    """Official keys of `ddp:`; gradients are always reduced once a step."""

    grad_sync_mode: Literal["batch", "micro_batch"] | None = "batch"
    find_unused_params: bool = False


@dataclass(frozen=True, kw_only=True)
class SpeedMonitorConfig(Bounded):
    """Official keys of `speed_monitor:`."""

    window_size: int = at_least(1, default=100)  # steps
    # FLOP/s of a device; None: by its name
    gpu_flops_available: float | None = above(0, default=None)


@dataclass(frozen=True, kw_only=True)
class PlacementConfig(Bounded):
    """Official keys that say where a run lies, on what it runs and what it keeps on the way.

    They are no part of what it learns, so no part of its identity.
    """

    run_name: str | None = None
    dry_run: bool = False
    wandb: WandbConfig | None = None
    stop_after: int | None = at_least(1, default=None)  # steps of this process
    time_limit: float | None = above(0, default=None)  # seconds of this process
    save_folder: Path = Path("./")
    remote_save_folder: str | None = None  # address of a folder that checkpoints are copied to
    save_interval: int | None = at_least(1, default=1000)
    save_interval_unsharded: int | None = at_least(1, default=None)
    save_interval_ephemeral: int | None = at_least(1, default=None)
    save_num_checkpoints_to_keep: int = at_least(-1, default=-1)
    save_num_unsharded_checkpoints_to_keep: int = at_least(-1, default=-1)
    no_pre_train_checkpoint: bool = False
    load_path: str | None = None
    try_load_latest_save: bool = True  # OLMo's default is false: here a started run resumes
    save_overwrite: bool = False
    console_log_interval: int = at_least(1, default=1)
    compile: CompileConfig | None = None
    activation_checkpointing: ActivationCheckpointing | None = None
    distributed_strategy: DistributedStrategy | None = "fsdp"
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    ddp: DDPConfig | None = None
    # steps; None: Python collects when it likes
    gen1_gc_interval: int | None = at_least(1, default=1)
    speed_monitor: SpeedMonitorConfig = field(default_factory=SpeedMonitorConfig)
    evaluators: list[EvaluatorConfig] = field(default_factory=list[EvaluatorConfig])
    eval_interval: int | None = at_least(-1, default=1000)  # steps; null, 0 and -1: never
    eval_on_load: bool = False  # before the first step, too, where one is loaded
    eval_subset_num_batches: int = at_least(-1, default=-1)  # of each evaluator; -1: all
    device_eval_batch_size: int = at_least(1, default=16)  # instances
    extra_steps_after_cancel: int = at_least(0, default=10)
    python_profiling: bool = False
    torch_profiling: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        copies = self.remote_save_folder
        unwritable = copies is not None and (not is_remote(copies) or copies.startswith("http"))
        if unwritable and not self.dry_run:
            raise ValueError(
                f"remote_save_folder: {copies!r} is no address that can be written to; give one "
                "that fsspec knows, as in s3://bucket/runs/a, or null"
            )
        labels = [each.label for each in self.evaluators]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"evaluators: the label {twice[0]} is given twice; expected once")


@dataclass(frozen=True, kw_only=True)
class CorePlacementConfig(Bounded):
    """Keys of `core:` that are no part of what a run learns, as those of `PlacementConfig`."""

    manifest: Path | None = None  # a mix's manifest.json, in place of data.paths
    roots: dict[str, Path] = field(default_factory=dict[str, Path])  # asset -> its run folder
    # CPU threads per rank; None: OMP_NUM_THREADS, then torch's choice
    threads: int | None = at_least(1, default=None)
    deterministic: bool = True  # equal inputs give equal bits, at some cost on a GPU
    save_async: bool = True  # training goes on while a checkpoint is written
    power_watts: float | None = above(0, default=None)  # of a device, where nothing measures it
    cache: Path | None = None  # of remote files; None: OLMO_CACHE, then ~/.cache/olmo
    reduce_every_microbatch: bool = False  # sharded: more traffic, no whole gradients in memory
    # an evaluator that cannot be had: refused before the first step, or left out and named
    evaluators: Literal["require", "skip_missing"] = "require"
