"""A training run, by the keys of the official OLMo YAML files, with ours under `core:`.

Free of torch. Defaults are OLMo's, so a file without a key means what it means to OLMo.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.config.compute import SkipStepConfig
from olmo_core.config.duration import Duration
from olmo_core.config.ingredients import choose_ingredient
from olmo_core.config.interpolation import interpolate
from olmo_core.config.load import Tree, apply_override, build, load, place_in, to_dict
from olmo_core.config.model import ModelConfig
from olmo_core.config.official import drop_neutral, drop_without_meaning
from olmo_core.config.optim import OptimizerConfig, SchedulerConfig
from olmo_core.config.placement import CorePlacementConfig, PlacementConfig
from olmo_core.errors import ConfigError
from olmo_core.remote.storage import is_remote


@dataclass(frozen=True, kw_only=True)
class InstanceFilterConfig(Bounded):
    """Mask an instance with `repetition_max_count` repeats of a run of these periods (tokens)."""

    repetition_max_period: int = 13
    repetition_min_period: int = at_least(1, default=1)
    repetition_max_count: int = at_least(1, default=32)

    def __post_init__(self) -> None:
        super().__post_init__()
        least, longest = self.repetition_min_period, self.repetition_max_period
        if longest < least:
            raise ValueError(f"repetition_max_period is {longest}; expected {least} or more")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Bounded):
    """Official keys of `data:` that decide what a step sees."""

    paths: list[str] | None = None  # token files, one stream each
    label_mask_paths: list[str] | None = None  # bool arrays parallel to paths
    memmap_dtype: Literal["uint8", "uint16", "uint32", "uint64"] = "uint16"
    instance_filter: InstanceFilterConfig | None = None
    seed: int | None = at_least(0, default=None)  # None: the run's seed
    pad_direction: Literal["right"] = "right"
    drop_last: bool = False
    generate_doc_lengths: bool = False  # attention stays within documents, told apart by EOS
    generate_attention_mask: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generate_attention_mask:
            raise ValueError(
                "generate_attention_mask is True: not implemented; padding at the end needs none, "
                "label_mask_paths keep it out of the loss"
            )
        if self.label_mask_paths is not None and self.paths is None:
            raise ValueError("label_mask_paths without paths")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Official keys of `tokenizer:`; recorded, since training reads token ids only."""

    identifier: str = "gpt2"


@dataclass(frozen=True, kw_only=True)
class CoreConfig(CorePlacementConfig):
    """Keys of ours that OLMo lacks; each default is OLMo's behaviour."""

    order: Literal["olmo", "feistel"] = "olmo"
    skip_step: SkipStepConfig | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig(PlacementConfig):
    """Official top-level keys. Batch sizes count instances; intervals count optimizer steps."""

    seed: int = at_least(0, default=6198)
    epoch: int | None = at_least(0, default=None)  # of the order at step 0; None: 0
    model: ModelConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    core: CoreConfig = field(default_factory=CoreConfig)

    # steps, "50e9T" tokens or "2ep" epochs; None stands in templates, and only a dry run takes it
    max_duration: int | str | None = 10_000
    # None: ten steps past the end of max_duration, as OLMo does. Never 0: a run of no step would
    # pass for a trained model
    stop_at: int | None = at_least(1, default=None)
    global_train_batch_size: int = at_least(1, default=512)
    device_train_microbatch_size: int = at_least(1, default=16)
    precision: Literal["fp32", "amp_bf16"] | None = None
    max_grad_norm: float | None = above(0, default=None)
    softmax_auxiliary_loss: bool = False
    auxiliary_loss_multiplier: float | None = at_least(0, default=1e-4)

    reset_optimizer_state: bool = False
    reset_trainer_state: bool = False
    restore_dataloader: bool = True

    def __post_init__(self) -> None:
        if self.precision is None:
            raise ValueError("precision is not given; write fp32 or amp_bf16")
        super().__post_init__()
        if self.core.manifest is not None and self.data.paths is not None:
            raise ValueError("core.manifest and data.paths are both given; give only one of them")
        if self.seed >= 2**63:
            raise ValueError(f"seed is {self.seed}; expected less than 2^63")
        if self.data.generate_doc_lengths and self.model.eos_token_id >= self.model.vocab_size:
            raise ValueError(
                f"data.generate_doc_lengths tells documents apart by model.eos_token_id, and "
                f"{self.model.eos_token_id} is beyond the vocabulary of {self.model.vocab_size}"
            )
        in_tokens = self.scheduler.units == "tokens"
        end = None
        if self.max_duration is not None or not self.dry_run:
            duration = Duration.parse(self.max_duration)
            length = duration.tokens if in_tokens else duration.steps
            end = length(self.tokens_per_step, None)
        self.scheduler.refuse_unreachable(
            peak=self.optimizer.learning_rate,
            step=self.tokens_per_step if in_tokens else 1,
            end=end,
        )

    @property
    def sequence_length(self) -> int:
        """Tokens of one instance."""
        return self.model.max_sequence_length

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one global batch."""
        return self.global_train_batch_size * self.sequence_length

    @property
    def z_loss(self) -> float:
        """Weight of the squared log-normaliser in the loss; 0 when off."""
        return (self.auxiliary_loss_multiplier or 0.0) if self.softmax_auxiliary_loss else 0.0


def load_train_config(
    path: Path | str, overrides: Sequence[str] = (), *, ingredient: int | None = None
) -> tuple[TrainConfig, list[str]]:
    """Read an OLMo YAML file with dotted overrides.

    Args:
        path: The file.
        overrides: `a.b=c`; they come after an ingredient's values, and before interpolations. With
            `dry_run=true` no disk is looked at and no environment needed (see `interpolation`).
        ingredient: Which of the ingredients that a recipe's stage 2 lists, from 1.

    Returns:
        The configuration, and the dotted names of the keys given that have no meaning here.

    Raises:
        ConfigError: see `olmo_core.config.load` and `interpolation`; also keys that would change
            what is learned and are not implemented.
    """
    tree = load(path)
    choose_ingredient(tree, ingredient)
    for override in overrides:
        apply_override(tree, override)
    return build_train_config(tree)


def build_train_config(tree: Tree) -> tuple[TrainConfig, list[str]]:
    """Do as `load_train_config`, from a mapping that has been read."""
    dry = tree.get("dry_run") is True
    kept, ignored_keys = drop_without_meaning(tree)
    resolved = interpolate(kept, root=tree, schema=TrainConfig, dry=dry)
    config = build(TrainConfig, drop_neutral(resolved))
    folder = str(resolved.get("save_folder", "."))
    place = place_in(tree, "save_folder")
    if not folder:  # a shell's variable that is not set, say
        raise ConfigError(f"{place}: empty; give the run's folder")
    if is_remote(folder) and not dry:
        raise ConfigError(
            f"{place}: {folder} is remote; give a folder of this machine, as in save_folder=/runs/a"
        )
    cache = config.core.cache
    config = dataclasses.replace(  # `~` in the places that a run writes to or loads
        config,
        save_folder=config.save_folder.expanduser(),
        load_path=config.load_path and os.path.expanduser(config.load_path),
        core=dataclasses.replace(config.core, cache=cache and cache.expanduser()),
    )
    return config, ignored_keys


def identity(config: TrainConfig) -> dict[str, Any]:
    """Return the plain form of what a run learns: the configuration without its placement."""
    values: dict[str, Any] = to_dict(config)
    for section, placement in ((values, PlacementConfig), (values["core"], CorePlacementConfig)):
        for key in dataclasses.fields(placement):
            del section[key.name]
    return values
