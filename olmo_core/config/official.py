"""Official OLMo keys that this project accepts without doing anything, or only at one value.

Taken from the configuration classes of the upstream training repository. Nothing in
`IGNORED_KEYS` changes what is learned: how it is computed, watched or stored. `ONLY_AT` holds those
that would, and the values at which they do not.
"""

from typing import Any

from olmo_core.config.load_tree import ABSENT, Tree
from olmo_core.errors import ConfigError

IGNORED_KEYS = {
    # in-loop evaluation, whose data is installed; of an evaluator `data.datasets` has a meaning
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

ONLY_AT: dict[str, tuple[Any, ...]] = {
    "data.custom_dataset": (None,),
    "early_stopping_factor": (None,),
    "fast_forward_batches": (None, 0),
    "max_grad_norm_ratio": (None,),
    "optimizer.no_decay_norm_and_bias": (None,),
}

# Sections that a file may switch off by null: another strategy makes them void, or all is
# commented out.
UNSET = {"evaluators", "fsdp", "speed_monitor"}

# Old spellings that OLMo's own loader still takes.
LEGACY: dict[tuple[str, Any], Any] = {
    ("activation_checkpointing", True): "whole_layer",
    ("activation_checkpointing", False): None,
}


def drop_without_meaning(tree: Tree, prefix: str = "") -> tuple[Tree, list[str]]:
    """Split off the keys without meaning here.

    Returns:
        The tree without them, and their dotted names in file order.
    """
    dropped: list[str] = []

    def keep(dotted: str, place: str, value: Any) -> Any:
        if dotted not in IGNORED_KEYS:
            return value
        dropped.append(dotted)
        return ABSENT

    return tree.changed(keep, prefix), dropped


def drop_neutral(tree: Tree, prefix: str = "") -> Tree:
    """Return the tree without the keys of `ONLY_AT` and those that are null and in `UNSET`.

    Old spellings are replaced.

    Raises:
        ConfigError: a key of `ONLY_AT` stands at a value that would change what is learned.
    """

    def keep(dotted: str, place: str, value: Any) -> Any:
        if value not in (neutral := ONLY_AT.get(dotted, (value,))):
            expected = " or ".join("null" if v is None else repr(v) for v in neutral)
            raise ConfigError(
                f"{place}: {value!r} would change what is learned and is not implemented; only "
                f"{expected}"
            )
        if dotted in ONLY_AT or (value is None and dotted in UNSET):
            return ABSENT
        return LEGACY.get((dotted, value), value) if isinstance(value, bool) else value

    return tree.changed(keep, prefix)
