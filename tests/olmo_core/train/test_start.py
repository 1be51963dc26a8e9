"""Where a run starts from, by OLMo's flags: first weights, or another run's checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from olmo_core.checkpoint.huggingface import convert_weights, huggingface_config
from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.checkpoint.load import load_state
from olmo_core.checkpoint.state import OPTIM, state_of
from olmo_core.checkpoint.weights import load_model
from olmo_core.config.load import parse, to_dict
from olmo_core.config.train import build_train_config, load_train_config
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import write_json
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.world import World
from olmo_core.run.folder import RunFolder, read_metrics
from olmo_core.train.build import build_loader, build_trainer
from olmo_core.train.trainer import Trainer
from tests.olmo_core.checkpoint import olmo_writer

ALONE = World(device=torch.device("cpu"))
STAGE2 = ("restore_dataloader=false", "seed=5", "scheduler.name=linear_with_warmup",
          "scheduler.t_warmup=0", "scheduler.alpha_f=0")  # fmt: skip


@pytest.fixture
def stage1(undisturbed: Path) -> Path:
    return undisturbed


@pytest.fixture
def begin(config_file: Path, stage1: Path, tmp_path: Path) -> Callable[..., Trainer]:
    def begin(*overrides: str) -> Trainer:
        places = (f"save_folder={tmp_path / 'stage2'}", f"load_path={stage1}")
        config, _ = load_train_config(config_file, [*places, *overrides])
        return build_trainer(config, ALONE, None, lambda: False)

    return begin


def moments(trainer: Trainer) -> float:
    return sum(state["exp_avg_sq"].sum().item() for state in trainer.optimizer.state.values())


def test_stage_2_takes_weights_and_moments_and_counts_from_zero(
    begin: Callable[..., Trainer], stage1: Path
) -> None:
    trainer = begin(*STAGE2)
    final = load_model(stage1 / "model")
    for name, parameter in final.named_parameters():
        assert torch.equal(trainer.model.get_parameter(name), parameter)
    assert moments(trainer) > 0
    assert (trainer.state.step, trainer.state.tokens, trainer.state.origin) == (0, 0, 0)
    facts = RunFolder(stage1).read_result()["report"]["data"]
    assert trainer.state.parent is not None
    assert trainer.state.parent["model_sha256"] == facts["model_sha256"]
    assert trainer.state.parent["step"] == 12


def test_restored_it_goes_on_where_the_other_run_was(begin: Callable[..., Trainer]) -> None:
    trainer = begin("stop_at=20", "max_duration=20")
    assert (trainer.state.step, trainer.state.tokens) == (12, 12 * 8 * 32)
    assert trainer.schedule.rewarmup_start is None


def test_an_end_before_the_start_is_refused(begin: Callable[..., Trainer]) -> None:
    with pytest.raises(ConfigError, match=r"would end at step 6, but its start is step 12"):
        begin("stop_at=6")
    with pytest.raises(ConfigError, match=r"would end at step 12, but its start is step 12"):
        begin("stop_at=12")  # its result would be the parent's weights


def test_without_the_optimizer_s_state_a_warm_up_is_bolted_on(
    begin: Callable[..., Trainer],
) -> None:
    trainer = begin("reset_optimizer_state=true", "stop_at=20", "max_duration=20")
    assert moments(trainer) == 0
    assert trainer.schedule.rewarmup_start == 12
    again = begin("reset_optimizer_state=true", "reset_trainer_state=true")
    assert again.state.step == 0
    assert again.schedule.rewarmup_start is None


def test_stage_2_anneals_to_zero_and_resumes_as_itself(
    train: Callable[..., int], stage1: Path, tmp_path: Path
) -> None:
    from_stage1 = (*STAGE2, f"load_path={stage1}")
    assert train("stage2", *from_stage1) == 0
    assert train("killed", *from_stage1, moment="kill: clipping") < 0
    assert train("killed", *from_stage1) == 0
    rows = read_metrics(tmp_path / "stage2" / "metrics.jsonl")
    rates = [row["optim/learning_rate_group0"] for row in rows]
    assert rates == pytest.approx([1e-2 * (1 - step / 12) for step in range(1, 13)])
    assert rates[-1] == 0.0
    results = [RunFolder(tmp_path / name).read_result() for name in ("stage2", "killed")]
    assert results[0]["digest"] == results[1]["digest"]
    facts = [result["report"]["data"] for result in results]
    assert facts[0] == facts[1]
    stage1_facts = RunFolder(stage1).read_result()["report"]["data"]
    assert facts[0]["first_batch_sha256"] != stage1_facts["first_batch_sha256"]
    assert facts[0]["parent"]["model_sha256"] == stage1_facts["model_sha256"]


def test_default_ends_ten_steps_past_the_end_as_olmo_does(
    train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("run", "stop_at=null", "max_duration=2", "scheduler.t_warmup=1") == 0
    assert RunFolder(tmp_path / "run").read_result()["report"]["data"]["step"] == 12


def test_weights_that_do_not_fit_are_refused_by_name(
    begin: Callable[..., Trainer], stage1: Path, tmp_path: Path
) -> None:
    for key, there, here in (
        ("mlp_hidden_size", 64, 96),
        ("n_layers", 2, 1),
        ("rope_theta", 10_000, 77),  # no tensor shows it
    ):
        with pytest.raises(
            InputError, match=rf"step12/train\.json: .*\.{key} is {there} there, {here} in"
        ):
            begin(f"model.{key}={here}")
    with pytest.raises(InputError, match="no checkpoint there"):
        begin(f"load_path={tmp_path / 'nothing'}")


def test_a_checkpoint_of_the_model_alone_can_be_read(
    begin: Callable[..., Trainer], stage1: Path
) -> None:
    trainer = begin(*STAGE2)
    fresh = Transformer(trainer.config.model)
    load_state(Checkpoint(stage1 / "checkpoints" / "step12"), state_of(fresh, None))
    for name, parameter in fresh.named_parameters():
        assert torch.equal(parameter, trainer.model.get_parameter(name))


def test_a_written_configuration_reads_back_as_itself(config_file: Path) -> None:
    config, _ = load_train_config(config_file)
    assert build_train_config(parse(json.dumps(to_dict(config))))[0] == config


def test_weights_of_others_begin_with_fresh_moments_and_counters(
    begin: Callable[..., Trainer], stage1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = begin("restore_dataloader=false").config
    shape = config.model
    write_json(tmp_path / "config.json", huggingface_config(shape, eos_token_id=0, pad_token_id=1))
    convert_weights(stage1 / "model" / "model.safetensors", tmp_path, shape)
    with caplog.at_level("INFO"):
        trainer = begin(f"load_path={tmp_path}")
    assert "weights alone" in caplog.text
    for name, parameter in load_model(stage1 / "model").named_parameters():
        assert torch.equal(trainer.model.get_parameter(name), parameter)
    assert moments(trainer) == 0
    assert trainer.state.step == 0
    assert trainer.schedule.rewarmup_start is None
    assert trainer.state.parent is not None
    assert set(trainer.state.parent["weights_sha256"]) == {"model.safetensors"}


def test_olmo_s_trainer_goes_on_here_where_it_stood(
    begin: Callable[..., Trainer], token_files: list[str], tmp_path: Path
) -> None:
    first = begin("core.order=olmo", "reset_trainer_state=true")
    names = dict(first.model.named_parameters())
    theirs: dict[str, torch.Tensor] = {}
    for i in range(2):
        within, block = f"transformer.blocks.{i}", f"blocks.{i}"
        for fused, parts in (
            ("att_proj", ("attention.w_q", "attention.w_k", "attention.w_v")),
            ("ff_proj", ("feed_forward.w3", "feed_forward.w1")),
            ("attn_out", ("attention.w_out",)),
            ("ff_out", ("feed_forward.w2",)),
            ("q_norm", ("attention.q_norm",)),
            ("k_norm", ("attention.k_norm",)),
            ("attn_norm", ("attention_norm",)),
            ("ff_norm", ("feed_forward_norm",)),
        ):
            theirs[f"{within}.{fused}.weight"] = torch.cat(
                [names[f"{block}.{part}.weight"].detach() for part in parts]
            )
    theirs["transformer.wte.weight"] = names["embeddings.weight"].detach()
    theirs["transformer.ff_out.weight"] = names["lm_head.weight"].detach()
    theirs["transformer.ln_f.weight"] = names["norm.weight"].detach()
    state = {
        name: {"exp_avg": tensor + 1, "exp_avg_sq": tensor * tensor}
        for name, tensor in theirs.items()
    }
    for batch, examples, message in (
        (8, 40, None),
        (4, 40, "40 instances of its epoch at step 5.* batch of 4 they would be 20"),
        (8, 48, "48 instances of its epoch at step 5.* would be 40"),
    ):
        folder = tmp_path / f"{batch}-{examples}" / "step5-unsharded"
        config: dict[str, Any] = {"seed": 1, "global_train_batch_size": batch}
        config["model"] = to_dict(first.config.model)
        olmo_writer.write(
            folder, config, theirs, state, step=5, examples=examples, form="pt", numbered=True
        )
        from_olmo = (f"load_path={folder}", "core.order=olmo", "stop_at=20", "max_duration=20")
        if message is None:
            trainer = begin(*from_olmo)
            assert (trainer.state.step, trainer.state.tokens) == (5, 5000)
            weight = trainer.model.get_parameter("blocks.1.feed_forward.w1.weight")
            assert torch.equal(weight, names["blocks.1.feed_forward.w1.weight"])
            assert torch.equal(trainer.optimizer.state[weight]["exp_avg"], weight + 1)
        else:
            with pytest.raises(InputError, match=message):
                begin(*from_olmo)
            assert begin(*from_olmo, "restore_dataloader=false").state.step == 0
            assert begin(*from_olmo, "reset_trainer_state=true").state.step == 0


def test_another_run_s_damaged_newest_checkpoint_is_refused(
    begin: Callable[..., Trainer], stage1: Path, tmp_path: Path
) -> None:
    shutil.copytree(stage1, tmp_path / "copy")
    (tmp_path / "copy" / "checkpoints" / "step12" / "train.json").unlink()
    with pytest.raises(InputError, match=r"step12/train\.json: missing.*before it is .*step8"):
        begin(f"load_path={tmp_path / 'copy'}")


def test_a_resumed_run_takes_everything_of_its_own_whatever_the_flags(
    begin: Callable[..., Trainer],
) -> None:
    flags = ("reset_optimizer_state=true", "stop_at=20", "max_duration=20")
    trainer = begin(*flags)
    trainer.state.step += 1
    for name, tensor in state_of(trainer.model, trainer.optimizer.state).items():
        if name.startswith(OPTIM):
            tensor.fill_(2.0 if name.endswith("exp_avg_sq") else 0.0)
    trainer.save("sharded")
    trainer.saver.finish()
    write_json(RunFolder(trainer.config.save_folder).config, to_dict(trainer.config))
    resumed = begin(*flags, "reset_trainer_state=true", "restore_dataloader=false")
    assert resumed.state.step == 13
    assert resumed.schedule.rewarmup_start == 12
    assert moments(resumed) == 2 * sum(p.numel() for p in resumed.model.parameters())


def test_a_resumed_run_learns_by_the_values_it_began_with(
    train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("run", "stop_after=5") == 4
    # said before the data are looked at, which may take longer than to correct a key
    changed = ("optimizer.learning_rate=2e-2", "max_grad_norm=null")
    assert train("run", *changed, "data.paths=[/nowhere.npy]") == 2
    said = (tmp_path / "said.txt").read_text()
    assert "max_grad_norm 1.0 -> None, optimizer.learning_rate 0.01 -> 0.02" in said
    assert train("run", "stop_at=8", "device_train_microbatch_size=4") == 0
    assert RunFolder(tmp_path / "run").read_result()["report"]["data"]["step"] == 8


def test_before_the_first_checkpoint_values_may_change_and_are_recorded(
    train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("run", moment="kill: second step") < 0
    assert train("run", "optimizer.learning_rate=2e-2", "stop_after=5") == 4
    assert train("run") == 2  # the folder's are those of the second attempt now
    assert train("run", "optimizer.learning_rate=2e-2") == 0


def test_what_is_there_is_replaced_only_when_told_so_twice(
    train: Callable[..., int], tmp_path: Path
) -> None:
    run, again = tmp_path / "run", "try_load_latest_save=false"
    assert train("run", "stop_after=5") == 4
    assert train("run", "seed=2", again) == 2
    said = (tmp_path / "said.txt").read_text()
    assert "holds checkpoints up to step 5" in said
    assert "save_overwrite: true begins again" in said
    assert train("run", "save_overwrite=true", "stop_after=2") == 4  # resumed
    assert (run / "checkpoints" / "step7").exists()
    assert train("run", "seed=2", again, "save_overwrite=true") == 0
    assert (run / "replaced-1" / "checkpoints" / "step7" / "manifest.json").exists()
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, 13))
    before = RunFolder(run).read_result()["digest"]
    assert train("run", "seed=2", again, "save_overwrite=true") == 0  # a finished one too
    assert (run / "replaced-2" / "result.json").exists()
    assert RunFolder(run).read_result()["digest"] == before


def test_the_epoch_of_the_file_is_the_order_s_first(config_file: Path) -> None:
    first, _ = load_train_config(config_file)
    second, _ = load_train_config(config_file, ["--epoch=1"])
    loaders = [build_loader(config) for config in (first, second)]
    assert [loader.order_spec()["first_epoch"] for loader in loaders] == [0, 1]
    start = loaders[0].batching.per_epoch  # where the second epoch begins by itself
    assert (loaders[1].instances(0) == loaders[0].instances(start)).all()
