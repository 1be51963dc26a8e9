"""Recomputed blocks: the layers that OLMo means, the same bits, and less memory."""

import collections
from collections.abc import Callable
from typing import Any, cast, get_args

import pytest
import torch
from torch import nn
from torch.nn.attention.varlen import varlen_attn
from torch.utils._python_dispatch import TorchDispatchMode

from olmo_core.config.compute import ActivationCheckpointing
from olmo_core.config.placement import CompileConfig
from olmo_core.model import linear
from olmo_core.model.loss import cross_entropy
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.prepare import _KEPT, checkpoint_activations, compile_blocks

MakeModel = Callable[..., Transformer]
LAYERS = {
    "whole_layer": [0, 1, 2, 3, 4, 5, 6, 7, 8],
    "one_in_two": [0, 2, 4, 6, 8],
    "one_in_three": [0, 3, 6],
    "one_in_four": [0, 4, 8],
    "one_in_eight": [0, 8],
    "two_in_three": [1, 2, 4, 5, 7, 8],
    "three_in_four": [1, 2, 3, 5, 6, 7],
    "fine_grained": [0, 1, 2, 3, 4, 5, 6, 7, 8],
}
IDS = torch.arange(4 * 16).view(4, 16) * 7 % 63


def learn(model: Transformer) -> tuple[int, list[torch.Tensor]]:
    """Bytes that the forward leaves for the backward; and the loss and gradients."""
    with torch.profiler.profile(profile_memory=True) as profile:
        hidden = model.hidden(IDS).flatten(0, 1)
    held = sum(event.self_cpu_memory_usage for event in profile.key_averages())
    loss, _, _ = cross_entropy(hidden, model.lm_head.weight, IDS.flatten())
    loss.backward()
    return held, [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("strategy", get_args(ActivationCheckpointing))
def test_the_layers_meant_are_computed_again_to_the_same_bits(
    strategy: ActivationCheckpointing, make_model: MakeModel
) -> None:
    plain, model = make_model(n_layers=9), make_model(n_layers=9)
    computed: collections.Counter[int] = collections.Counter()
    for layer, block in enumerate(model.blocks):
        cast(nn.Module, block.feed_forward).register_forward_pre_hook(
            lambda *_, layer=layer: computed.update([layer])
        )
    checkpoint_activations(model, strategy)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    (held, ours), (before, theirs) = learn(model), learn(plain)
    assert [layer for layer, times in computed.items() if times == 2] == LAYERS[strategy]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    kept = 0.55 if strategy == "fine_grained" else 1 - 0.9 * len(LAYERS[strategy]) / 9
    assert held < kept * before


class Products(TorchDispatchMode):
    """Counts the matrix products that are computed, not those taken from what was kept."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.name() in ("aten::mm", "olmo_core::matmul", "mkldnn::_linear_pointwise")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("large", [1, 1 << 60])
def test_fine_grained_computes_no_product_again(
    large: int, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_LARGE", large)  # 1: oneDNN's, where it is called at all
    counts: list[int] = []
    for strategy in (None, "fine_grained", "whole_layer"):
        model = make_model()
        if strategy is not None:
            checkpoint_activations(model, strategy)
        with Products() as products:
            model.hidden(IDS).square().sum().backward()
        counts.append(products.count)
    plain, fine_grained, whole_layer = counts
    assert fine_grained == plain < whole_layer


def test_compiled_it_is_one_graph_and_the_same_numbers(make_model: MakeModel) -> None:
    plain = make_model(n_layers=9)
    _, expected = learn(plain)
    for strategy in ("whole_layer", "fine_grained"):
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        model = make_model(n_layers=9)
        checkpoint_activations(model, strategy)
        config = CompileConfig(backend="aot_eager", fullgraph=True)
        compile_blocks(model, config, torch.device("cpu"))
        _, found = learn(model)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_every_operator_that_fine_grained_keeps_is_one() -> None:
    assert varlen_attn is not None  # makes its operator
    names = {name for name in _KEPT if not name.startswith("mkldnn::")}  # not in every build
    assert len(names) > 9
    for namespace, name in (each.split("::") for each in names):
        assert getattr(getattr(torch.ops, namespace), name).default.name() in _KEPT
