"""Large float32 products on a CPU against float64."""

import pytest
import torch

from olmo_core.model import linear
from olmo_core.model.linear import Linear


@pytest.mark.parametrize("large", [1, 1 << 60])
@pytest.mark.parametrize(("size", "out_size"), [(48, 96), (96, 48)])
def test_values_and_gradients(
    large: int, size: int, out_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_LARGE", large)
    generator = torch.Generator().manual_seed(0)
    layer = Linear(size, out_size)
    x = torch.randn(3, 5, size, generator=generator, requires_grad=True)
    direction = torch.randn(3, 5, out_size, generator=generator)
    y = layer(x)
    (y * direction).sum().backward()
    weight, rows = layer.weight.detach().double(), x.detach().double()
    exact = {
        "y": (y.detach(), rows @ weight.T),
        "x": (x.grad, direction.double() @ weight),
        "weight": (layer.weight.grad, direction.double().flatten(0, 1).T @ rows.flatten(0, 1)),
    }
    for ours, right in exact.values():
        assert ours is not None
        torch.testing.assert_close(ours.double(), right, rtol=1e-5, atol=1e-5)


def test_compiled_it_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` then calls the product as one operator."""
    monkeypatch.setattr(linear, "_LARGE", 1)
    layer, x = Linear(48, 96), torch.randn(15, 48)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    found: list[list[torch.Tensor | None]] = []
    for call in (layer, compiled):
        rows = x.clone().requires_grad_()
        layer.weight.grad = None
        y = call(rows)
        y.square().sum().backward()
        found.append([y.detach(), rows.grad, layer.weight.grad])
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
