"""Where a run starts from, by OLMo's flags: first weights, or another run's checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from olmo_core.checkpoint.load import load_state, resolve
from olmo_core.checkpoint.weights import load_model
from olmo_core.config.load import Tree, to_dict
from olmo_core.config.train import build_train_config, load_train_config
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.world import World
from olmo_core.run.folder import RunFolder, read_metrics
from olmo_core.run.job import InputError
from olmo_core.train.build import build_trainer
from olmo_core.train.trainer import Trainer

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
    assert trainer.schedule.bolted_on_at is None


def test_without_the_optimizer_s_state_a_warm_up_is_bolted_on(
    begin: Callable[..., Trainer],
) -> None:
    trainer = begin("reset_optimizer_state=true", "stop_at=20", "max_duration=20")
    assert moments(trainer) == 0
    assert trainer.schedule.bolted_on_at == 12
    again = begin("reset_optimizer_state=true", "reset_trainer_state=true")
    assert again.state.step == 0
    assert again.schedule.bolted_on_at is None


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
    assert train("run", "stop_at=null", "max_duration=2") == 0
    assert RunFolder(tmp_path / "run").read_result()["report"]["data"]["step"] == 12


def test_weights_that_do_not_fit_are_refused_by_name(
    begin: Callable[..., Trainer], stage1: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"feed_forward\.w1\.weight.* is \(32, 16\).*\(48, 16\)"):
        begin("model.mlp_hidden_size=96")
    with pytest.raises(InputError, match="unexpectedly"):
        begin("model.n_layers=1")
    with pytest.raises(InputError, match="lacks"):
        begin("model.n_layers=3")
    with pytest.raises(InputError, match="neither a checkpoint"):
        begin(f"load_path={tmp_path / 'nothing'}")


def test_a_checkpoint_of_the_model_alone_can_be_read(
    begin: Callable[..., Trainer], stage1: Path
) -> None:
    trainer = begin(*STAGE2)
    fresh = Transformer(trainer.config.model)
    load_state(resolve(str(stage1 / "checkpoints" / "step12")), ALONE, fresh, None)
    for name, parameter in fresh.named_parameters():
        assert torch.equal(parameter, trainer.model.get_parameter(name))


def test_a_written_configuration_reads_back_as_itself(config_file: Path) -> None:
    config, _ = load_train_config(config_file)
    tree = Tree(to_dict(config), file="config.yaml", lines={})
    assert build_train_config(tree)[0] == config
