"""Blocks compile alone: the same numbers and names, few graphs, and the same bits again."""

from pathlib import Path

import pytest
import torch

from olmo_core.config.compute import CompileConfig
from olmo_core.config.load import ConfigError
from olmo_core.config.model import ModelConfig
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.compiling import compile_blocks

CPU = torch.device("cpu")
LAYERS = 10  # more than the graphs (8) that torch keeps of one function before it gives up


def model() -> Transformer:
    config = ModelConfig(
        d_model=16, n_heads=2, n_layers=LAYERS, mlp_hidden_size=64, max_sequence_length=16,
        layer_norm_type="rms", attention_layer_norm=True, norm_after=True, weight_tying=False,
        rope=True, attention_dropout=0.0, residual_dropout=0.0, embedding_dropout=0.0,
        include_bias=False, vocab_size=64, embedding_size=64,
    )  # fmt: skip
    made = Transformer(config)
    initialise(made, seed=3)
    return made


def gradients(of: Transformer) -> list[torch.Tensor]:
    for rows in (4, 4, 1):  # whole microbatches, and a shorter last one
        ids = torch.arange(rows * 16).view(rows, 16) % 64
        of(ids).square().sum().backward()
    return [parameter.grad for parameter in of.parameters() if parameter.grad is not None]


def test_all_blocks_share_one_graph_a_shape_and_compute_the_same() -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = model(), model()
    compile_blocks(compiled, CompileConfig(backend="aot_eager", fullgraph=True), CPU)
    for ours, theirs in zip(gradients(compiled), gradients(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2
    assert counters["frames"]["ok"] == counters["frames"]["total"]
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in compiled.named_parameters()] == names
    assert list(compiled.state_dict()) == names


def test_without_a_c_compiler_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler, and .*g\+\+ is not found"):
        compile_blocks(model(), CompileConfig(), CPU)
