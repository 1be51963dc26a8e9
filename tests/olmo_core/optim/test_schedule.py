"""Rates of the published runs, by the formulas, at the steps where they are known."""

import pytest

from olmo_core.config.optim import SchedulerConfig, SchedulerName
from olmo_core.optim.schedule import Schedule

OLMO2 = SchedulerConfig(units="tokens", t_warmup=8_388_608_000, t_max=5e12, warmup_min_lr=0.0)


@pytest.mark.parametrize(
    ("peak", "tokens", "rate"),
    [
        (4e-4, 1_907_359 * 2_097_152, 7.4487e-5),  # OLMo 2 1B at 4.0000T: where stage 2 starts
        (3e-4, 928_646 * 4_194_304, 6.135e-5),  # 7B at 3.895T
        (9e-4, 596_057 * 8_388_608, 9.0e-5),  # 13B at 5.000T
    ],
)
def test_stage_1_of_olmo_2_ends_at_the_rate_where_stage_2_starts(
    peak: float, tokens: int, rate: float
) -> None:
    schedule = Schedule(config=OLMO2, peak=peak, end=5e12)
    assert schedule.learning_rate(tokens) == pytest.approx(rate, rel=1e-4)


def test_warm_up_starts_at_its_own_rate_or_at_a_tenth() -> None:
    schedule = Schedule(config=OLMO2, peak=4e-4, end=5e12)
    assert schedule.learning_rate(4_194_304_000) == pytest.approx(2e-4)
    assert schedule.learning_rate(8_388_608_000) == pytest.approx(4e-4)
    tenth = Schedule(config=SchedulerConfig(t_warmup=100), peak=1.0, end=1000)
    assert tenth.learning_rate(50) == pytest.approx(0.55)


def test_stage_2_is_a_straight_line_to_zero_and_stays_there() -> None:
    config = SchedulerConfig(name="linear_with_warmup", t_warmup=0, alpha_f=0.0)
    schedule = Schedule(config=config, peak=7.4487e-5, end=23_842)
    assert schedule.learning_rate(1) == pytest.approx(7.4487e-5 * (1 - 1 / 23_842))
    assert schedule.learning_rate(11_921) == pytest.approx(7.4487e-5 / 2)
    assert schedule.learning_rate(23_842) == 0.0
    assert schedule.learning_rate(23_852) == 0.0


def test_cosine_rests_on_its_floor() -> None:
    schedule = Schedule(config=SchedulerConfig(t_warmup=10), peak=2.0, end=110)
    assert schedule.learning_rate(60) == pytest.approx(1.1)
    assert schedule.learning_rate(110) == pytest.approx(0.2)
    assert schedule.learning_rate(1000) == pytest.approx(0.2)


def test_a_fresh_warm_up_is_bolted_onto_the_curve() -> None:
    config = SchedulerConfig(name="linear_with_warmup", t_warmup=100, alpha_f=0.0)
    plain = Schedule(config=config, peak=1.0, end=1100)
    rewarmed = Schedule(config=config, peak=1.0, end=1100, rewarmup_start=600)
    assert rewarmed.learning_rate(650) == pytest.approx(plain.learning_rate(700) / 2)
    assert rewarmed.learning_rate(700) == plain.learning_rate(700)
    assert rewarmed.learning_rate(900) == plain.learning_rate(900)


def test_the_gradient_bound_is_wider_during_its_warm_up_from_the_second_step_on() -> None:
    config = SchedulerConfig(grad_clip_warmup_steps=1000, grad_clip_warmup_factor=10.0)
    schedule = Schedule(config=config, peak=1.0, end=10_000)
    assert [schedule.max_grad_norm(1.0, t) for t in (0, 1, 1000, 1001)] == [1.0, 10.0, 10.0, 1.0]
    assert schedule.max_grad_norm(None, 5) is None


@pytest.mark.parametrize(
    ("name", "t", "rate"),  # peak 1, warm-up to 100 from a tenth, end 500, floor 0.1
    [
        ("constant", 1, 1.0),
        ("constant", 10_000, 1.0),
        ("constant_with_warmup", 50, 0.55),
        ("constant_with_warmup", 10_000, 1.0),
        ("inverse_sqrt_with_warmup", 50, 0.55),
        ("inverse_sqrt_with_warmup", 400, 0.5),  # √(100 / 400)
        ("inverse_sqrt_with_warmup", 10_000, 0.1),  # beyond the end too
        ("max_scheduler", 50, 0.55),
        ("max_scheduler", 110, 0.1 + 0.9 * (1 + 0.9969173337) / 2),  # cosine: above √(100 / 110)
        ("max_scheduler", 400, 0.5),
        ("cosine_linear_envelope", 300, 0.1 + 0.9 * 0.5 * 0.5),
        ("cosine_linear_envelope", 500, 0.1),
    ],
)
def test_olmo_s_other_schedules(name: SchedulerName, t: int, rate: float) -> None:
    schedule = Schedule(config=SchedulerConfig(name=name, t_warmup=100), peak=1.0, end=500)
    assert schedule.learning_rate(t) == pytest.approx(rate)
