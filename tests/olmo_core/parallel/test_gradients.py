"""The one buffer of gradients: clipping as torch's, views that autograd adds into, and slices.

Two and four ranks reduce it while the backward pass goes on (`check_replicated` of rank.py).
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn

from olmo_core.parallel.gradients import ReplicatedGradients
from olmo_core.parallel.world import World


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3, bias=False))


@pytest.mark.parametrize("max_norm", [None, 0.01, 100.0])
def test_mean_and_clipping_equal_torch(max_norm: float | None) -> None:
    ours, theirs = model(), copy.deepcopy(model())
    batches = [torch.randn(4, 5) for _ in range(3)]
    gradients = ReplicatedGradients(ours.parameters(), sums=2)
    gradients.zero()
    for batch in batches:
        loss = ours(batch).square().sum()
        loss.backward()
        gradients.sums[0] += loss.detach()
    total = torch.stack([theirs(batch).square().sum() for batch in batches]).sum()
    (total / 12).backward()
    norm = gradients.normalise(torch.tensor(12.0), max_norm)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm or float("inf"))
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(gradients.sums[0], total.detach())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_a_new_step_forgets_the_last() -> None:
    ours = model()
    gradients = ReplicatedGradients(ours.parameters(), sums=1)
    ours(torch.ones(1, 5)).sum().backward()
    gradients.sums[0] = 3
    gradients.zero()
    assert not gradients.buffer.any()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_one_rank_listens_to_no_backward_pass() -> None:
    ours = model()
    ReplicatedGradients(ours.parameters(), sums=1)
    assert all(parameter._post_accumulate_grad_hooks is None for parameter in ours.parameters())


@pytest.mark.parametrize("unused", [0, 1, 2])
def test_slices_are_sent_once_in_one_order_whatever_a_backward_pass_leaves_out(
    unused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one rank's microbatch does not reach a parameter."""
    sent: list[tuple[int, int]] = []

    def noting(part: torch.Tensor, *, async_op: bool) -> None:
        assert async_op
        sent.append((int(part.storage_offset()), len(part)))

    monkeypatch.setattr(dist, "all_reduce", noting)
    monkeypatch.setattr("olmo_core.parallel.gradients._SLICE", 1)  # one per parameter
    weights = [nn.Parameter(torch.ones(size)) for size in (3, 5, 2)]
    gradients = ReplicatedGradients(weights, sums=2, ranks=2)
    expected = [(72, 2), (67, 5), (64, 3), (0, 64)]
    for last in (False, True, True):
        gradients.accumulate(last=last)
        sum(w.sum() for i, w in enumerate(weights) if i != unused).backward()  # pyright: ignore
        behind = len(weights) - 1 - unused
        assert sent == (expected[:behind] if last else [])
        if last:
            gradients.reduce(World(size=2, local_size=2, device=torch.device("cpu")))
            assert sent == expected
            sent.clear()


@pytest.mark.parametrize("size", [2, 4])
def test_slices_are_sent_in_one_order_while_the_backward_pass_goes_on(
    size: int, ranks: Callable[..., None]
) -> None:
    cases = [
        {},
        {"shape": {"weight_tying": True}, "activation_checkpointing": "one_in_two"},
        {"compile": True, "activation_checkpointing": "whole_layer", "documents": True},
    ]
    ranks(Path(__file__).with_name("rank.py"), size, cases=cases)
