"""The recipes' two stages fit together."""

from pathlib import Path

import pytest

from olmo_core.config.ingredients import ingredient_values
from olmo_core.config.load import load
from olmo_core.config.model import count_parameters
from olmo_core.config.train import Duration, load_train_config
from olmo_core.optim.schedule import Schedule

CHECKOUT = Path(__file__).parents[3]
RECIPES = {
    "demo": CHECKOUT / "pipelines" / "recipes" / "demo",
    "tiny": CHECKOUT / "tests" / "recipes" / "tiny",
}


@pytest.mark.parametrize("name", RECIPES)
def test_stage_2_starts_at_the_rate_where_stage_1_ends(name: str) -> None:
    stage1 = load_train_config(RECIPES[name] / "stage1.yaml")[0]
    file = RECIPES[name] / "stage2.yaml"
    ingredients = ingredient_values(load(file))
    assert len(ingredients) >= 2
    for number in range(1, len(ingredients) + 1):
        stage2, _ = load_train_config(file, ingredient=number)
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
    stage1 = load_train_config(RECIPES["demo"] / "stage1.yaml")[0]
    assert 1_000_000 <= count_parameters(stage1.model).total <= 3_000_000
