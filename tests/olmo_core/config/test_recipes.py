"""The recipes' two stages fit together, and OLMo's are the published runs.

Figures: the official files, model cards and checkpoint names of AI2's releases.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from olmo_core.config.duration import Duration
from olmo_core.config.ingredients import ingredient_values
from olmo_core.config.load import load
from olmo_core.config.model import count_parameters
from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.monitor.dry_run import plan
from olmo_core.optim.schedule import Schedule

CHECKOUT = Path(__file__).parents[3]
OWN = {
    "demo": CHECKOUT / "pipelines" / "recipes" / "demo",
    "tiny": CHECKOUT / "tests" / "recipes" / "tiny",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a release."""

    seed: int
    last_step: int
    rates: tuple[float, float]  # the peak, and where the run ends
    tokens: str | None = None  # as the checkpoint's name has it, where that is the exact number
    max_steps: int | None = None  # where the last step is another


@dataclass(frozen=True, kw_only=True)
class Release:
    """A released model: parameters, tokens of a step, and its runs, stage 1 first."""

    parameters: int
    batch_tokens: int
    runs: tuple[Run, ...]


def cooled(seed: int, last_step: int, rate: float, max_steps: int) -> Run:
    return Run(seed=seed, last_step=last_step, rates=(rate, 0.0), max_steps=max_steps)


def once(parameters: int, peak: float, steps: int) -> Release:
    """OLMo 1: one run, its rate a tenth of the peak at the end; ten more steps by default."""
    run = Run(seed=6198, last_step=steps, rates=(peak, peak / 10))
    return Release(parameters=parameters, batch_tokens=2**22, runs=(run,))


RELEASES = {
    "olmo_1b": once(1_176_764_416, 4e-4, 739_328),
    "olmo_7b": once(6_888_095_744, 3e-4, 476_838),
    "olmo_7b_twin": once(6_888_095_744, 3e-4, 476_838),
    "olmo_65b": once(65_584_234_496, 1.5e-4, 476_838),
    "olmo2_1b": Release(
        parameters=1_484_916_736,
        batch_tokens=2**21,
        runs=(
            Run(seed=6198, last_step=1_907_359, tokens="4001B", rates=(4e-4, 7.4487e-5),
                max_steps=1_907_349),
            *(cooled(seed, 23_852, 7.4487e-5, 23_842) for seed in (42069, 666, 42)),
        ),
    ),
    "olmo2_7b": Release(
        parameters=7_298_617_344,
        batch_tokens=2**22,
        runs=(
            Run(seed=6198, last_step=928_646, tokens="3896B", rates=(3e-4, 6.135e-5)),
            *(cooled(seed, 11_931, 6.1499e-5, 11_921) for seed in (42, 42069, 666)),
        ),
    ),
    "olmo2_13b": Release(
        parameters=13_716_198_400,
        batch_tokens=2**23,
        runs=(
            Run(seed=6198, last_step=596_057, tokens="5001B", rates=(9e-4, 9e-5)),
            *(cooled(seed, 11_931, 9e-5, 11_921) for seed in (1110, 2662, 6209)),
            cooled(2662, 35_773, 9e-5, 35_763),
        ),
    ),
    "olmo2_32b": Release(
        parameters=32_234_279_936,
        batch_tokens=2**23,
        runs=(
            Run(seed=12536, last_step=721_901, tokens="6056B", rates=(6e-4, 6.623e-5),
                max_steps=774_861),
            *(cooled(seed, 11_921, 6.623e-5, 11_921) for seed in (1110, 2662)),
            cooled(2662, 35_763, 6.623e-5, 35_763),
        ),
    ),
}  # fmt: skip


def stages(folder: Path) -> list[TrainConfig]:
    """Stage 1 and the ingredients of stage 2."""
    configs = [load_train_config(folder / "stage1.yaml")[0]]
    file = folder / "stage2.yaml"
    if file.exists():
        numbers = range(1, len(ingredient_values(load(file))) + 1)
        configs += [load_train_config(file, ingredient=number)[0] for number in numbers]
    return configs


@pytest.mark.parametrize("name", OWN)
def test_stage_2_starts_at_the_rate_where_stage_1_ends(name: str) -> None:
    stage1, *ingredients = stages(OWN[name])
    assert len(ingredients) >= 2
    for stage2 in ingredients:
        assert stage2.model == stage1.model
        for stage in (stage1, stage2):
            assert stage.core.deterministic
            steps = Duration.parse(stage.max_duration).steps(stage.tokens_per_step, None)
            assert stage.stop_at == steps
        assert stage1.stop_at is not None
        end = Schedule(
            config=stage1.scheduler,
            peak=stage1.optimizer.learning_rate,
            end=stage1.scheduler.t_max or 0,
        ).learning_rate(stage1.stop_at * stage1.tokens_per_step)
        assert stage2.optimizer.learning_rate == pytest.approx(end, rel=1e-3)
        assert not stage2.restore_dataloader
        assert stage2.no_pre_train_checkpoint


@pytest.mark.parametrize("name", RELEASES)
def test_a_recipe_is_the_published_run(name: str) -> None:
    release = RELEASES[name]
    configs = stages(CHECKOUT / "pipelines" / "recipes" / name)
    assert len(configs) == len(release.runs)
    for config, run in zip(configs, release.runs, strict=True):
        planned = plan(config, [run.last_step], devices=1)
        assert planned["parameters"]["total"] == release.parameters
        assert planned["tokens_per_step"] == release.batch_tokens
        assert planned["max_steps"] == (run.max_steps or run.last_step)
        assert config.stop_at in (run.last_step, None)
        assert config.seed == run.seed
        peak, last = run.rates
        assert config.optimizer.learning_rate == peak
        assert planned["learning_rate"][str(run.last_step)] == pytest.approx(last, rel=1e-4)
        billions = -(-run.last_step * release.batch_tokens // 10**9)  # rounded up, as in names
        assert run.tokens in (f"{billions}B", None)
        assert config.optimizer.betas == (0.9, 0.95)
        assert (config.optimizer.weight_decay, config.max_grad_norm) == (0.1, 1.0)
        assert (config.core.order, config.precision) == ("feistel", "amp_bf16")
        assert not config.core.deterministic


@pytest.mark.parametrize(
    "name", [name for name, release in RELEASES.items() if len(release.runs) > 1]
)
def test_stage_2_takes_over_where_stage_1_was_cut_off(name: str) -> None:
    stage1, *ingredients = stages(CHECKOUT / "pipelines" / "recipes" / name)
    for stage2 in ingredients:
        assert stage2.model == stage1.model
        assert stage2.optimizer.eps == stage1.optimizer.eps == 1e-8
        assert (stage2.z_loss, stage1.z_loss) == (1e-5, 1e-5)
        assert stage2.optimizer.decay_norm_and_bias
        assert not stage2.optimizer.decay_embeddings
        assert not stage2.restore_dataloader
        assert not stage2.reset_optimizer_state
        assert stage2.data.instance_filter == stage1.data.instance_filter
        assert stage2.core.skip_step == stage1.core.skip_step
    official = load_train_config(CHECKOUT / "pipelines" / "recipes" / name / "stage1.yaml")[0]
    assert (official.core.skip_step is None) == (name != "olmo2_32b")


def test_the_gradient_s_bound_of_olmo_1_is_wider_at_first() -> None:
    def warm_up(name: str) -> tuple[float | None, float | None]:
        scheduler = stages(CHECKOUT / "pipelines" / "recipes" / name)[0].scheduler
        return scheduler.grad_clip_warmup_steps, scheduler.grad_clip_warmup_factor

    assert warm_up("olmo_1b") == (None, None)
    assert warm_up("olmo_7b") == (1000, 10)
    assert warm_up("olmo_65b") == (2_097_152_000, 5)


def test_the_demo_s_model_is_small_and_not_tiny() -> None:
    stage1 = load_train_config(OWN["demo"] / "stage1.yaml")[0]
    assert 1_000_000 <= count_parameters(stage1.model).total <= 3_000_000
