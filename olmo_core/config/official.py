"""Official OLMo keys that this project accepts without doing anything, or only at one value.

Taken from the configuration classes of the upstream training repository. Nothing in
`IGNORED_KEYS` changes what is learned: how it is computed, watched or stored, or in-loop
evaluation (a job of its own here). `ONLY_AT` holds those that would, and the values at which they
do not.
"""

from collections.abc import Mapping
from typing import Any, cast

from olmo_core.config.load import Tree, place_of
from olmo_core.errors import ConfigError

IGNORED_KEYS = frozenset(
    {
        # in-loop evaluation
        "evaluators",
        "eval_interval",
        "eval_on_load",
        "eval_subset_num_batches",
        "device_eval_batch_size",
        "hf_datasets_cache_dir",
        "data.datasets",
        # placement, memory and speed: the device decides
        "compile.dynamic",  # shapes are fixed
        "fused_loss",
        "single",
        "model.block_group_size",
        "model.flash_attention",
        "model.init_device",
        "model.precision",
        # derived here from the global and the microbatch size
        "device_train_batch_size",
        "device_train_grad_accum",
        # the data loader's processes
        "data.num_workers",
        "data.persistent_workers",
        "data.pin_memory",
        "data.prefetch_factor",
        "data.timeout",
        # one checkpoint format is written
        "force_save_unsharded",
        "load_path_sharded_checkpointer",
        "new_style_checkpoints",
        "sharded_checkpointer",
        # watching
        "canceled_check_interval",  # whether to stop is asked with each step, at no cost
        "module_outputs_save_steps",
        "optimizer.metrics_log_interval",
        "optimizer.record_update_metrics",
        "save_data_indices",
        # texts are tokenised before training
        "tokenizer.truncate_direction",
        # without effect while model.alibi is false, as it must be
        "model.alibi_bias_max",
    }
)

ONLY_AT: dict[str, tuple[Any, ...]] = {
    "data.custom_dataset": (None,),
    "early_stopping_factor": (None,),
    "fast_forward_batches": (None, 0),
    "max_grad_norm_ratio": (None,),
    "optimizer.no_decay_norm_and_bias": (None,),
}

# Sections that a file may switch off by null where another strategy makes them void.
UNSET = frozenset({"fsdp", "speed_monitor"})


# Old spellings that OLMo's own loader still takes.
LEGACY: dict[tuple[str, Any], Any] = {
    ("activation_checkpointing", True): "whole_layer",
    ("activation_checkpointing", False): None,
}


def drop_without_meaning(tree: Mapping[str, Any], prefix: str = "") -> tuple[Tree, list[str]]:
    """Split off the keys without meaning here.

    Returns:
        The mapping without them, with its file and lines, and their dotted names in file order.
    """
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if dotted in IGNORED_KEYS:
            dropped.append(dotted)
        elif isinstance(value, Mapping):
            kept[key], below = drop_without_meaning(cast(Mapping[str, Any], value), f"{dotted}.")
            dropped += below
        else:
            kept[key] = value
    return _like(tree, kept), dropped


def drop_neutral(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    """The mapping without the keys of `ONLY_AT` and those that are null and in `UNSET`.

    Old spellings are replaced.

    Raises:
        ConfigError: a key of `ONLY_AT` stands at a value that would change what is learned.
    """
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if dotted in ONLY_AT:
            if value not in ONLY_AT[dotted]:
                neutral = " or ".join("null" if v is None else repr(v) for v in ONLY_AT[dotted])
                raise ConfigError(
                    f"{place_of(tree, key, prefix)}: {value!r} would change what is learned and is "
                    f"not implemented; only {neutral}"
                )
        elif isinstance(value, Mapping):
            kept[key] = drop_neutral(cast(Mapping[str, Any], value), f"{dotted}.")
        elif value is not None or dotted not in UNSET:
            kept[key] = LEGACY.get((dotted, value), value) if isinstance(value, bool) else value
    return _like(tree, kept)


def _like(tree: Mapping[str, Any], values: Mapping[str, Any]) -> Tree:
    return tree.like(values) if isinstance(tree, Tree) else Tree(values, file="", lines={})
