"""Equal bits are asked of torch unless the configuration gives them up, and come."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from olmo_core.config.train import CoreConfig
from olmo_core.errors import ConfigError
from olmo_core.model.linear import _LARGE
from olmo_core.parallel.world import set_threads
from olmo_core.run.folder import read_metrics
from olmo_core.train.run import prepare_arithmetic


@pytest.fixture
def arithmetic() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_algorithms_are_the_configuration_s(deterministic: bool) -> None:
    assert prepare_arithmetic(CoreConfig(threads=1, deterministic=deterministic)) == 1
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("arithmetic")
def test_threads_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, threads in (("2", 2), ("1,4", 1)):  # OpenMP takes a list, a number a level
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert set_threads(None) == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    assert set_threads(1) == 1
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS is 'all'; expected a number"):
        set_threads(None)


@pytest.mark.slow
def test_fresh_processes_learn_the_same_bits_by_large_products(
    config_file: Path, tmp_path: Path
) -> None:
    instances, length, width, hidden = 4, 256, 256, 512
    assert instances * length * width * hidden >= _LARGE  # oneDNN's, with AVX2 or AVX-512
    shape = (
        f"device_train_microbatch_size={instances}",
        f"model.max_sequence_length={length}",
        f"model.d_model={width}",
        f"model.mlp_hidden_size={2 * hidden}",
        "max_duration=3",
        "scheduler.t_warmup=1",
        "stop_at=3",
        "core.threads=2",
    )
    command = (sys.executable, "-m", "olmo_core.train", str(config_file), *shape)
    one, two = (tmp_path / name for name in ("one", "two"))
    processes = [
        subprocess.Popen([*command, f"save_folder={folder}"], stderr=subprocess.PIPE, text=True)
        for folder in (one, two)
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    weights = Path("model", "model.safetensors")
    assert (one / weights).read_bytes() == (two / weights).read_bytes()
    losses = [
        [row["train/CrossEntropyLoss"] for row in read_metrics(folder / "metrics.jsonl")]
        for folder in (one, two)
    ]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3
