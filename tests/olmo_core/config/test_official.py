"""Every key of the upstream configuration classes is known: implemented, passed over, or refused.

The names and defaults are those of allenai/OLMo `olmo/config.py`.
"""

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest

from olmo_core.config.load import Tree, parse, to_dict
from olmo_core.config.official import (
    IGNORED_KEYS,
    ONLY_AT,
    drop_neutral,
    drop_without_meaning,
)
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError

# dotted section -> its keys
UPSTREAM: dict[str, str] = {
    "": "run_name seed epoch dry_run model optimizer scheduler data restore_dataloader "
    "fast_forward_batches evaluators eval_interval tokenizer save_folder remote_save_folder "
    "canceled_check_interval save_interval save_interval_unsharded save_interval_ephemeral "
    "save_num_checkpoints_to_keep save_num_unsharded_checkpoints_to_keep save_overwrite "
    "force_save_unsharded no_pre_train_checkpoint load_path load_path_sharded_checkpointer "
    "try_load_latest_save reset_optimizer_state reset_trainer_state sharded_checkpointer "
    "new_style_checkpoints max_duration global_train_batch_size device_train_batch_size "
    "device_train_microbatch_size device_eval_batch_size eval_subset_num_batches eval_on_load "
    "device_train_grad_accum max_grad_norm max_grad_norm_ratio precision wandb speed_monitor "
    "console_log_interval gen1_gc_interval compile distributed_strategy fsdp ddp single "
    "softmax_auxiliary_loss auxiliary_loss_multiplier time_limit extra_steps_after_cancel "
    "early_stopping_factor save_data_indices python_profiling torch_profiling stop_at stop_after "
    "activation_checkpointing fused_loss hf_datasets_cache_dir module_outputs_save_steps",
    "model": "d_model n_heads n_kv_heads clip_qkv n_layers mlp_ratio mlp_hidden_size "
    "activation_type block_type block_group_size alibi alibi_bias_max rope rope_full_precision "
    "rope_theta flash_attention attention_dropout multi_query_attention attention_layer_norm "
    "residual_dropout embedding_dropout embedding_layer_norm layer_norm_type "
    "layer_norm_with_affine layer_norm_eps attention_layer_norm_with_affine max_sequence_length "
    "include_bias bias_for_layer_norm scale_logits vocab_size embedding_size weight_tying "
    "eos_token_id pad_token_id init_device init_fn init_std init_cutoff_factor precision "
    "scale_emb_init emb_init_std norm_after",
    "optimizer": "name learning_rate weight_decay betas eps no_decay_norm_and_bias "
    "selective_updates decay_norm_and_bias decay_embeddings metrics_log_interval "
    "record_update_metrics",
    "scheduler": "name units t_warmup t_max alpha_f grad_clip_warmup_steps "
    "grad_clip_warmup_factor warmup_min_lr",
    "data": "paths memmap_dtype datasets label_mask_paths pad_direction generate_attention_mask "
    "generate_doc_lengths num_workers drop_last pin_memory prefetch_factor persistent_workers "
    "timeout seed instance_filter custom_dataset",
    "data.instance_filter": "repetition_max_period repetition_min_period repetition_max_count",
    "evaluators": "label type data device_eval_batch_size subset_num_batches",
    "evaluators.data": "paths memmap_dtype datasets label_mask_paths pad_direction "
    "generate_attention_mask generate_doc_lengths num_workers drop_last pin_memory "
    "prefetch_factor persistent_workers timeout seed instance_filter custom_dataset",
    "tokenizer": "identifier truncate_direction",
    "wandb": "project entity group name tags log_artifacts rank_zero_only log_interval",
    "speed_monitor": "window_size gpu_flops_available",
    "compile": "mode fullgraph backend dynamic",
    "ddp": "grad_sync_mode find_unused_params",
    "fsdp": "use_orig_params sharding_strategy wrapping_strategy precision "
    "hybrid_sharding_num_model_replicas",
}

# Where a key left out means something else here, on purpose (docs/training.md).
OTHER_DEFAULTS = {"try_load_latest_save": True, "wandb.tags": None}
DEFAULTS: dict[str, Any] = {
    "seed": 6198,
    "max_duration": 10_000,
    "global_train_batch_size": 512,
    "device_train_microbatch_size": 16,
    "save_interval": 1000,
    "save_num_checkpoints_to_keep": -1,
    "extra_steps_after_cancel": 10,
    "auxiliary_loss_multiplier": 1e-4,
    "softmax_auxiliary_loss": False,
    "restore_dataloader": True,
    "eval_interval": 1000,
    "eval_subset_num_batches": -1,
    "device_eval_batch_size": 16,
    "evaluators.type": "lm",
    "evaluators.subset_num_batches": None,
    "distributed_strategy": "fsdp",
    "gen1_gc_interval": 1,
    "max_grad_norm": None,
    "model.attention_dropout": 0.1,
    "model.embedding_size": 50_304,
    "model.init_std": 0.02,
    "model.layer_norm_eps": 1e-5,
    "model.max_sequence_length": 1024,
    "model.rope": False,
    "model.rope_theta": 10_000,
    "model.weight_tying": True,
    "optimizer.name": "lionw",
    "optimizer.learning_rate": 1e-4,
    "optimizer.weight_decay": 0.01,
    "optimizer.betas": [0.9, 0.95],
    "optimizer.eps": 1e-5,
    "optimizer.decay_norm_and_bias": False,
    "scheduler.name": "cosine_with_warmup",
    "scheduler.t_warmup": 100,
    "scheduler.alpha_f": 0.1,
    "data.memmap_dtype": "uint16",
    "data.drop_last": False,
    "data.instance_filter.repetition_max_count": 32,
    "fsdp.sharding_strategy": "FULL_SHARD",
    "fsdp.precision": "pure",
    "speed_monitor.window_size": 100,
}


def section(name: str) -> Any:
    """The dataclass behind a dotted section."""
    cls: Any = TrainConfig
    for key in name.split(".") if name else ():
        hint = get_type_hints(cls)[key]
        cls = next(c for c in (hint, *get_args(hint)) if dataclasses.is_dataclass(c))
    return cls


@pytest.mark.parametrize("name", UPSTREAM)
def test_every_upstream_key_is_known(name: str) -> None:
    prefix = f"{name}." if name else ""
    fields = {field.name for field in dataclasses.fields(section(name))}
    for key in UPSTREAM[name].split():
        known = (key in fields, f"{prefix}{key}" in IGNORED_KEYS, f"{prefix}{key}" in ONLY_AT)
        assert known.count(True) == 1, f"{prefix}{key}: {known}"
    own = fields - set(UPSTREAM[name].split())
    assert own == ({"core"} if not name else set())


def test_nothing_is_passed_over_that_upstream_does_not_have() -> None:
    upstream = {f"{s}.{key}".lstrip(".") for s, keys in UPSTREAM.items() for key in keys.split()}
    assert upstream >= IGNORED_KEYS
    assert upstream >= set(ONLY_AT)


@pytest.mark.parametrize("dotted", [*DEFAULTS, *OTHER_DEFAULTS])
def test_defaults_are_upstream_s(dotted: str) -> None:
    name, _, key = dotted.rpartition(".")
    field = next(f for f in dataclasses.fields(section(name)) if f.name == key)
    expected = {**DEFAULTS, **OTHER_DEFAULTS}[dotted]
    assert to_dict(field.default) == expected


def test_a_null_or_old_value_of_upstream_s_loader() -> None:
    tree = parse("activation_checkpointing: true\nfsdp: null\nmax_grad_norm: null\ncompile: null")
    assert drop_neutral(tree) == {
        "activation_checkpointing": "whole_layer",
        "max_grad_norm": None,
        "compile": None,
    }
    off = Tree({"activation_checkpointing": False, "save_overwrite": False}, file="")
    assert drop_neutral(off) == {"activation_checkpointing": None, "save_overwrite": False}


def test_what_is_passed_over_is_named_and_what_is_refused_has_its_place() -> None:
    tree = parse("data:\n  datasets: {a: [b]}\n  drop_last: true\nfused_loss: true", file="f.yaml")
    kept, dropped = drop_without_meaning(tree)
    assert kept == {"data": {"drop_last": True}}
    assert dropped == ["data.datasets", "fused_loss"]
    refused = parse("optimizer:\n  no_decay_norm_and_bias: true", file="f.yaml")
    with pytest.raises(ConfigError, match=r"f\.yaml:2: optimizer\.no_decay_norm_and_bias: True"):
        drop_neutral(refused)
