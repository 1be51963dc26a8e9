"""A tiny model, and ranks that run a file of the tests."""

import multiprocessing
import runpy
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.model import ModelConfig
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from tests.processes import exit_codes, free_ports

SHAPE: dict[str, Any] = {
    "d_model": 12,
    "n_heads": 2,
    "n_layers": 2,
    "mlp_hidden_size": 20,
    "max_sequence_length": 16,
    "layer_norm_type": "rms",
    "attention_layer_norm": True,
    "norm_after": True,
    "weight_tying": False,
    "rope": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "include_bias": False,
    "vocab_size": 63,
    "embedding_size": 65,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
MakeModel = Callable[..., Transformer]
Ranks = Callable[..., None]


@pytest.fixture
def make_model() -> MakeModel:
    def make(**shape: Any) -> Transformer:
        model = Transformer(ModelConfig(**{**SHAPE, **shape}))
        initialise(model, seed=3)
        return model

    return make


@pytest.fixture(scope="session")
def rank_forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # once for all ranks: FSDP2, which `prepare` imports only where it shards, and the compiler
    modules = ("train.step", "parallel.prepare", "parallel.sharding")
    preload = [f"olmo_core.{module}" for module in modules]
    context.set_forkserver_preload([*preload, "torch._inductor.compile_fx"])
    return context


@pytest.fixture
def ranks(rank_forks: ForkServerContext, tmp_path: Path) -> Ranks:
    """Run `file` in `size` ranks, `local_size` of them a node, and demand that all succeed.

    The file's global `GIVEN` holds the keywords, the model's shape, and a folder.
    """

    def run(file: Path, size: int, *, local_size: int | None = None, **given: Any) -> None:
        [port] = free_ports(1)
        node = local_size or size
        processes = []
        for rank in range(size):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank % node),
                "WORLD_SIZE": str(size),
                "LOCAL_WORLD_SIZE": str(node),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            content = {"environment": environment, "shape": SHAPE, "folder": tmp_path, **given}
            arguments = (str(file), {"GIVEN": content}, "__main__")
            processes.append(rank_forks.Process(target=runpy.run_path, args=arguments))
            processes[-1].start()
        assert exit_codes(processes, 120) == [0] * size

    return run
