"""Official files as they stand: what is read, what is passed over, what is refused."""

from pathlib import Path

import pytest

from olmo_core.config.duration import Duration
from olmo_core.config.load import to_dict
from olmo_core.config.placement import FSDPConfig
from olmo_core.config.train import identity, load_train_config
from olmo_core.errors import ConfigError
from olmo_core.optim.schedule import Schedule

# The keys of an official stage-2 file, with a small model.
OFFICIAL = """\
run_name: OLMo2-stage2
seed: 42
dry_run: false
model:
  d_model: 64
  n_heads: 4
  n_layers: 2
  mlp_hidden_size: 256
  weight_tying: false
  alibi: false
  rope: true
  rope_theta: 500000
  flash_attention: true
  attention_dropout: 0.0
  include_bias: false
  block_type: sequential
  layer_norm_type: rms
  layer_norm_with_affine: true
  layer_norm_eps: 1e-6
  bias_for_layer_norm: false
  attention_layer_norm: true
  attention_layer_norm_with_affine: true
  norm_after: true
  activation_type: swiglu
  residual_dropout: 0.0
  embedding_dropout: 0.0
  max_sequence_length: 128
  vocab_size: 1000
  embedding_size: 1024
  eos_token_id: 0
  pad_token_id: 1
  init_device: meta
  init_fn: normal
  init_std: 0.02
  init_cutoff_factor: 3
softmax_auxiliary_loss: true
auxiliary_loss_multiplier: 1e-5
fused_loss: true
compile: null
optimizer:
  name: adamw
  learning_rate: 0.000061499
  weight_decay: 0.1
  eps: 1e-8
  decay_norm_and_bias: true
  decay_embeddings: false
  betas:
  - 0.9
  - 0.95
  metrics_log_interval: 1
scheduler:
  name: linear_with_warmup
  t_warmup: 0
  alpha_f: 0
tokenizer:
  identifier: tokenizers/allenai_dolma2.json
  truncate_direction: right
save_overwrite: false
save_interval: 100
sharded_checkpointer: olmo_core
load_path: /somewhere/step928646
restore_dataloader: false
no_pre_train_checkpoint: true
max_duration: 50e9T
stop_at: 11931
global_train_batch_size: 8
device_train_microbatch_size: 2
precision: amp_bf16
fsdp:
  wrapping_strategy: by_block_and_size
  precision: mixed
max_grad_norm: 1.0
max_grad_norm_ratio: null
speed_monitor:
  window_size: 1
gen1_gc_interval: 1
evaluators:
- label: piqa
  type: downstream
data:
  pad_direction: right
  num_workers: 32
  drop_last: true
  memmap_dtype: uint32
  instance_filter:
    repetition_max_period: 13
    repetition_min_period: 1
    repetition_max_count: 32
  paths:
  - /data/part-0-00000.npy
"""


@pytest.fixture
def official(tmp_path: Path) -> Path:
    path = tmp_path / "stage2.yaml"
    path.write_text(OFFICIAL)
    return path


def test_an_official_file_loads_and_says_what_it_passes_over(official: Path) -> None:
    config, ignored_keys = load_train_config(official)
    assert config.optimizer.learning_rate == 6.1499e-5
    assert config.model.layer_norm_eps == 1e-6
    assert config.data.instance_filter is not None
    assert config.z_loss == 1e-5
    assert config.tokens_per_step == 1024
    assert config.core.order == "olmo"
    assert ignored_keys == [
        "model.flash_attention",
        "model.init_device",
        "fused_loss",
        "optimizer.metrics_log_interval",
        "tokenizer.truncate_direction",
        "sharded_checkpointer",
        "data.num_workers",
    ]
    [evaluator] = config.evaluators
    assert (evaluator.label, evaluator.type, config.eval_interval) == ("piqa", "downstream", 1000)


@pytest.mark.parametrize(
    "override", ["--optimizer.learning_rate=3e-4", "optimizer.learning_rate=3e-4"]
)
def test_overrides_take_dashes_or_none(official: Path, override: str) -> None:
    assert load_train_config(official, [override])[0].optimizer.learning_rate == 3e-4


def test_an_unknown_key_names_file_line_and_neighbour(official: Path) -> None:
    official.write_text(OFFICIAL.replace("  d_model: 64", "  d_modle: 64"))
    with pytest.raises(ConfigError, match=r"stage2\.yaml:5: model\.d_modle: .*'d_model'"):
        load_train_config(official)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_grad_norm_ratio=0.5", "max_grad_norm_ratio: 0.5 would change what is learned"),
        ("early_stopping_factor=2", "early_stopping_factor"),
        ("model.attention_dropout=0.1", "attention_dropout is 0.1"),
        ("optimizer.name=lionw", "lionw"),
        ("data.generate_attention_mask=true", "generate_attention_mask"),
        ("precision=amp_fp16", "amp_fp16"),
        ("max_duration=5 weeks", "max_duration is '5 weeks'"),
        ("scheduler.name=wsd", "'wsd' is not one of 'cosine_with_warmup'"),
        (
            "scheduler.name=max_scheduler",
            "t_warmup is 0.0; max_scheduler falls from its end, above 0",
        ),
        ("max_duration=null", "max_duration is null"),
        ("epoch=-1", "epoch is -1"),
        ("ingredients=[{seed: 1}]", "ingredients"),
        ("core.manifest=/m.json", "core.manifest and data.paths"),
    ],
)
def test_what_would_change_learning_is_refused(official: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_train_config(official, [override])


def test_a_neutral_value_of_a_refused_key_passes(official: Path) -> None:
    load_train_config(official, ["early_stopping_factor=null", "epoch=null"])


def test_durations() -> None:
    assert Duration.parse(1000).steps(10, None) == 1000
    assert Duration.parse("50e9T").steps(2_097_152, None) == 23_842
    assert Duration.parse("50e9T").steps(4_194_304, None) == 11_921
    assert Duration.parse("50e9T").tokens(4_194_304, None) == 50_000_000_000
    assert Duration.parse("2ep").steps(10, 7) == 14
    assert Duration.parse("2ep").tokens(10, 7) == 140
    assert Duration.parse("1ep").steps(10, None) is None
    for text in ("1.5ep", "0ep", "10.5", "-3", "x", "1e400T", None):
        with pytest.raises(ValueError, match="expected steps"):
            Duration.parse(text)


def test_where_a_run_lies_is_no_part_of_its_identity(official: Path) -> None:
    config, _ = load_train_config(official)
    moved, _ = load_train_config(official, ["save_folder=/elsewhere", "core.threads=3"])
    assert identity(config) == identity(moved)
    other, _ = load_train_config(official, ["seed=43"])
    assert identity(config) != identity(other)


def test_interpolations_are_resolved_after_overrides(official: Path) -> None:
    official.write_text(
        OFFICIAL.replace("seed: 42\n", "seed: 42\nsave_folder: runs/${run_name}\n")
        + "device_eval_batch_size: ${device_train_microbatch_size}\n"
        + "hf_datasets_cache_dir: ${oc.env:A_VARIABLE_THAT_IS_NOT_SET}\n"  # no meaning, not asked
    )
    config, _ = load_train_config(official, ["run_name=other"])
    assert config.save_folder == Path("runs/other")


def test_a_template_s_null_duration_loads_in_a_dry_run_only(official: Path) -> None:
    config, _ = load_train_config(official, ["max_duration=null", "--dry_run"])
    assert config.max_duration is None


def test_a_section_may_be_null_where_it_is_void(official: Path) -> None:
    config, _ = load_train_config(official, ["distributed_strategy=ddp", "fsdp=null"])
    assert config.fsdp == FSDPConfig()


def test_an_official_save_folder_that_is_no_folder_is_refused_unless_dry(official: Path) -> None:
    override = "save_folder=http://example.org/checkpoints/${run_name}"
    config, _ = load_train_config(official, [override, "dry_run=true"])
    assert to_dict(config)["save_folder"] == "http://example.org/checkpoints/OLMo2-stage2"
    with pytest.raises(ConfigError, match=r"example\.org/checkpoints/OLMo2-stage2 is remote"):
        load_train_config(official, [override])


@pytest.mark.parametrize("place", ["s3://bucket/a", "gs://bucket", "file:///runs", None])
def test_copies_go_to_an_address(official: Path, place: str | None) -> None:
    config, ignored_keys = load_train_config(official, [f"remote_save_folder={place or 'null'}"])
    assert config.remote_save_folder == place
    assert ignored_keys == load_train_config(official)[1]
    assert identity(config) == identity(load_train_config(official)[0])


@pytest.mark.parametrize("place", ["http://example.org/a", "https://example.org", "/runs/a", "''"])
def test_a_place_that_no_copy_can_be_sent_to_is_refused_unless_dry(
    official: Path, place: str
) -> None:
    load_train_config(official, [f"remote_save_folder={place}", "dry_run=true"])
    with pytest.raises(ConfigError, match=r"remote_save_folder: .* is no address that can be"):
        load_train_config(official, [f"remote_save_folder={place}"])


def test_home_is_expanded_where_a_run_lies(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ai")
    given = ["save_folder=~/a", "load_path=~/b/step5", "core.cache=~/c"]
    config, _ = load_train_config(official, given)
    assert config.save_folder == Path("/home/ai/a")
    assert config.load_path == "/home/ai/b/step5"
    assert config.core.cache == Path("/home/ai/c")
    config, _ = load_train_config(official, ["load_path=s3://bucket/~"])
    assert config.load_path == "s3://bucket/~"


def test_the_epoch_of_the_order_is_olmo_s_key(official: Path) -> None:
    assert load_train_config(official, ["--epoch=1"])[0].epoch == 1
    assert load_train_config(official)[0].epoch is None


def test_an_ingredient_s_values_come_before_overrides(official: Path) -> None:
    official.write_text(OFFICIAL + "ingredients: [{seed: 1}, {seed: 2, max_duration: 300e9T}]\n")
    second, _ = load_train_config(official, ingredient=2)
    assert (second.seed, second.max_duration) == (2, "300e9T")
    assert load_train_config(official, ["seed=7"], ingredient=1)[0].seed == 7
    for number, message in ((None, "none was chosen; this file has 1 to 2"), (3, "found 3")):
        with pytest.raises(ConfigError, match=message):
            load_train_config(official, ingredient=number)
    official.write_text(OFFICIAL)
    with pytest.raises(ConfigError, match="no ingredients"):
        load_train_config(official, ingredient=1)


def test_a_mistake_of_an_ingredient_is_found_in_the_file(official: Path) -> None:
    official.write_text(OFFICIAL + "ingredients:\n- {seed: 1}\n- {seed: -2}\n")
    line = OFFICIAL.count("\n") + 3
    with pytest.raises(ConfigError, match=rf"{official.name}:{line}: seed is -2"):
        load_train_config(official, ingredient=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate is nan; expected a number above"),
        ("optimizer.learning_rate=-1", "learning_rate is -1.0; expected a number above 0"),
        ("optimizer.learning_rate=0", "learning_rate is 0.0; expected a number above 0"),
        ("optimizer.learning_rate=.inf", "learning_rate is inf; expected a number above 0"),
        ("optimizer.learning_rate=3e4", "learning_rate is 30000.0; expected 1 or less"),
        ("optimizer.weight_decay=2e4", "optimizer.weight_decay is 20000.0; times learning_rate"),
        ("optimizer.eps=0", "optimizer.eps is 0.0; expected a number above 0"),
        ("optimizer.betas=[0.9, 1]", "betas are (0.9, 1.0); expected numbers from 0 to below 1"),
        ("scheduler.t_warmup=-5", "scheduler.t_warmup is -5.0; expected 0 or more"),
        ("scheduler.alpha_f=10", "scheduler.alpha_f is 10.0; expected 1 or less"),
        ("scheduler.t_max=0", "scheduler.t_max is 0.0; expected a number above 0"),
        ("model.n_heads=0", "model.n_heads is 0; expected 1 or more"),
        ("model.n_kv_heads=0", "model.n_kv_heads is 0; expected 1 or more"),
        ("model.max_sequence_length=1", "max_sequence_length is 1; expected 2 or more"),
        ("model.clip_qkv=0", "model.clip_qkv is 0.0; expected a number above 0"),
        ("core.threads=0", "core.threads is 0; expected 1 or more"),
        ("fsdp.hybrid_sharding_num_model_replicas=0", "replicas is 0; expected 1 or more"),
        ("data.instance_filter.repetition_min_period=14", "max_period is 13; expected 14 or more"),
        ("console_log_interval=0", "console_log_interval is 0; expected 1 or more"),
        ("save_interval=0", "save_interval is 0; expected 1 or more"),
        ("save_num_checkpoints_to_keep=-2", "to_keep is -2; expected -1 or more"),
        ("stop_at=0", "stop_at is 0; expected 1 or more"),
        ("time_limit=0", "time_limit is 0.0; expected a number above 0"),
        ("max_grad_norm=.nan", "max_grad_norm is nan; expected a number above 0"),
        ("seed=1e30", "expected less than 2^63"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(
    official: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_train_config(official, [override])
    assert message in str(refused.value)


# 50e9 tokens are 48,828,125 steps of 1,024 tokens; the peak is 6.1499e-05
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            "{warmup_min_lr: 1.0}",
            r"scheduler\.warmup_min_lr is 1\.0, .* at most .* \(6\.1499e-05\)",
        ),
        ("{t_warmup: 10485760000}", r"t_warmup is 1\.04858e\+10 steps, .* ends at 4\.88281e\+07:"),
        ("{t_warmup: 5e10, units: tokens}", r"t_warmup is 5e\+10 tokens, .* ends at 5e\+10:"),
        ("{t_warmup: 1000, units: tokens}", r"t_warmup is 1000 tokens .* one step \(1,024\)"),
        ("{t_max: 900, t_warmup: 0, units: tokens}", r"t_max is 900 tokens .*, less than one step"),
        (
            "{grad_clip_warmup_steps: 9, t_warmup: 0, units: tokens}",
            r"grad_clip_warmup_steps is 9 tokens",
        ),
        ("{t_warmup: 100, t_max: 100}", r"t_max is 100 steps; the decay ends after .* 100\)"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_found_in_the_file(
    official: Path, values: str, message: str
) -> None:
    text = OFFICIAL[: OFFICIAL.index("scheduler:")] + OFFICIAL[OFFICIAL.index("tokenizer:") :]
    official.write_text(text + f"scheduler: {values}\n")
    line = text.count("\n") + 1
    with pytest.raises(ConfigError, match=rf"stage2\.yaml:{line}: .*{message}"):
        load_train_config(official)


@pytest.mark.parametrize(
    "values",
    [
        ["scheduler.warmup_min_lr=6.1499e-5"],  # the peak itself
        ["scheduler.t_warmup=48828124"],
        ["scheduler.units=tokens", "scheduler.t_warmup=1024", "scheduler.t_max=2048"],
        ["scheduler.name=constant", "scheduler.t_max=10", "scheduler.t_warmup=1e12"],
        ["scheduler.alpha_f=1"],
        # OLMo's historical files have a factor without steps: off
        ["scheduler.grad_clip_warmup_factor=10", "scheduler.grad_clip_warmup_steps=null"],
        ["scheduler.grad_clip_warmup_factor=null", "scheduler.grad_clip_warmup_steps=10"],
    ],
)
def test_a_schedule_at_its_bounds_passes(official: Path, values: list[str]) -> None:
    config, _ = load_train_config(official, values)
    schedule = Schedule(config=config.scheduler, peak=config.optimizer.learning_rate, end=1e15)
    assert schedule.max_grad_norm(1.0, 5) == 1.0


def test_documents_are_told_apart_by_a_token_of_the_vocabulary(official: Path) -> None:
    apart = "data.generate_doc_lengths=true"
    assert load_train_config(official, [apart])[0].data.generate_doc_lengths
    with pytest.raises(ConfigError, match="2000 is beyond the vocabulary of 1000"):
        load_train_config(official, [apart, "model.eos_token_id=2000"])
