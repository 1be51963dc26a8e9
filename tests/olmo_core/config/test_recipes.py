"""The recipes' two stages fit together."""

from pathlib import Path

import pytest

from olmo_core.config.load import apply_override, build, load
from olmo_core.config.model import count_parameters
from olmo_core.config.official import strip
from olmo_core.config.train import Duration, TrainConfig
from olmo_core.optim.schedule import Schedule

CHECKOUT = Path(__file__).parents[3]
RECIPES = {
    "demo": CHECKOUT / "pipelines" / "recipes" / "demo",
    "tiny": CHECKOUT / "tests" / "recipes" / "tiny",
}


@pytest.mark.parametrize("name", RECIPES)
def test_stage_2_starts_at_the_rate_where_stage_1_ends(name: str) -> None:
    stage1 = build(TrainConfig, strip(load(RECIPES[name] / "stage1.yaml"))[0])
    tree = load(RECIPES[name] / "stage2.yaml")
    ingredients = tree.pop("ingredients")
    assert len({str(values) for values in ingredients}) == len(ingredients) >= 2
    for values in ingredients:
        for key, value in values.items():
            apply_override(tree, f"{key}={value}")
        stage2 = build(TrainConfig, strip(tree)[0])
        assert stage2.model == stage1.model
        for stage in (stage1, stage2):
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


def test_the_demo_s_model_is_small_and_not_tiny() -> None:
    stage1 = build(TrainConfig, strip(load(RECIPES["demo"] / "stage1.yaml"))[0])
    assert 1_000_000 <= count_parameters(stage1.model).total <= 3_000_000
