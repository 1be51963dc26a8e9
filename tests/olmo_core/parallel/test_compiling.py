"""Blocks compile alone: the same numbers and names, and few graphs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._inductor import config as inductor

from olmo_core.config.placement import CompileConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.prepare import compile_blocks

CPU = torch.device("cpu")
LAYERS = 10  # more than the graphs (8) that torch keeps of one function before it gives up
MakeModel = Callable[..., Transformer]


def gradients(of: Transformer) -> list[torch.Tensor]:
    for rows in (4, 4, 1):  # whole microbatches, and a shorter last one
        ids = torch.arange(rows * 16).view(rows, 16) % 63
        of(ids).square().sum().backward()
    return [parameter.grad for parameter in of.parameters() if parameter.grad is not None]


def test_all_blocks_share_one_graph_a_shape_and_compute_the_same(make_model: MakeModel) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = make_model(n_layers=LAYERS), make_model(n_layers=LAYERS)
    compile_blocks(compiled, CompileConfig(backend="aot_eager", fullgraph=True), CPU)
    for ours, theirs in zip(gradients(compiled), gradients(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in compiled.named_parameters()] == names
    assert list(compiled.state_dict()) == names


@pytest.mark.parametrize("mode", ["error", "default"])
def test_the_compiler_is_as_deterministic_as_the_run(mode: str, make_model: MakeModel) -> None:
    torch.set_deterministic_debug_mode(mode)
    try:
        compile_blocks(make_model(), CompileConfig(backend="aot_eager"), CPU)
        assert torch.are_deterministic_algorithms_enabled() is (mode == "error")
        assert inductor.deterministic is (mode == "error")
    finally:
        torch.use_deterministic_algorithms(False)


def test_without_a_c_compiler_the_message_says_so(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler, and .*g\+\+ is not found"):
        compile_blocks(make_model(), CompileConfig(), CPU)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CompileConfig(backend="indutcor"), "compile: Invalid backend: 'indutcor'"),
        (CompileConfig(mode="fast"), "compile: Unrecognized mode=fast"),
    ],
)
def test_what_torch_does_not_have_is_refused_before_the_first_step(
    config: CompileConfig, message: str, make_model: MakeModel
) -> None:
    with pytest.raises(ConfigError, match=message):
        compile_blocks(make_model(), config, CPU)
