"""A tiny training run: token files, a configuration, and processes that run it."""

import functools
import multiprocessing
import runpy
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from tests.processes import exit_codes, free_ports

CONFIG = """\
run_name: tiny
seed: 1
model:
  d_model: 16
  n_heads: 2
  n_layers: 2
  mlp_hidden_size: 64
  weight_tying: false
  rope: true
  attention_dropout: 0.0
  residual_dropout: 0.0
  embedding_dropout: 0.0
  include_bias: false
  layer_norm_type: rms
  layer_norm_eps: 1e-6
  attention_layer_norm: true
  norm_after: true
  max_sequence_length: 32
  vocab_size: 100
  embedding_size: 128
  eos_token_id: 0
  pad_token_id: 1
  init_cutoff_factor: 3
softmax_auxiliary_loss: true
auxiliary_loss_multiplier: 1e-5
optimizer: {name: adamw, learning_rate: 1e-2, weight_decay: 0.1, eps: 1e-8}
scheduler: {name: cosine_with_warmup, t_warmup: 3, alpha_f: 0.1, warmup_min_lr: 0}
data:
  memmap_dtype: uint16
  instance_filter: {}
max_duration: 12
stop_at: 12
global_train_batch_size: 8
device_train_microbatch_size: 2
precision: fp32
max_grad_norm: 1.0
save_interval: 4
no_pre_train_checkpoint: true
core: {order: feistel, threads: 1}
"""
STEPS = 12
DRIVER = Path(__file__).with_name("driver.py")

Start = Callable[..., BaseProcess]


@pytest.fixture(scope="session")
def token_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two files of a language that can be learned: each token has four possible successors."""
    folder = tmp_path_factory.mktemp("tokens")
    rng = np.random.default_rng(0)
    successors = rng.integers(2, 100, (100, 4))
    paths: list[str] = []
    for name in "ab":
        tokens = [2]
        for choice in rng.integers(0, 4, 4000):
            tokens.append(int(successors[tokens[-1], choice]))
        paths.append(str(folder / f"{name}.npy"))
        np.array(tokens, dtype="<u2").tofile(paths[-1])
    return paths


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory, token_files: list[str]) -> Path:
    path = tmp_path_factory.mktemp("config") / "train.yaml"
    path.write_text(CONFIG.replace("data:\n", f"data:\n  paths: {token_files}\n"))
    return path


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """Training's modules are imported once, in a server that forks the processes."""
    context = multiprocessing.get_context("forkserver")
    # the last three take seconds, and training imports them only when it shards, saves or resumes
    modules = (
        "train.run",
        "train.__main__",
        "parallel.sharding",
        "checkpoint.shards",
        "checkpoint.index",
    )
    context.set_forkserver_preload([f"olmo_core.{module}" for module in modules])
    return context


def launch(
    forks: ForkServerContext,
    config: Path,
    root: Path,
    folder: str,
    *overrides: str,
    moment: str = "",
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start training into `root / folder`; what is said is appended to `root / said.txt`."""
    given = {
        "arguments": [str(config), f"save_folder={root / folder}", *overrides],
        "moment": moment,
        "environment": dict(environment or {}),
        "said": str(root / "said.txt"),
    }
    arguments = (str(DRIVER), {"GIVEN": given}, "__main__")
    process = forks.Process(target=runpy.run_path, args=arguments)
    process.start()
    return process


@pytest.fixture(scope="session")
def start_in(forks: ForkServerContext, config_file: Path) -> Callable[[Path], Start]:
    """Start training into a folder of a root (see `launch`)."""
    return lambda root: functools.partial(launch, forks, config_file, root)


@pytest.fixture
def start(start_in: Callable[[Path], Start], tmp_path: Path) -> Start:
    """Start training into a folder of the test (see `launch`)."""
    return start_in(tmp_path)


@pytest.fixture
def ranks(start: Start) -> Callable[..., list[int | None]]:
    """Train with `size` ranks, spread over `nodes`, to the end; returns their exit codes."""

    def ranks(
        folder: str, size: int, *overrides: str, nodes: int = 1, moment: str = ""
    ) -> list[int | None]:
        [port] = free_ports(1)
        local = size // nodes
        processes = [
            start(
                folder,
                *overrides,
                moment=moment,
                environment={
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank % local),
                    "WORLD_SIZE": str(size),
                    "LOCAL_WORLD_SIZE": str(local),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                },
            )
            for rank in range(size)
        ]
        return exit_codes(processes, 120)

    return ranks


@pytest.fixture
def train(start: Start) -> Callable[..., int]:
    """Train to the end and return the exit code; negative: killed by a signal."""

    def train(folder: str, *overrides: str, moment: str = "") -> int:
        process = start(folder, *overrides, moment=moment)
        [code] = exit_codes([process], 120)
        assert code is not None
        return code

    return train


@pytest.fixture(scope="session")
def undisturbed(
    forks: ForkServerContext, config_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run that nothing happened to; read only."""
    root = tmp_path_factory.mktemp("undisturbed")
    process = launch(forks, config_file, root, "run")
    assert exit_codes([process], 120) == [0]
    return root / "run"
