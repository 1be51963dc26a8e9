"""AdamW against torch's own class, to the bit, and updates that are left out."""

import math

import pytest
import torch
from torch import Tensor, nn

from olmo_core.optim.adamw import AdamW, Group


def models(count: int) -> list[nn.Linear]:
    torch.manual_seed(0)
    made = [nn.Linear(5, 7) for _ in range(count)]
    for model in made[1:]:
        model.load_state_dict(made[0].state_dict())
    return made


def optimizer_of(model: nn.Module) -> AdamW:
    return AdamW([Group(parameters=[*model.parameters()], weight_decay=0.1)], learning_rate=0.1)


def everything(model: nn.Module, optimizer: AdamW) -> list[Tensor]:
    states = [value for state in optimizer.state.values() for value in state.values()]
    return [tensor.detach().clone() for tensor in (*model.parameters(), *states)]


def step(model: nn.Module, optimizer: AdamW, left_out: float | None, gradient: float) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step(None if left_out is None else torch.tensor(left_out))


@pytest.mark.parametrize("first_has_no_gradient", [False, True])
def test_the_bits_are_those_of_torch(first_has_no_gradient: bool) -> None:
    one, other = models(2)
    ours = AdamW(
        [
            Group(parameters=list(one.parameters())[:1], weight_decay=0.1),
            Group(parameters=list(one.parameters())[1:], weight_decay=0.0),
        ],
        learning_rate=0.0,
        betas=(0.9, 0.95),
        eps=1e-6,
    )
    theirs = torch.optim.AdamW(
        [{"params": [other.weight]}, {"params": [other.bias], "weight_decay": 0.0}],
        lr=0.0,
        betas=(0.9, 0.95),
        eps=1e-6,
        weight_decay=0.1,
        fused=True,
    )
    for number in range(20):
        rate = 0.1 / (number + 1)
        ours.learning_rate = rate
        for group in theirs.param_groups:
            group["lr"] = rate
        gradients = [torch.randn_like(parameter) for parameter in one.parameters()]
        for model in (one, other):
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
            if first_has_no_gradient and number == 0:
                model.bias.grad = None
        ours.step()
        theirs.step()
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert ours.state[mine].keys() == theirs.state[its].keys()
        assert all(
            torch.equal(ours.state[mine][key], theirs.state[its][key]) for key in theirs.state[its]
        )
    assert ours.state[one.bias]["step"] == 20 - first_has_no_gradient


def test_an_update_left_out_changes_no_weight_moment_or_count() -> None:
    (model,) = models(1)
    optimizer = optimizer_of(model)
    step(model, optimizer, 0.0, 0.5)
    before = everything(model, optimizer)
    assert len(before) == 8
    step(model, optimizer, 1.0, math.nan)
    assert all(map(torch.equal, before, everything(model, optimizer)))
    step(model, optimizer, 0.0, 0.5)
    assert not any(map(torch.equal, before, everything(model, optimizer)))


def test_an_update_that_is_made_has_the_bits_of_one_never_judged() -> None:
    judged, plain = models(2)
    one, other = optimizer_of(judged), optimizer_of(plain)
    for gradient in (0.3, -0.7, 1e-3):
        step(judged, one, 0.0, gradient)
        step(plain, other, None, gradient)
    assert all(map(torch.equal, everything(judged, one), everything(plain, other)))
