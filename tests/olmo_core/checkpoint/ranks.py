"""What the ranks of a test do, in processes of their own."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from olmo_core.checkpoint import shards
from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.checkpoint.load import load_state, resolve
from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.state import state_of
from olmo_core.config.load import build, load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import AdamW, Group
from olmo_core.parallel.world import World, joined

ALONE = World(device=torch.device("cpu"))
TRAIN = {"order": {"seed": 1}}


def trained(seed: int, prepare: Callable[[nn.Module], object] = lambda _: None) -> tuple[Any, Any]:
    """A small model after one update, with its optimizer; shapes that two ranks cannot halve."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(33, 65), nn.Linear(65, 7, bias=False))
    prepare(model)
    group = Group(parameters=[*model.parameters()], weight_decay=0.01)
    optimizer = AdamW([group], learning_rate=0.1)
    model(torch.ones(2, 33)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def whole(model: nn.Module, optimizer: AdamW) -> dict[str, torch.Tensor]:
    """Parameters and moments, gathered where they are sharded."""
    tensors: dict[str, Any] = {}
    for name, parameter in model.named_parameters():
        tensors[name] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{name}.{key}"] = value
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()
        for name, value in tensors.items()
    }


def run(rank: int, size: int, port: int, folder: str, task: str, answers: Any) -> None:
    """Do `task` as one rank of `size`; `answers` receives (rank, what came of it)."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World(rank=rank, size=size, local_rank=rank, device=torch.device("cpu"))
    with joined(world):
        answers.put((rank, TASKS[task](Path(folder), world)))
        dist.barrier()


def _save(folder: Path, world: World, prepare: Callable[[nn.Module], object]) -> str:
    model, optimizer = trained(1, prepare)
    saver = Saver(folder, world, asynchronous=True)
    saver.save(model, optimizer, {**TRAIN, "step": 1}, kind="sharded")
    dist.barrier()  # the training's group is used meanwhile
    expected = whole(model, optimizer)
    saver.finish()
    again, other = trained(2, prepare)
    load_state(Checkpoint(folder / "checkpoints" / "step1"), state_of(again, other.state))
    found = whole(again, other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    if world.first:
        torch.save(expected, folder / "expected.pt")
    return "ok"


def _fail_on_rank_1(folder: Path, world: World) -> str:
    model, optimizer = trained(1)
    saver = Saver(folder, world, asynchronous=True)
    saver.save(model, optimizer, {**TRAIN, "step": 1}, kind="sharded")
    saver.finish()
    if world.rank == 1:
        fail_after(1000)
    saver.save(model, optimizer, {**TRAIN, "step": 2}, kind="sharded")
    try:
        saver.finish()
    except InputError as error:
        return f"{saver.failed} {saver.whole_step} {error}"
    return "did not fail"


def _reshard(folder: Path, world: World) -> str:
    """Read what one process has written."""
    model, optimizer = trained(2, fully_shard)
    load_state(Checkpoint(folder / "checkpoints" / "step1"), state_of(model, optimizer.state))
    expected, found = torch.load(folder / "expected.pt"), whole(model, optimizer)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    return "ok"


def _weights_alone(folder: Path, world: World) -> str:
    """Read a file of whole tensors into a sharded model."""
    config = build(ModelConfig, load(folder / "config.yaml")["model"], where="model")
    model: Any = Transformer(config)
    fully_shard(model)
    resolve(str(folder), model=config, world=world).load(state_of(model, None))
    expected = load_file(folder / "model.safetensors")
    found = {name: parameter.full_tensor() for name, parameter in model.named_parameters()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    return "ok"


def _hybrid(model: nn.Module) -> object:
    """Two replicas of two shards."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    return fully_shard(model, mesh=mesh)


def fail_after(size: int) -> None:
    """Let the disk be full once a file has `size` bytes."""
    real = shards._DigestedStream.write  # pyright: ignore[reportPrivateUsage]

    def write(self: Any, content: Any) -> int:
        if self.written + len(content) > size:
            self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise self.error
        return real(self, content)

    shards._DigestedStream.write = write  # pyright: ignore[reportPrivateUsage]


TASKS: dict[str, Callable[[Path, World], str]] = {
    "replicated": lambda folder, world: _save(folder, world, lambda _: None),
    "sharded": lambda folder, world: _save(folder, world, fully_shard),
    "hybrid": lambda folder, world: _save(folder, world, _hybrid),
    "fail on rank 1": _fail_on_rank_1,
    "reshard": _reshard,
    "weights alone": _weights_alone,
}
