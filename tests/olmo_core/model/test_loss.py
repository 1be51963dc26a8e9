"""The cross-entropy in tiles and in chunks against torch's own."""

import functools
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from olmo_core.config import compute
from olmo_core.model import linear, loss


@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
@pytest.mark.parametrize(("at_once", "width"), [(1, 999), (100_000, 64), (1 << 22, 2048)])
@pytest.mark.parametrize("large", [0, 1 << 26])  # oneDNN for all products, where it is there
def test_sums_and_gradients_equal_torch(
    z_loss: float, at_once: int, width: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_LARGE", large)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    monkeypatch.setattr(loss, "_WIDTH", width)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(301, 32, generator=generator, requires_grad=True)
    weight = torch.randn(1000, 32, generator=generator, requires_grad=True)
    labels = torch.randint(0, 1000, (301,), generator=generator)
    labels[::7] = -100
    total, ce, z = loss.cross_entropy(hidden, weight, labels, z_loss=z_loss)
    (0.5 * total).backward()

    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    logits = h @ w.T
    plain = F.cross_entropy(logits, labels, reduction="sum")
    squares = z_loss * (logits.logsumexp(1).square() * (labels >= 0)).sum()
    (0.5 * (plain + squares)).backward()
    torch.testing.assert_close(ce.double(), plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(z.double(), squares, rtol=1e-6, atol=0)
    torch.testing.assert_close(total.double(), plain + squares, rtol=1e-6, atol=0)
    for ours, theirs in ((hidden.grad, h.grad), (weight.grad, w.grad)):
        assert ours is not None
        assert theirs is not None
        assert (ours - theirs).norm() / theirs.norm() < 1e-6


def test_logits_far_apart_neither_overflow_nor_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "_WIDTH", 2)
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[-1e4], [300.0], [299.0], [-300.0], [1e-3]], requires_grad=True)
    labels = torch.tensor([3])
    loss.cross_entropy(hidden, weight, labels)[0].backward()
    logits = (hidden.detach() @ weight.detach().T).requires_grad_()
    plain = F.cross_entropy(logits, labels)
    plain.backward()
    assert logits.grad is not None
    torch.testing.assert_close(weight.grad, logits.grad.T)
    torch.testing.assert_close(loss.cross_entropy(hidden, weight, labels)[0], plain)


@pytest.mark.parametrize(
    ("chunk", "compiled"), [(1, False), (150_000, False), (150_000, True), (1 << 22, False)]
)
def test_chunks_in_bfloat16_are_near_float32(
    chunk: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "BF16_LOGITS_AT_ONCE", chunk)
    traced = torch.compile(loss._gradient, backend="aot_eager")  # inductor's start takes seconds
    monkeypatch.setattr(loss, "_compiled_gradient", lambda: traced)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(301, 32, generator=generator, requires_grad=True)
    weight = torch.randn(1000, 32, generator=generator, requires_grad=True)
    labels = torch.randint(0, 1000, (301,), generator=generator)
    labels[::7] = -100
    exact, exact_ce, exact_z = loss.cross_entropy(hidden, weight, labels, z_loss=1e-3)
    wanted = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, ce, z = loss.cross_entropy(hidden, weight, labels, z_loss=1e-3, compiled=compiled)
    torch.testing.assert_close((ce, z), (exact_ce, exact_z), rtol=1e-3, atol=0)
    for ours, right in zip(torch.autograd.grad(total, (hidden, weight)), wanted, strict=True):
        assert (ours - right).norm() / right.norm() < 1e-2


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_head_s_gradient_is_rounded_once_whatever_the_chunks(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exact as the products of the bfloat16 gradient of the logits are in float64."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(256, 32, generator=generator).bfloat16().to(device)
    weight = torch.randn(1000, 32, generator=generator).bfloat16().to(device)
    master = weight.float().requires_grad_()
    labels = torch.randint(0, 1000, (256,), generator=generator).to(device)
    softmax = (hidden @ weight.T).double().softmax(dim=1)
    of_logits = (softmax - F.one_hot(labels, 1000)).bfloat16().double()
    exact = of_logits.T @ hidden.double()
    for rows in (1, 8, 256):
        monkeypatch.setattr(compute, "BF16_LOGITS_AT_ONCE", rows * 1000)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss.cross_entropy(hidden, master, labels)[0].backward()
        assert master.grad is not None
        assert (master.grad - exact).norm() / exact.norm() < 1e-5, rows
        master.grad = None


@pytest.mark.parametrize(("tokens", "shapes"), [(512, 1), (500, 2), (64, 1)])
def test_a_step_s_chunks_compile_once_a_shape(
    tokens: int, shapes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(compute, "BF16_LOGITS_AT_ONCE", 190 * 300)  # 128 rows at a time
    compile_ = functools.partial(torch.compile, backend="aot_eager")  # inductor takes seconds
    monkeypatch.setattr(loss.torch, "compile", compile_)
    loss._compiled_gradient.cache_clear()
    hidden = torch.randn(tokens, 16, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(300, 16, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(0, 300, (tokens,))
    for _ in range(2):
        loss.cross_entropy(hidden, weight, labels, compiled=True)[0].backward()
    loss._compiled_gradient.cache_clear()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == shapes


class _Multiplications(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.mul.Tensor
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_that_nothing_scales_multiplies_no_gradient(dtype: torch.dtype) -> None:
    hidden, weight = (torch.randn(size, 8).to(dtype).requires_grad_() for size in (64, 50))

    def backward(scale: torch.Tensor | None) -> tuple[int, list[torch.Tensor]]:
        hidden.grad = weight.grad = None
        total = loss.cross_entropy(hidden, weight, torch.arange(64) % 50)[0]
        with _Multiplications() as multiplied:
            total.backward(scale)
        return multiplied.count, [x.grad for x in (hidden, weight) if x.grad is not None]

    none, plain = backward(loss.one(hidden.device))
    both, same = backward(None)  # the 1 that autograd makes is another one
    _, twice = backward(torch.tensor(2.0))
    assert (none, both) == (0, 2)
    for gradient, equal, double in zip(plain, same, twice, strict=True):
        assert torch.equal(gradient, equal)
        assert torch.equal(2 * gradient, double)


def test_without_a_gradient_none_is_made() -> None:
    hidden, weight = torch.randn(10, 4), torch.randn(50, 4)
    labels = torch.arange(10)
    total, _, _ = loss.cross_entropy(hidden, weight, labels)
    assert not total.requires_grad
    torch.testing.assert_close(total, F.cross_entropy(hidden @ weight.T, labels, reduction="sum"))


def test_labels_that_do_not_count_at_all_give_zero() -> None:
    hidden = torch.randn(10, 4, requires_grad=True)
    weight = torch.randn(50, 4, requires_grad=True)
    total, _, _ = loss.cross_entropy(hidden, weight, torch.full((10,), -100))
    total.backward()
    assert total.item() == 0
    for gradient in (hidden.grad, weight.grad):
        assert gradient is not None
        assert float(gradient.abs().max()) == 0
