"""Official OLMo keys that this project accepts without doing anything, or only at one value.

Taken from the configuration classes of the upstream training repository. Nothing in
`WITHOUT_MEANING` changes what is learned: how it is computed, watched or stored, or in-loop
evaluation (a job of its own here). `ONLY_AT` holds those that would, and the values at which they
do not.
"""

from collections.abc import Mapping
from typing import Any, cast

from olmo_core.config.load import ConfigError, Tree

WITHOUT_MEANING = frozenset(
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
        "remote_save_folder",
        "sharded_checkpointer",
        # watching
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
    "epoch": (None, 0),
    "fast_forward_batches": (None, 0),
    "max_grad_norm_ratio": (None,),
    "optimizer.no_decay_norm_and_bias": (None,),
}


def strip(tree: Mapping[str, Any], prefix: str = "") -> tuple[Tree, list[str]]:
    """Split off the keys without meaning here.

    Returns:
        The mapping without them, with its file and lines, and their dotted names in file order.

    Raises:
        ConfigError: a key of `ONLY_AT` stands at a value that would change what is learned.
    """
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    file, lines = getattr(tree, "file", ""), dict(getattr(tree, "lines", {}))
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if dotted in WITHOUT_MEANING:
            dropped.append(dotted)
        elif dotted in ONLY_AT:
            if value not in ONLY_AT[dotted]:
                line = f"{lines[key]}: " if key in lines else " "
                neutral = " or ".join("null" if v is None else repr(v) for v in ONLY_AT[dotted])
                raise ConfigError(
                    f"{file}:{line}{dotted}: {value!r} would change what is learned and is not "
                    f"implemented; only {neutral}"
                )
        elif isinstance(value, Mapping):
            kept[key], below = strip(cast(Mapping[str, Any], value), f"{dotted}.")
            dropped += below
        else:
            kept[key] = value
    return Tree(kept, file=file, lines=lines), dropped
